"""The checked options of the steps route and rerank, and what a client requests of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from penstock.records import Channel, Collection
from penstock.store.filters import Filter


class RouteMode(StrEnum):
    """Names what decides on the weights of channels."""

    AUTO = "auto"  # the question
    ALL = "all"  # nothing: all weigh 1
    GIVEN = "given"  # the request


@dataclass(frozen=True, slots=True)
class SourceWeight:
    """The weight of a named source: of all entries that meet its condition."""

    name: str
    condition: Filter
    weight: float


@dataclass(frozen=True, slots=True)
class RouteOptions:
    """The checked route of a query: what decides on weights, and those of the request, 1 where one is absent."""

    mode: RouteMode = RouteMode.ALL
    collections: Mapping[Collection, float] = field(default_factory=dict)
    channels: Mapping[Channel, float] = field(default_factory=dict)
    sources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """The reranking that a client requests, unchecked; None: the setting.

    Attributes:
        model: auto, off or the name of a model.
        budget_ms: milliseconds that it may take.
        top: number of hits that may change places.
    """

    model: str | None = None
    budget_ms: int | None = None
    top: int | None = None


@dataclass(frozen=True, slots=True)
class RerankOptions:
    """The checked reranking of a query. `model` is None for whichever there is; the others as in `RerankRequest`.

    Attributes:
        demanded: whether the request itself wants it.
    """

    model: str | None
    budget_ms: int
    top: int
    demanded: bool = False


@dataclass(frozen=True, slots=True)
class RerankReport:
    """Reports what a reranking model read.

    Attributes:
        model: its name.
        done: hits that it read.
        of: hits with words among those that might change places.
        ms: milliseconds that it took.
    """

    model: str
    done: int
    of: int
    ms: float
