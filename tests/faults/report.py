"""Runs every fault so many times and writes what came of it: `python -m tests.faults.report --times 10`."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from tests.faults.machine import machine

_FOLDER = Path(__file__).parent
_TARGET = _FOLDER.parents[1] / "docs" / "faults-report.md"


@dataclass
class Tally:
    """The runs of one case."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def run_once(tallies: dict[str, Tally]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", str(_FOLDER), "-q", f"--junitxml={target}"]
        subprocess.run(command, check=False)
        for name, seconds, failure in _cases(target):
            tally = tallies.setdefault(name, Tally())
            tally.seconds.append(seconds)
            if failure:
                tally.failed.append(failure)


def _cases(junit: Path) -> Iterator[tuple[str, float, str]]:
    """Name, seconds and, if it failed, the first line that says why."""
    for case in ElementTree.parse(junit).iter("testcase"):
        failure = next((found for kind in ("failure", "error") if (found := case.find(kind)) is not None), None)
        why = "" if failure is None else (failure.get("message") or "failed").splitlines()[0]
        yield case.get("name", ""), float(case.get("time", 0)), why


def as_markdown(tallies: Mapping[str, Tally], times: int) -> str:
    rows = [
        f"| `{name}` | {len(tally.seconds) - len(tally.failed)} of {len(tally.seconds)} "
        f"| {statistics.median(tally.seconds):.1f} | {max(tally.seconds):.1f} |"
        for name, tally in tallies.items()
    ]
    failures = [f"- `{name}`: {why}" for name, tally in tallies.items() for why in tally.failed]
    return "\n".join(
        [
            "# Faults, run after run",
            "",
            f"Written by `make faults TIMES={times}` on {datetime.now(UTC):%Y-%m-%d}, {machine()}.",
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
    times = parser.parse_args().times
    tallies: dict[str, Tally] = {}
    for _ in range(times):
        run_once(tallies)
        _TARGET.write_text(as_markdown(tallies, times))
    print(f"written to {_TARGET}")  # noqa: T201
    return 1 if any(tally.failed for tally in tallies.values()) or not tallies else 0


if __name__ == "__main__":
    sys.exit(main())
