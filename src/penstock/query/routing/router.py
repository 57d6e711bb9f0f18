"""Weighs the channels of a query: by the request, else by what the question says.

    1 the words of a question that name collections ("photo of", 视频): those that it does not name weigh less
    2 without such words: the examples of questions nearest to its vector, if they are clearly nearer than others
    3 below that confidence: all collections weigh 1

Weights are no exclusions: the least is `UNNAMED`, which a clearly better entry makes up for. Only a request excludes,
by a weight of 0. In fusion a weight multiplies the odds of an entry (`query.fusion.weighted`). While a question weighs
collections, relevance alone decides on first places: it is the question that says which kind is to be first.

MRR@10 of 398 questions that name a kind, on images and texts of `mixed`, profile reference: .231 with all at 1, of
which .020 are lost to first places by shares of the index; .254, .256 and .261 with 0.5, 0.3 and 0.1. Where the words
mislead: .247, .244 and .225. Profile shelf: .307, then .332, .348 and .373. Scores that are multiplied, instead of
odds, give .213, .161 and .112 (reference).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from penstock.config import QuerySettings
from penstock.errors import QueryError
from penstock.query.options import RouteMode, SourceWeight
from penstock.query.routing.exemplars import SHIPPED_EXEMPLARS, Exemplars
from penstock.query.routing.proposals import FilterJson, FilterProposals
from penstock.query.routing.sources import NamedSources
from penstock.query.routing.words import SHIPPED_WORDS, ModalityWords
from penstock.query.types import FuseOptions, Query, SearchPlan
from penstock.records import Channel, Collection, Float32

UNNAMED = 0.3
# Examples are about things, as questions are, and resemble them for that too.
UNLIKE = 0.5
# 11 in 53 English questions are nearer than this to the examples of one kind, and 10 of them rightly; of 300 names of
# things, which are of no kind, 3 %.
MIN_LEAD = 0.1
# A cosine with the description of a source. Not measured: there is no set of questions with sources.
MIN_LIKENESS = 0.4
# The weight of a source that the question names or resembles, times its own.
NAMED_SOURCE = 2.0


@dataclass(frozen=True, slots=True)
class Routing:
    """The weights of one query.

    Attributes:
        collections, channels: 1 where one is absent.
        sources: all that do not weigh 1.
        because: a sentence for each reason.
        by_question: whether the question decided, and not the request.
        undecided: whether the vector of the question may still decide.
        proposed_filter: that the words of the question imply, as a request takes it; it is not applied.
    """

    collections: Mapping[Collection, float] = field(default_factory=dict)
    channels: Mapping[Channel, float] = field(default_factory=dict)
    sources: tuple[SourceWeight, ...] = ()
    because: tuple[str, ...] = ()
    by_question: bool = False
    undecided: bool = False
    proposed_filter: FilterJson | None = None

    @property
    def is_even(self) -> bool:
        """Returns whether everything weighs 1."""
        return not self.sources and all(weight == 1 for weight in (*self.collections.values(), *self.channels.values()))

    def weight(self, channel: Channel) -> float:
        """Returns the weight of a channel with that of its collection."""
        return self.collections.get(channel.collection, 1.0) * self.channels.get(channel, 1.0)

    def excludes(self, channel: Channel) -> bool:
        """Returns whether a channel is not to be searched, which only a request can want."""
        return self.weight(channel) == 0

    def applied_to(self, options: FuseOptions) -> FuseOptions:
        """Returns the options of a fusion with these weights on top of its own."""
        if self.is_even:
            return options
        collections = {name: options.weights.get(name, 1.0) * self.collections.get(name, 1.0) for name in Collection}
        channels = {**options.channel_weights}
        for channel, weight in self.channels.items():
            channels[channel] = channels.get(channel, 1.0) * weight
        return replace(options, weights=collections, channel_weights=channels, sources=self.sources)

    def shown(self, channels: Iterable[Channel]) -> dict[str, float]:
        """Returns the weights of these channels and of the sources that do not weigh 1, by name, for the client."""
        shown = {str(channel): round(self.weight(channel), 4) for channel in sorted(channels)}
        return shown | {source.name: source.weight for source in self.sources}


class Router:
    """Weighs the channels of all queries of a plane.

    Args:
        words: name collections.
        sources: of the settings.
        proposals: words that imply filters.
        exemplars: examples of questions for collections; None: words alone decide.
        descriptions: float32[dim], L2-normalised, of the sources with a description, by name.
        now_ms: milliseconds since the epoch, by which "last week" is understood.
    """

    def __init__(
        self,
        words: ModalityWords,
        sources: NamedSources,
        proposals: FilterProposals,
        *,
        exemplars: Exemplars | None = None,
        descriptions: Mapping[str, Float32] | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._words = words
        self._sources = sources
        self._proposals = proposals
        self._now_ms = now_ms
        self._exemplars = exemplars
        self._descriptions = descriptions or {}

    @classmethod
    def of_settings(cls, settings: QuerySettings, encode: Callable[[Sequence[str]], Float32] | None = None) -> Router:
        """Reads the files of the settings.

        Args:
            settings: with the files, and the sources.
            encode: returns float32[texts, dim], L2-normalised, as the vectors of questions; None: words alone decide.

        Raises:
            ConfigError: a file or the filter of a source is not valid.
        """
        words = ModalityWords(file for file in (SHIPPED_WORDS, settings.route_words) if file is not None)
        sources, proposals = NamedSources(settings), FilterProposals.of_settings(settings)
        if encode is None:
            return cls(words, sources, proposals)
        files = (file for file in (SHIPPED_EXEMPLARS, settings.route_exemplars) if file is not None)
        described = [source for source in sources.all if source.description]
        vectors = encode([source.description for source in described]) if described else ()
        return cls(
            words,
            sources,
            proposals,
            exemplars=Exemplars.open(files, encode),
            descriptions={source.name: vector for source, vector in zip(described, vectors, strict=True)},
        )

    def route(self, query: Query) -> Routing:
        """Returns the weights of a query before its vector is known, and the filter that it implies."""
        proposed = None if query.text is None else self._proposals.propose(query.text, self._now_ms())
        return replace(self._weigh(query), proposed_filter=proposed)

    def _weigh(self, query: Query) -> Routing:
        route = query.route
        if route.mode is RouteMode.GIVEN:
            because = _of_request(route.collections, route.channels, route.sources)
            return Routing(route.collections, route.channels, self._sources.weights(route.sources), because)
        if route.mode is RouteMode.ALL:
            return Routing()
        if query.text is None:
            return self._with_sources(Routing(), [])
        named = self._words.find(query.text)
        weights = _lowered(named.collections, query.collections, UNNAMED)
        if weights:
            quoted = " and ".join(f"“{word}”" for word in named.words)
            reason = f"{_weighing(weights, UNNAMED)}, as the question says {quoted}."
            routing = Routing(weights, because=(reason,), by_question=True)
        else:
            # The examples are questions in words alone.
            routing = Routing(undecided=not named.collections and query.image is None)
        return self._with_sources(routing, self._sources.named_in(query.text))

    def refine(self, routing: Routing, query: Query, vector: Float32 | None) -> Routing:
        """Returns the weights with what the vector of the question adds.

        Args:
            routing: of `route`.
            query: as there.
            vector: float32[dim], L2-normalised, of the sentence encoder; None: it is not known in time.
        """
        if vector is None or query.route.mode is not RouteMode.AUTO:
            return routing
        if routing.undecided and self._exemplars is not None:
            nearest, lead = self._exemplars.nearest(vector)
            weights = _lowered(nearest, query.collections, UNLIKE) if lead >= MIN_LEAD else {}
            if weights:
                reason = f"{_weighing(weights, UNLIKE)}, as the question resembles others of that kind."
                routing = replace(
                    routing, collections=weights, because=(*routing.because, reason), by_question=True, undecided=False
                )
        alike = [name for name, of_source in self._descriptions.items() if float(of_source @ vector) >= MIN_LIKENESS]
        named = {source.name for source in routing.sources if source.weight != self._sources.weight(source.name)}
        return self._with_sources(routing, [name for name in alike if name not in named], likened=True)

    def _with_sources(self, routing: Routing, names: Sequence[str], *, likened: bool = False) -> Routing:
        """Returns the weights with those of the sources by the settings, and more for these."""
        given = {source.name: source.weight for source in routing.sources}
        given |= {name: given.get(name, self._sources.weight(name)) * NAMED_SOURCE for name in names}
        verb = "resembles its description" if likened else "names it"
        because = [f"Source {name} weighs {given[name]:g}, as the question {verb}." for name in names]
        return replace(routing, sources=self._sources.weights(given), because=(*routing.because, *because))


def without_excluded(plan: SearchPlan, routing: Routing) -> SearchPlan:
    """Returns the plan without the channels that the request excludes.

    Raises:
        QueryError: none is left.
    """
    queries = tuple(query for query in plan.queries if not routing.excludes(query.channel))
    if plan.queries and not queries:
        raise QueryError("the weights are 0 for every channel that could answer", field="/route")
    return replace(plan, queries=queries)


def _lowered(named: frozenset[Collection], searched: Sequence[Collection], weight: float) -> Mapping[Collection, float]:
    """Returns this weight for the collections that are not named; empty if that would change no order."""
    others = [collection for collection in searched if collection not in named]
    return dict.fromkeys(others, weight) if others and len(others) < len(searched) else {}


def _weighing(weights: Mapping[Collection, float], weight: float) -> str:
    return f"Collections {', '.join(sorted(weights))} weigh {weight:g} instead of 1"


def _of_request(
    collections: Mapping[Collection, float], channels: Mapping[Channel, float], sources: Mapping[str, float]
) -> tuple[str, ...]:
    given = {str(name): weight for names in (collections, channels, sources) for name, weight in names.items()}
    if all(weight == 1 for weight in given.values()):
        return ()
    weights = ", ".join(f"{name} {weight:g}" for name, weight in given.items())
    return (f"The request sets weights: {weights}.",)
