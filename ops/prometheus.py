"""The series of a panel's query over a time, from a Prometheus."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

_GRAFANA: Final = {"$__rate_interval": "1m", "$__range": "1h"}
_EVERY: Final = {**_GRAFANA, **dict.fromkeys(("$cluster", "$namespace", "$job", "$node"), ".*")}
_LABEL = re.compile(r"{{\s*(\w+)\s*}}")


@dataclass(frozen=True, slots=True)
class Span:
    """A time.

    Attributes:
        start, end: in s since 1970.
        step_s: between two values of a series.
    """

    start: float
    end: float
    step_s: float


@dataclass(frozen=True, slots=True)
class Series:
    """A series of values.

    Attributes:
        labels: as Prometheus returns them.
        times: in s since 1970.
        values: None where it is not finite.
    """

    labels: Mapping[str, str]
    times: Sequence[float]
    values: Sequence[float | None]


def with_variables(expression: str, values: Mapping[str, str] | None = None) -> str:
    """Returns a query as Grafana sends it, by default with all values of each variable."""
    known = {**_EVERY, **(values or {})}
    for name in sorted(known, key=len, reverse=True):
        expression = expression.replace(name, known[name])
    return expression


def series_name(legend: str, labels: Mapping[str, str]) -> str:
    """Returns what a legend such as `{{topic}}` becomes for a series, as Grafana does it."""
    return _LABEL.sub(lambda label: labels.get(label.group(1), ""), legend)


class Prometheus:
    """A Prometheus at an address.

    Errors:
        httpx.HTTPError: it cannot be reached, or refuses a query.
    """

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30)

    def series(self, expression: str, span: Span) -> Sequence[Series]:
        """Returns the series of a query over a time."""
        parameters = {"query": expression, "start": str(span.start), "end": str(span.end), "step": str(span.step_s)}
        response = self._client.get("/api/v1/query_range", params=parameters).raise_for_status()
        return [_series(result) for result in response.json()["data"]["result"]]


def _series(result: dict[str, Any]) -> Series:
    times, texts = zip(*result["values"], strict=True)
    return Series(result["metric"], times, [_finite(text) for text in texts])


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None
