"""Strikes one plane with random faults for a given time: `python -m tests.faults.soak --minutes 30 --seed 7`.

The same seed strikes with the same faults in the same order; when they strike is up to the machine. After each one
everything is settled and audited, and the audit covers all events since the beginning.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.check import check
from tests.faults.faults import FAULTS, Case
from tests.faults.ground import standing
from tests.faults.machine import commit, machine
from tests.faults.process import PlaneProcess
from tests.faults.stream import Stream

_TARGET = Path(__file__).parents[2] / "docs" / "soak-report.md"


@dataclass(frozen=True)
class Round:
    """One fault, how long it and the recovery took, and the events that the audit after it covered."""

    fault: str
    seconds: float
    events: int


def soak(minutes: float, seed: int) -> tuple[list[Round], str]:
    """The rounds that balanced, and what went wrong in the one after them; empty if nothing did."""
    rng = random.Random(seed)
    rounds: list[Round] = []
    with standing() as ground:
        settings = ground.settings("soak")
        case = Case(ground, PlaneProcess(ground, settings), Stream(settings, seed))
        case.plane.start()
        try:
            ends_s = time.monotonic() + minutes * 60
            while time.monotonic() < ends_s:
                name = rng.choice(list(FAULTS))
                began_s = time.monotonic()
                try:
                    FAULTS[name](case)
                    case.plane.settle()
                    check(case.stream)
                except AssertionError as exc:
                    return rounds, f"{name}: {exc}"
                rounds.append(Round(name, time.monotonic() - began_s, case.stream.produced))
                print(f"{rounds[-1].seconds:6.1f} s  {name}, {case.stream.produced} events balance", flush=True)  # noqa: T201
        finally:
            case.plane.close()
    return rounds, ""


def as_markdown(rounds: Sequence[Round], failure: str, minutes: float, seed: int) -> str:
    events = rounds[-1].events if rounds else 0
    verdict = f"Not balanced: {failure}" if failure else "Every audit balanced."
    return "\n".join(
        [
            "# Soak",
            "",
            f"Written by `make soak MINUTES={minutes:g} SEED={seed}` on {datetime.now(UTC):%Y-%m-%d}, at commit "
            f"{commit()}, {machine()}.",
            f"{len(rounds)} faults struck one plane, {events:,} events flowed. {verdict}",
            "",
            "| fault | seconds | events so far |",
            "|---|---|---|",
            *(f"| `{round_.fault}` | {round_.seconds:.1f} | {round_.events:,} |" for round_ in rounds),
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rounds, failure = soak(arguments.minutes, arguments.seed)
    _TARGET.write_text(as_markdown(rounds, failure, arguments.minutes, arguments.seed))
    print(f"written to {_TARGET}" + (f"; {failure}" if failure else ""))  # noqa: T201
    return 1 if failure or not rounds else 0


if __name__ == "__main__":
    sys.exit(main())
