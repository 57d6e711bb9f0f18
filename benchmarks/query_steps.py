"""The kinds of requests by which `penstock bench query --steps` switches the steps of a search on and off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from benchmarks.components import Component
from benchmarks.statistics import median, quantile
from penstock.serve.schemas.search_request import SearchBody

Search: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any]]

EMPTY = "empty route"
PLAIN = "steps off"
# What switches the optional steps of a search off. Methods other than ranks need scores of earlier questions or labels.
_OFF: Mapping[str, Any] = {
    "understand": {"spelling": "off", "synonyms": False, "rewrite": False},
    "route": "all",
    "fuse": {"method": "rrf"},
    "rerank": {"model": "off"},
}


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The answers of one load level over a period.

    Attributes:
        took_ms: of each answer, milliseconds.
        took_s: the while, seconds.
        cpu_s: CPU seconds of that period, by component.
    """

    took_ms: Sequence[float]
    took_s: float
    cpu_s: Mapping[Component, float] = field(default_factory=dict)

    @property
    def p50_ms(self) -> float:
        return quantile(self.took_ms, 0.5)

    @property
    def p95_ms(self) -> float:
        return quantile(self.took_ms, 0.95)

    @property
    def per_s(self) -> float:
        return len(self.took_ms) / self.took_s


@dataclass(frozen=True, slots=True)
class RequestKind:
    """A kind of request, sent with a new question each time.

    Attributes:
        fields: of each request, beside its text.
        page: the page that is measured: the first, or the second, whose cursor an unmeasured request fetches once.
        repeated: whether the question stays the same, so that its vector is cached.
    """

    fields: Mapping[str, Any]
    page: int = 1
    repeated: bool = False
    known: dict[str, Any] = field(default_factory=dict)

    def send(self, search: Search, question: Callable[[], str]) -> None:
        """Sends one request and waits for its answer."""
        if self.page == 1 and not self.repeated:
            search({**self.fields, "text": question()})
            return
        if not self.known:
            self.known["text"] = question()
            if self.page > 1:
                self.known["cursor"] = search({**self.fields, **self.known})["next_cursor"]
        search({**self.fields, **self.known})


def requests_by_step() -> dict[str, RequestKind]:
    """Returns the kinds of requests by name, of the steps that this version has."""
    has = SearchBody.model_fields
    off = {name: value for name, value in _OFF.items() if name in has}
    kinds = {PLAIN: RequestKind(off), "defaults": RequestKind({})}
    for name, steps in {"understand": ["understand"], "route": ["route"], "fuse, relevance": ["fuse"]}.items():
        if has.keys() >= set(steps):
            kinds[name] = RequestKind({step: value for step, value in off.items() if step not in steps})
    further: Mapping[str, Mapping[str, Any]] = {
        "rerank": {"rerank": {"model": "auto"}},
        "group_by asset": {"group_by": "asset"},
        "diversify": {"diversify": {"lambda": 0.7}},
        "explain": {"explain": True},
    }
    kinds |= {name: RequestKind(fields) for name, fields in further.items() if has.keys() >= fields.keys()}
    kinds["limit 50"] = RequestKind({"limit": 50})
    kinds["second page"] = RequestKind({}, page=2)
    kinds["question repeated"] = RequestKind({}, repeated=True)  # its vector is cached, its answer is not
    return kinds


def step_rows(loads: Mapping[tuple[str, int], Sequence[LoadResult]]) -> list[dict[str, Any]]:
    """Returns a row for each kind of request and number of clients, with medians over the rounds.

    `of_steps_off` is its rate by that of requests with all steps off, and `above_route_ms` its p50 above the empty
    route, store and encoders included.
    """
    rows: list[dict[str, Any]] = []
    for (name, clients), rounds in loads.items():
        row: dict[str, Any] = {"request": name, "clients": clients}
        for figure in ("p50_ms", "p95_ms", "per_s"):
            row[figure] = median([getattr(load, figure) for load in rounds])
        row["query_cpu_ms"] = median(
            [load.cpu_s[Component.QUERY] / len(load.took_ms) * 1000 for load in rounds if load.took_ms]
        )
        rows.append(row)
    by_name = {(row["request"], row["clients"]): row for row in rows}
    for row in rows:
        plain, empty = by_name[PLAIN, row["clients"]], by_name[EMPTY, row["clients"]]
        row["of_steps_off"] = row["per_s"] / plain["per_s"]
        row["above_route_ms"] = row["p50_ms"] - empty["p50_ms"]
        row["above_steps_off_ms"] = row["p50_ms"] - plain["p50_ms"]
    return sorted(rows, key=lambda row: row["clients"])
