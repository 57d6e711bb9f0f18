"""Pins what the order of one search depends on beside its rankings.

Running statistics change with every question, and so do handicaps and shares of kinds. A search notes those that it
used; its further pages, perhaps on another replica, use the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from penstock.query.fusion.base import Leader
from penstock.query.fusion.statistics import ChannelName, Spread
from penstock.query.types import Kind


class FusionPins:
    """Notes the spreads and the first kind of a search, or gives those of an earlier page.

    Args:
        spreads: of an earlier page, by channel and encoder.
        first: the kind whose hit was first by its share; None: relevance alone decided.
        noted: whether these are of an earlier page.

    Attributes:
        spreads, first, noted: as given, with what was noted since.
    """

    def __init__(
        self, spreads: Mapping[ChannelName, Spread] | None = None, first: Kind | None = None, *, noted: bool = False
    ) -> None:
        self.spreads: dict[ChannelName, Spread] = dict(spreads or {})
        self.first = first
        self.noted = noted

    def spread(self, name: ChannelName, current: Callable[[], Spread]) -> Spread:
        """Returns the spread that was noted, or notes the current one."""
        if name not in self.spreads:
            self.spreads[name] = current()
        return self.spreads[name]

    def leader(self, current: Leader | None) -> Leader | None:
        """Returns a leader that chooses the kind that was noted, or notes the kind that the current one chooses."""
        if self.noted:
            return None if self.first is None else self._first_of
        if current is None:
            return None

        def choose(best: Mapping[Kind, float]) -> Kind:
            kind = current(best)
            self.first = kind
            return kind

        return choose

    def _first_of(self, best: Mapping[Kind, float]) -> Kind:
        if self.first is not None and self.first in best:
            return self.first
        return max(best, key=lambda kind: best[kind])
