"""Recording rules and alerts as typed records, with the series on which an alert is tested."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["page", "ticket"]

_LABEL = re.compile(r"\{\{ \$labels\.(\w+) \}\}")


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording rule."""

    record: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """A promtool test of one alert: input series and the times at which it is looked at.

    Attributes:
        title: what the series show.
        series: values in promtool's notation, one a minute, by series.
        quiet_m: minutes at which the alert does not fire.
        fires: the labels of the firing alerts, besides name and severity, by minute.
    """

    title: str
    series: Mapping[str, str]
    quiet_m: Sequence[int] = ()
    fires: Mapping[int, Sequence[Mapping[str, str]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert with its runbook and its tests.

    Attributes:
        name: the page `runbooks/<name>.md` has the same one.
        severity: `page` is urgent at night; `ticket` is for working hours.
        lasts: how long the expression holds before the alert fires.
        summary: one line that names the thing by its labels.
        description: what it means, in a sentence.
        cases: at least one in which it fires and resolves, and one in which it never fires.
    """

    name: str
    severity: Severity
    lasts: str
    expr: str
    summary: str
    description: str
    cases: Sequence[Case]
    labels: Mapping[str, str] = field(default_factory=dict)

    def annotations(self, runbooks: str) -> dict[str, str]:
        """Returns the annotations, with templates for labels."""
        return {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": f"{runbooks}/{self.name}.md",
        }

    def annotations_of(self, labels: Mapping[str, str], runbooks: str) -> dict[str, str]:
        """Returns the annotations of an alert that fires with these labels."""
        return {
            name: _LABEL.sub(lambda match: labels.get(match[1], ""), text)
            for name, text in self.annotations(runbooks).items()
        }
