"""Checks how a request wants its rankings fused, a part of step 1."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from penstock.config import LEARNED_FUSION, LEARNED_REFUSED, FusionMethod, Normalisation, QuerySettings
from penstock.errors import QueryError
from penstock.query.types import FuseOptions, FuseRequest
from penstock.records import FIELDS_OF, Channel, Collection

# Ranks beyond a thousand are not fetched, so that larger constants make all ranks equal.
MAX_K = 10_000
CLICKED = "clicked"
"""The name of what people chose, among the weights of collections and channels."""
# A channel that counts a thousand times as much as another one decides alone.
MAX_WEIGHT = 1_000.0

_Name = TypeVar("_Name", bound=StrEnum)

# The method that reads an option. Another method would ignore it, which is an error rather than a silent choice.
_METHOD_OF = {"normalise": FusionMethod.WEIGHTED, "k": FusionMethod.RRF, "alpha": FusionMethod.EARLY}


def fuse_options(request: FuseRequest | None, settings: QuerySettings) -> FuseOptions:
    """Checks the `fuse` of a request and fills in the settings.

    Raises:
        QueryError: with a pointer to the option at fault.
    """
    requested = request or FuseRequest()
    if requested.method == LEARNED_FUSION:
        raise QueryError(LEARNED_REFUSED, field="/fuse/method")
    method = _name(FusionMethod, requested.method, default=settings.fusion, option="method")
    for option, needed in _METHOD_OF.items():
        if getattr(requested, option) is not None and method is not needed:
            raise QueryError(
                f"{option} belongs to method {needed}, and the method is {method}: send method {needed} or leave "
                f"{option} out",
                field=f"/fuse/{option}",
            )
    if requested.k is not None and not 1 <= requested.k <= MAX_K:
        raise QueryError(f"k is {requested.k}; it can be 1 to {MAX_K:,}", field="/fuse/k")
    if requested.alpha is not None and not 0 <= requested.alpha <= 1:
        raise QueryError(f"alpha is {requested.alpha}; it can be 0 to 1", field="/fuse/alpha")
    weights = named_weights(requested.weights, at="/fuse/weights", sources=(CLICKED,))
    clicked = weights.sources.get(CLICKED, 1.0)
    if clicked > 0 and CLICKED in weights.sources and method is not FusionMethod.CALIBRATED:
        raise QueryError(
            f"{CLICKED} is fused by method calibrated only, and the method is {method}: without probabilities choices "
            "for other questions would displace what was never chosen",
            field=f"/fuse/weights/{CLICKED}",
        )
    normalise = _name(Normalisation, requested.normalise, default=settings.normalise, option="normalise")
    # What a request without these options is given by the settings, it does not demand.
    decisive = requested.normalise if method is FusionMethod.WEIGHTED else requested.method or requested.alpha
    return FuseOptions(
        method=method,
        normalise=normalise,
        k=settings.rrf_k if requested.k is None else requested.k,
        alpha=settings.fusion_alpha if requested.alpha is None else requested.alpha,
        weights={**settings.weights, **weights.collections},
        channel_weights=weights.channels,
        first_places=settings.first_places,
        demanded=decisive is not None,
        clicked=clicked,
    )


def _name(names: type[_Name], value: str | None, *, default: _Name, option: str) -> _Name:
    if value is None:
        return default
    try:
        return names(value)
    except ValueError as exc:
        raise QueryError(
            f"there is no {option} {value!r}; there are {', '.join(names)}", field=f"/fuse/{option}"
        ) from exc


@dataclass(frozen=True, slots=True)
class NamedWeights:
    """Checked weights by what their names stand for."""

    collections: Mapping[Collection, float]
    channels: Mapping[Channel, float]
    sources: Mapping[str, float]


def named_weights(requested: Mapping[str, float], *, at: str, sources: Container[str] = ()) -> NamedWeights:
    """Returns the weights that name a collection, a channel, or one of these sources.

    Raises:
        QueryError: with a pointer, below `at`, to a name that is none of them or whose weight is not allowed.
    """
    collections: dict[Collection, float] = {}
    channels: dict[Channel, float] = {}
    of_sources: dict[str, float] = {}
    known = {str(channel): channel for collection in Collection for channel in _channels_of(collection)}
    for name, weight in requested.items():
        field = f"{at}/" + name.replace("~", "~0").replace("/", "~1")
        if not (math.isfinite(weight) and 0 <= weight <= MAX_WEIGHT):
            raise QueryError(f"the weight of {name} is {weight}; it can be 0 to {MAX_WEIGHT:,.0f}", field=field)
        if name in list(Collection):
            collections[Collection(name)] = weight
        elif name in known:
            channels[known[name]] = weight
        elif name in sources:
            of_sources[name] = weight
        else:
            raise QueryError(
                f"there is no collection or channel {name!r}; there are {', '.join([*Collection, *known])}", field=field
            )
    return NamedWeights(collections, channels, of_sources)


def _channels_of(collection: Collection) -> list[Channel]:
    return [Channel(collection, field) for field in FIELDS_OF[collection]]
