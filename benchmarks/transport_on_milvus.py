"""The transport's events per second into a real Milvus 2.3.5, which this starts and stops; or how fresh they are.

    python -m benchmarks.transport_on_milvus
    python -m benchmarks.transport_on_milvus --measure freshness

What is measured is that of `penstock bench ingest --model null --measure … --store-uri …`; only the server is added,
from the binary that the tests use (PyPI's `milvus`, Linux on x86-64). It shares the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks.ingest import IngestMeasure, IngestPlan, bench_ingest
from tests.store.servers import milvus_standalone


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=10_000, help="of a round")
    parser.add_argument(
        "--measure",
        choices=[IngestMeasure.TRANSPORT.value, IngestMeasure.FRESHNESS.value],
        default=IngestMeasure.TRANSPORT.value,
    )
    arguments = parser.parse_args()
    with milvus_standalone() as server:
        plan = IngestPlan(
            "null",
            frozenset({IngestMeasure(arguments.measure)}),
            rounds=arguments.rounds,
            transport_events=arguments.events,
            store_uri=server.uri,
        )
        figures = bench_ingest(plan, lambda line: print(line, file=sys.stderr, flush=True))
    reported = {name: value for name, value in figures.items() if value is not None}
    print(json.dumps(reported, indent=2, default=str))
    return 0


if __name__ == "__main__":
    sys.exit(main())
