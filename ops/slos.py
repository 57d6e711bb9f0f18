"""The objectives in slo.toml, as typed records."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SLO_FILE = Path(__file__).with_name("slo.toml")


@dataclass(frozen=True, slots=True)
class Slo:
    """A service level objective.

    Attributes:
        name: as in the label `slo`.
        title, description: shown to operators.
        objective: the share of good events, 0 to 1.
        bad, total: PromQL of bad and of all events per second, with `{window}` for the range.
        worst_of: a recorded share of errors that counts as well; empty if there is none.
    """

    name: str
    title: str
    description: str
    objective: float
    bad: str
    total: str
    worst_of: str = ""

    @property
    def budget(self) -> float:
        """Returns the share of events that may be bad, 0 to 1."""
        return round(1 - self.objective, 6)

    def error(self, window: str) -> str:
        """Returns PromQL of the share of bad events over a window such as `5m`.

        A status that never occurred has no series, so its rate counts as zero; without any events there is no share.
        """
        bad, total = (expression.strip().replace("{window}", window) for expression in (self.bad, self.total))
        share = f"(\n  ({bad})\n  or 0 * {total}\n)\n/ (\n  {total}\n  > 0\n)"
        if not self.worst_of:
            return share
        worst = f"avg_over_time({self.worst_of}[{window}])"
        return (
            "max by (cluster, namespace) (\n"
            f'label_replace(\n{share}\n, "source", "events", "", "")\n'
            f'or label_replace({worst}, "source", "canary", "", "")\n)'
        )


@dataclass(frozen=True, slots=True)
class Objectives:
    """All objectives, and what their alerts share.

    Attributes:
        runbooks: the address below which runbooks are published, or their folder in the repository.
        period_days: the days over which an error budget lasts.
    """

    runbooks: str
    period_days: int
    slos: Sequence[Slo]

    @property
    def publishes_runbooks(self) -> bool:
        """Whether a browser can follow a link to a runbook."""
        return self.runbooks.startswith(("http://", "https://"))

    def named(self, name: str) -> Slo:
        """Returns the objective of this name."""
        return next(slo for slo in self.slos if slo.name == name)


def read_objectives(path: Path = SLO_FILE) -> Objectives:
    """Reads the objectives from a TOML file."""
    read = tomllib.loads(path.read_text(encoding="utf-8"))
    return Objectives(read["runbooks"], read["period_days"], tuple(Slo(**slo) for slo in read["slo"]))
