"""The records that travel between the steps of a search: SearchRequest → Query → SearchPlan → Rankings → Hit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from penstock.config import FirstPlaceRule, FusionMethod, Normalisation
from penstock.encoders.profiles import JOINT_IMAGE
from penstock.query.explanations import HitExplanation
from penstock.query.options import RerankOptions, RerankReport, RerankRequest, RouteOptions, SourceWeight
from penstock.query.parts.base import NO_PARTS, PartsRequest, QueryPart, QueryParts
from penstock.query.parts.inputs import COMPOSED, EmbeddingInput, TextInput
from penstock.query.understand.understood import UnderstandOptions, UnderstandRequest, Understood, WeightedWords
from penstock.records import Access, Channel, ClickedEntry, Collection, Entry, Modality, ScoredEntry
from penstock.store.filters import Filter

Kind: TypeAlias = str
"""The kind of a hit: `moment`, or the collection of its entry where that has no times."""

ALL_OF_DEFAULT = Access.to_all_of("default")


class GroupBy(StrEnum):
    """Names what becomes one hit."""

    MOMENT = "moment"  # entries close together in time; of texts and images each entry
    ASSET = "asset"  # all entries and moments of an asset
    ENTRY = "entry"  # each entry


@dataclass(frozen=True, slots=True)
class FuseRequest:
    """The fusion that a client requests, unchecked; None: the setting.

    Attributes:
        method: a name of `FusionMethod`.
        normalise: a name of `Normalisation`, for method weighted.
        k: the constant of method rrf.
        weights: by the name of a collection or of a channel.
        alpha: the share of the text, for method early.
    """

    method: str | None = None
    normalise: str | None = None
    k: int | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    alpha: float | None = None


@dataclass(frozen=True, slots=True)
class FuseOptions:
    """The checked fusion of a query, with its defaults filled in.

    Attributes:
        method: how rankings become one.
        normalise: used by method weighted.
        k: used by method rrf.
        alpha: used by method early, 0 to 1.
        weights: of the collections; 1 where one is absent.
        channel_weights: factors of the channels within their collection; 1 where one is absent.
        first_places: whether the share of a kind decides on first places, for method calibrated.
        demanded: whether the request itself names the method, or the normalisation if that is log-odds. Settings that
            do not apply to a question yield to method calibrated (`FusionChooser.applicable`).
        sources: named sources that do not weigh 1.
        clicked: the weight of what people chose, for method calibrated; 0: it does not count.
    """

    method: FusionMethod = FusionMethod.CALIBRATED
    normalise: Normalisation = Normalisation.Z_BY_CHANNEL
    k: int = 10
    alpha: float = 0.5
    weights: Mapping[Collection, float] = field(default_factory=dict)
    channel_weights: Mapping[Channel, float] = field(default_factory=dict)
    first_places: FirstPlaceRule = FirstPlaceRule.INDEX
    demanded: bool = True
    sources: tuple[SourceWeight, ...] = ()
    clicked: float = 1.0


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A search as the client sent it, unchecked.

    Over the limit because each field of the request is an attribute.

    Attributes:
        text: the query in words.
        image: an encoded image (JPEG, PNG, WebP or another format that Pillow reads).
        audio: a spoken query: an encoded audio file, or a video file of which only the audio track is used.
        modalities: names of the modalities to search; None: all.
        where: a further condition.
        access: the entries that the caller may read.
        limit: maximum number of hits; None: the setting.
        deadline_ms: milliseconds for the whole search; None: the setting.
        fuse: how the rankings become one; None: the settings.
        min_relevance: 0 to 1, below which hits are cut; None: none are.
        group_by: a name of `GroupBy`; None: moment.
        rerank: how the best hits are reranked; None: the settings.
        route: auto, all, or weights by the name of a collection, a channel or a source; None: the setting.
        cursor: `SearchResult.next_cursor` of the page before; None: the first page.
        diversify: the share of the score against resemblance, see `query.diversify`; None: it alone decides.
        parts: what else is searched by, and with which weights.
        explain: whether each hit has its explanation.
        understand: what is made of its words.
    """

    text: str | None = None
    image: bytes | None = field(default=None, repr=False)
    audio: bytes | None = field(default=None, repr=False)
    modalities: Sequence[str] | None = None
    where: Filter | None = None
    access: Access = ALL_OF_DEFAULT
    limit: int | None = None
    deadline_ms: int | None = None
    fuse: FuseRequest | None = None
    min_relevance: float | None = None
    group_by: str | None = None
    rerank: RerankRequest | None = None
    route: str | Mapping[str, float] | None = None
    cursor: str | None = field(default=None, repr=False)
    diversify: float | None = None
    explain: bool = False
    parts: PartsRequest = NO_PARTS
    understand: UnderstandRequest = field(default_factory=UnderstandRequest)


@dataclass(frozen=True, slots=True)
class HitOptions:
    """The options of the hits of a query.

    Attributes:
        group_by: what becomes one hit.
        diversify: the share of the score against resemblance, 0 to 1; None: the score alone decides.
        explain: whether each hit has its explanation.
    """

    group_by: GroupBy = GroupBy.MOMENT
    diversify: float | None = None
    explain: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A checked request with its defaults filled in. Channel queries are derived from its parts.

    Over the limit because each field of a request is an attribute.

    Attributes:
        text: normalised text; with that of a spoken query, once it is transcribed.
        image: an encoded image.
        audio: an encoded spoken query that is not transcribed yet (see `with_transcript`).
        transcript: the text of a spoken query, as the speech model wrote it.
        collections: the collections to search, in the order of `Collection`.
        modalities_given: whether the request named modalities, rather than searching all.
        where, access, limit: as in the request.
        passages_of: the modality whose passages alone are searched, as texts and documents share a collection; None:
            those of both.
        deadline_ms: milliseconds for the whole search.
        fuse: how the rankings become one.
        min_relevance: as in the request.
        hits: how they are made.
        rerank: how the best hits are reranked; None: they keep the order of the fusion.
        parts: the further parts.
        route: how channels are weighed.
        understand: what is made of its words.
        understood: what was made of them; None before that step, and without words.
    """

    text: str | None = field(repr=False)
    image: bytes | None = field(repr=False)
    audio: bytes | None = field(repr=False)
    collections: tuple[Collection, ...]
    modalities_given: bool
    where: Filter | None
    access: Access
    limit: int
    deadline_ms: int
    fuse: FuseOptions = field(default_factory=FuseOptions)
    transcript: str | None = None
    min_relevance: float | None = None
    hits: HitOptions = field(default_factory=HitOptions)
    rerank: RerankOptions | None = None
    parts: QueryParts = field(default_factory=QueryParts)
    route: RouteOptions = field(default_factory=RouteOptions)
    understand: UnderstandOptions = field(default_factory=UnderstandOptions)
    understood: Understood | None = None
    passages_of: Modality | None = None


@dataclass(frozen=True, slots=True)
class ChannelQuery:
    """A channel to search, and what it is searched for.

    Attributes:
        channel: the channel.
        space: the id of the space in which it compares.
        search_for: the text itself, which the store matches by BM25, or the input of the vector that it takes.
        share: of the weights of all wanted parts of the query, those of the parts that it is searched for.
        extra: words that a lexical channel searches besides.
        where: a condition on its entries.
    """

    channel: Channel
    space: str
    search_for: str | EmbeddingInput
    share: float = 1.0
    extra: tuple[WeightedWords, ...] = ()
    where: Filter | None = None

    @property
    def text(self) -> str | None:
        """The words that it is searched for; None: it is not words alone."""
        if isinstance(self.search_for, str):
            return self.search_for
        return self.search_for.text if isinstance(self.search_for, TextInput) else None

    @property
    def encoder(self) -> str | None:
        """The encoder of the query vector; None if the channel takes the text itself. See also `COMPOSED`."""
        return None if isinstance(self.search_for, str) else self.search_for.encoder


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """The channel queries of a query, and the channels that the store does not offer, with the reason.

    Attributes:
        because: sentences on parts of the query that no channel is searched for.
    """

    queries: tuple[ChannelQuery, ...]
    missing: Mapping[Channel, str]
    because: tuple[str, ...] = ()

    @property
    def in_words(self) -> bool:
        """Whether every channel is searched for words alone, as the questions of a calibration are."""
        return all(query.text is not None for query in self.queries)


@dataclass(frozen=True, slots=True)
class Rankings:
    """The entries that each channel returned.

    Attributes:
        by_channel: entries of the channels that answered, best first, each at most once.
        missing: the other channels, and why each did not answer.
        depths: how many entries the channels of a collection were searched for.
        spaces: the space in which each channel compares.
        encoders: the encoder of each channel's query vector, as in `ChannelQuery.encoder`: the scores for a text and
            for an image differ in one channel. None, or absent: the channel takes the text itself.
        text: of the question; None: it is not one in words alone, or its words are not known.
        clicked: what people chose for questions close to this one.
    """

    by_channel: Mapping[Channel, Sequence[ScoredEntry]]
    missing: Mapping[Channel, str]
    depths: Mapping[Collection, int]
    spaces: Mapping[Channel, str]
    encoders: Mapping[Channel, str | None] = field(default_factory=dict)
    text: str | None = field(default=None, repr=False)
    clicked: tuple[ClickedEntry, ...] = ()

    def in_words(self, channel: Channel) -> bool:
        """Returns whether the channel was searched for words alone, as the questions of a calibration are."""
        return self.encoders.get(channel) not in (JOINT_IMAGE, COMPOSED)


@dataclass(frozen=True, slots=True)
class ChannelHit:
    """The rank and the score that one channel gave an entry.

    Attributes:
        rank: from 1.
        score: cosine similarity or BM25, as the channel returned it.
    """

    channel: Channel
    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class MomentMember:
    """An entry of a moment, and the channels that found it."""

    entry: Entry
    found_by: tuple[ChannelHit, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """A range of time within a video or audio asset that answers a query.

    Attributes:
        start_ms, end_ms: milliseconds of media time: those of the best member and of members that the same channel
            scored nearly as high. Other members may lie outside.
        members: entries of `speech` and `frame`, in order of time.
        frame: the frame that was ranked best; None if only speech was found.
    """

    start_ms: int
    end_ms: int
    members: tuple[MomentMember, ...]
    frame: Entry | None

    @property
    def transcript(self) -> str:
        """The text of the speech entries that were found, in order of time."""
        spoken = (member.entry for member in self.members if member.entry.collection is Collection.SPEECH)
        return " ".join(entry.text for entry in spoken)


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search.

    Attributes:
        entry: the entry that was found; the best one of a moment.
        score: from the fusion; it only orders the hits of one search.
        found_by: the channels that found it; of a moment, the best rank that each gave one of its entries.
        moment: the range of time around it; None for entries without a time.
        indexing: whether later segments of its timed media are still being indexed.
        relevance: the estimated probability, 0 to 1, that it answers the question; None: not known.
        below_floor: whether that is too little to count as found.
        promoted: whether it is first although another kind has a more relevant hit (`query.first_places`).
        explanation: the reasons for its place; None unless the request has `explain`.
        others: further hits of the same asset, best first, of a search that groups by asset.
        clicked: the probability, 0 to 1, that it answers the question by choices alone; None: it was never chosen.
    """

    entry: Entry
    score: float
    found_by: tuple[ChannelHit, ...]
    moment: Moment | None = None
    indexing: bool = False
    relevance: float | None = None
    below_floor: bool = False
    promoted: bool = False
    others: tuple[Hit, ...] = ()
    explanation: HitExplanation | None = None
    clicked: float | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer to one search.

    Over the limit because each field of a response is an attribute.

    Attributes:
        hits: best first.
        partial: whether a channel failed or was late. A channel that the store does not offer is only in `missing`.
        missing: the channels that were left out, with the reason.
        took_ms: milliseconds by step, and in total.
        transcript: the text of a spoken query; None for other queries.
        language: of the question, as ISO 639-1; None: not certain, or no words.
        notices: limitations of this answer, a sentence each.
        nothing_found: whether no hit is relevant enough; those that there are remain in `hits`.
        why: the reason for that, in words.
        route: the weights of the channels that answered, and of the sources that do not weigh 1, by name.
        proposed_filter: the filter that the words of the question imply, as a request takes it; it was not applied.
        shed: the steps that were left out for the load of the replica.
        shortened: whether a step was late or failed, so that a search with more time may answer otherwise.
        rerank: what the reranking model read; None: it was not called.
        because: the reasons, in sentences, for what was done differently from the request and the settings.
        next_cursor: of the page after this one; None: there are no more hits.
        changed: whether the pages before would be others now.
        weights: of the parts of the query; empty if it has one part only.
        image_source: where the image of the frame of the query comes from; None: it has none.
        understood: what was made of the words of the query; None: it has none.
        index_version: the version of the index that every part of the answer is from.
    """

    hits: Sequence[Hit]
    partial: bool
    missing: Mapping[Channel, str]
    took_ms: Mapping[str, float]
    transcript: str | None = None
    language: str | None = None
    notices: tuple[str, ...] = ()
    nothing_found: bool = False
    why: str | None = None
    because: tuple[str, ...] = ()
    rerank: RerankReport | None = None
    route: Mapping[str, float] = field(default_factory=dict)
    proposed_filter: Mapping[str, object] | None = None
    shed: tuple[str, ...] = ()
    shortened: bool = False
    next_cursor: str | None = field(default=None, repr=False)
    changed: bool = False
    weights: Mapping[QueryPart, float] = field(default_factory=dict)
    image_source: str | None = None
    understood: Understood | None = None
    index_version: int = 1
