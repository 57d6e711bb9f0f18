"""Named sources: parts of the index, each chosen by a filter, that are weighed as collections and channels are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.config import QuerySettings
from penstock.errors import ConfigError, QueryError
from penstock.query.options import SourceWeight
from penstock.query.routing.phrases import fold, pattern_of
from penstock.store.filters import Filter, parse_filter


@dataclass(frozen=True, slots=True)
class NamedSource:
    """A source of the settings.

    Attributes:
        name: in requests and, as a word, in questions.
        condition: that its entries meet.
        description: in words, compared with questions; may be empty.
        weight: unless the request or the question says otherwise.
    """

    name: str
    condition: Filter
    description: str
    weight: float

    def weighing(self, weight: float) -> SourceWeight:
        """Returns it with a weight."""
        return SourceWeight(self.name, self.condition, weight)


class NamedSources:
    """The sources of the settings, by name.

    Raises:
        ConfigError: a filter is not valid.
    """

    def __init__(self, settings: QuerySettings) -> None:
        self._sources: Mapping[str, NamedSource] = {
            name: NamedSource(name, _condition(name, source.filter), source.description, source.weight)
            for name, source in settings.sources.items()
        }
        self._patterns: Mapping[str, re.Pattern[str]] = {name: pattern_of([fold(name)]) for name in self._sources}

    @property
    def all(self) -> Sequence[NamedSource]:
        """Returns the sources in the order of the settings."""
        return tuple(self._sources.values())

    def weight(self, name: str) -> float:
        """Returns the weight of a source by the settings."""
        return self._sources[name].weight

    def weights(self, given: Mapping[str, float]) -> tuple[SourceWeight, ...]:
        """Returns every source that does not weigh 1, by these weights and else by the settings."""
        weighed = [source.weighing(given.get(source.name, source.weight)) for source in self.all]
        return tuple(source for source in weighed if source.weight != 1.0)

    def named_in(self, question: str) -> list[str]:
        """Returns the names of the sources that a question names."""
        folded = fold(question)
        return [name for name, pattern in self._patterns.items() if pattern.search(folded)]


def _condition(name: str, document: Mapping[str, object]) -> Filter:
    try:
        condition = parse_filter(document, at="")
    except QueryError as exc:
        raise ConfigError(f"query.sources.{name}.filter: {exc}") from exc
    if condition is None:
        raise ConfigError(f"query.sources.{name}.filter is empty: a source is a part of the index")
    return condition
