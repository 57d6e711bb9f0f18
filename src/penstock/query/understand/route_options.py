"""Checks how a request wants its channels weighed, a part of step 1."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.config import QuerySettings
from penstock.errors import QueryError
from penstock.query.options import RouteMode, RouteOptions
from penstock.query.understand.fuse_options import named_weights


def route_options(request: str | Mapping[str, float] | None, settings: QuerySettings) -> RouteOptions:
    """Checks the `route` of a request; without one the setting holds.

    Raises:
        QueryError: with a pointer to the name at fault.
    """
    if isinstance(request, Mapping):
        weights = named_weights(request, at="/route", sources=settings.sources)
        return RouteOptions(RouteMode.GIVEN, weights.collections, weights.channels, weights.sources)
    mode = request or settings.route
    if mode not in (RouteMode.AUTO, RouteMode.ALL):
        raise QueryError(
            f"there is no route {mode!r}; send auto, all, or an object of weights of collections, channels and sources",
            field="/route",
        )
    return RouteOptions(RouteMode(mode))
