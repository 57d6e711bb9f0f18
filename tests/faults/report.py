"""Runs every fault a number of times and writes a report: `python -m tests.faults.report --times 10`."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from tests.faults.ground import STORE
from tests.faults.machine import commit, machine

_FOLDER = Path(__file__).parent
_TARGETS = {
    store: _FOLDER.parents[1] / "docs" / name
    for store, name in (("lite", "faults-report.md"), ("milvus", "faults-report-milvus.md"))
}
_NAMES = {"lite": "Milvus Lite", "milvus": "Milvus 2.3.5"}


@dataclass
class Tally:
    """The runs of one case."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def run_once(number: int, store: str) -> list[tuple[str, float, str]]:
    """All cases once, in a pytest of their own; its output comes when it is over."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", str(_FOLDER), "-q", "--disable-warnings", f"--junitxml={target}"]
        env = {**os.environ, STORE: store}
        done = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
        )
        print(f"--- run {number}\n{done.stdout}", flush=True)  # noqa: T201
        return list(_cases(target))


def _cases(junit: Path) -> Iterator[tuple[str, float, str]]:
    """Name, seconds and, if it failed, the first line that says why."""
    for case in ElementTree.parse(junit).iter("testcase"):
        failure = next((element for kind in ("failure", "error") if (element := case.find(kind)) is not None), None)
        why = "" if failure is None else (failure.get("message") or "failed").splitlines()[0]
        yield case.get("name", ""), float(case.get("time", 0)), why


def as_markdown(tallies: Mapping[str, Tally], ended: int, times: int, jobs: int, store: str) -> str:
    rows = [
        f"| `{name}` | {len(tally.seconds) - len(tally.failed)} of {len(tally.seconds)} "
        f"| {statistics.median(tally.seconds):.1f} | {max(tally.seconds):.1f} |"
        for name, tally in tallies.items()
    ]
    failures = [f"- `{name}`: {why}" for name, tally in tallies.items() for why in tally.failed]
    return "\n".join(
        [
            f"# Faults, run after run, on {_NAMES[store]}",
            "",
            f"Written by `make faults TIMES={times} JOBS={jobs} STORE={store}` on {datetime.now(UTC):%Y-%m-%d} "
            f"at commit {commit()}, {machine()}. {ended} of {times} rounds have ended.",
            "Each case sends at least 500 events, strikes while they flow, waits until all are settled and audits.",
            "No case is tried a second time. [faults.md](faults.md) says what each one does.",
            "",
            "| case | passed | median s | longest s |",
            "|---|---|---|---|",
            *rows,
            "",
            *(failures or ["No failure."]),
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="concurrent runs; they wait most of their time")
    parser.add_argument("--store", choices=list(_TARGETS), default="lite", help="the store under test")
    arguments = parser.parse_args()
    commit()  # cached before a report changes the checkout
    target = _TARGETS[arguments.store]
    tallies: dict[str, Tally] = {}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = [pool.submit(run_once, number, arguments.store) for number in range(1, arguments.times + 1)]
        for done in as_completed(runs):
            for name, seconds, failure in done.result():
                tally = tallies.setdefault(name, Tally())
                tally.seconds.append(seconds)
                if failure:
                    tally.failed.append(failure)
            ended = sum(run.done() for run in runs)
            target.write_text(as_markdown(tallies, ended, arguments.times, arguments.jobs, arguments.store))
    print(f"written to {target}")  # noqa: T201
    return 1 if any(tally.failed for tally in tallies.values()) or not tallies else 0


if __name__ == "__main__":
    sys.exit(main())
