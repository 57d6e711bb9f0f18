"""`penstock bench query` on Milvus Lite and on an embedded Milvus 2.3.5, which this starts and stops, side by side.

    python -m benchmarks.query_on_stores
    python -m benchmarks.query_on_stores --steps
    python -m benchmarks.query_on_stores --only milvus --entries 200000 --clients 1

The embedded Milvus is the binary that the tests use (PyPI's `milvus`, Linux on x86-64). It shares the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks.cli import query_table
from benchmarks.query import QueryPlan, bench_query
from penstock.cli.render import print_table
from tests.store.servers import milvus_standalone


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--steps", action="store_true", help="each step on and off, instead of the parts")
    parser.add_argument("--only", choices=("lite", "milvus"), help="one of the two; default both")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    def bench(store_uri: str | None) -> None:
        plan = QueryPlan(
            entries=arguments.entries,
            clients=tuple(arguments.clients),
            rounds=arguments.rounds,
            seconds=arguments.seconds,
            store_uri=store_uri,
            steps=arguments.steps,
        )
        figures = bench_query(plan, lambda line: print(line, file=sys.stderr, flush=True))
        if arguments.json:
            print(json.dumps(figures, indent=2, default=str))
            return
        print(f"{figures['entries']:,} entries in {figures['store']}")
        print_table(query_table(figures["rows"], steps=plan.steps))

    if arguments.only != "milvus":
        bench(None)
    if arguments.only != "lite":
        with milvus_standalone() as server:
            bench(server.uri)
    return 0


if __name__ == "__main__":
    sys.exit(main())
