"""The JSON of what the query plane answers, except to questions (`client.answers`). Its fields are those of /docs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

from penstock.client.requests import JsonValue


class ChannelPartJson(TypedDict):
    """The part of one channel in the value of a hit (docs/pages.md)."""

    channel: str
    rank: int | None
    score: float | None
    value: float
    weight: float
    part: float
    share: float


class CollectionPartJson(TypedDict):
    """The value of a hit in one collection (docs/pages.md)."""

    collection: str
    channels: Sequence[ChannelPartJson]
    constant: float
    value: float
    weighted: float


class ExplanationJson(TypedDict):
    """The reasons for the place of a hit."""

    collections: Sequence[CollectionPartJson]
    combined: str
    fused_score: float
    fused_rank: int
    reranked_rank: int | None
    rank: int
    promoted: bool
    relevance: Mapping[str, float] | None


class FoundByJson(TypedDict):
    """A channel that found an entry, with rank and score."""

    channel: str
    rank: int
    score: float


class OriginJson(TypedDict):
    """The Kafka position of the event that wrote an entry."""

    topic: str
    partition: int
    offset: int


class MemberJson(TypedDict):
    """An entry of a moment."""

    id: str
    collection: str
    part: int
    text: str
    start_ms: int
    end_ms: int
    found_by: Sequence[FoundByJson]


class MomentFrameJson(TypedDict):
    """The frame of a moment that was ranked best."""

    id: str
    start_ms: int
    end_ms: int
    thumbnail_url: str | None


class MomentJson(TypedDict):
    """The range of time that a hit in a video or audio asset covers."""

    start_ms: int
    end_ms: int
    transcript: str
    frame: MomentFrameJson | None
    members: Sequence[MemberJson]


class OtherJson(TypedDict):
    """A further entry or moment of the asset of a hit."""

    id: str
    collection: str
    score: float
    relevance: float | None
    part: int
    text: str
    start_ms: int
    end_ms: int
    start_char: int
    end_char: int
    page: int | None
    page_label: str | None


class HitJson(TypedDict):
    """A hit of a search (docs/search.md).

    Over the limit because each field of a hit is a key.
    """

    id: str
    collection: str
    score: float
    tenant: str
    topic: str
    key: str
    part: int
    title: str
    text: str
    uri: str
    mime: str
    attributes: Mapping[str, JsonValue]
    start_ms: int
    end_ms: int
    start_char: int
    end_char: int
    page: int | None
    page_label: str | None
    figure: int | None
    event_time: str
    indexed_at: str
    origin: OriginJson
    media_url: str | None
    page_url: str | None
    thumbnail_url: str | None
    captions_url: str | None
    found_by: Sequence[FoundByJson]
    moment: MomentJson | None
    indexing: bool
    relevance: float | None
    below_floor: bool
    promoted: bool
    clicked: float | None
    others: Sequence[OtherJson]
    explain: ExplanationJson | None


# In the form of a call, as `from` is a keyword of the language.
SpellingJson = TypedDict("SpellingJson", {"from": str, "to": str, "applied": bool})


class QueryJson(TypedDict):
    """The query as it was understood."""

    asked: str | None
    used: str | None
    language: str | None
    compose: Mapping[str, float]
    frame_image: str | None
    route: Mapping[str, float]
    proposed_filter: Mapping[str, JsonValue] | None
    spelling: Sequence[SpellingJson]
    did_you_mean: str | None
    synonyms: Mapping[str, Sequence[str]]
    rewritten: str | None
    because: Sequence[str]


class RerankReportJson(TypedDict):
    """The report of the reranking model on what it read."""

    model: str
    done: int
    of: int
    ms: float


class SearchResultJson(TypedDict):
    """The JSON of a search result, its hits best first.

    Over the limit because each field of the result is a key.
    """

    hits: Sequence[HitJson]
    transcript: str | None
    next_cursor: str | None
    changed: bool
    nothing_found: bool
    why: str | None
    partial: bool
    missing: Mapping[str, str]
    took_ms: Mapping[str, float]
    index_version: int
    profile: str
    notice: str | None
    notices: Sequence[str]
    query: QueryJson
    rerank: RerankReportJson | None


class SuggestionJson(TypedDict):
    """A text that the typed one may become."""

    text: str
    kind: str
    count: int


class SuggestionsJson(TypedDict):
    """The JSON of `GET /v1/suggest`."""

    suggestions: Sequence[SuggestionJson]


class AssetEntryJson(TypedDict):
    """An entry of media, in order of time."""

    id: str
    collection: str
    part: int
    text: str
    start_ms: int
    end_ms: int
    page: int | None
    thumbnail_url: str | None


class AssetEntriesJson(TypedDict):
    """The JSON of `GET /v1/media/{sha256}/entries`."""

    entries: Sequence[AssetEntryJson]


class IndexedJson(TypedDict):
    """The event `indexed` of the live feed: an asset whose entries changed."""

    tenant: str
    topic: str
    key: str
    title: str | None
    entry_id: str | None
    thumbnail_url: str | None
    counts: Mapping[str, int]
    deleted: bool
    complete: bool
    indexed_at: str
    fresh_ms: int


class MissedJson(TypedDict):
    """The event `missed` of the live feed; None: it is not known how many."""

    changes: int | None


class FeedJson(TypedDict):
    """The event `feed` of the live feed."""

    available: bool


class WatchNameJson(TypedDict):
    """The watch that an entry matches."""

    id: str
    name: str


class MatchedEntryJson(TypedDict):
    """The entry of a match, by the fields that the command line uses (docs/watches.md)."""

    collection: str
    key: str
    title: str
    text: str
    page: NotRequired[int]


class MatchJson(TypedDict):
    """The JSON of a match, which is read from Kafka."""

    id: str
    watch: WatchNameJson
    relevance: float
    entry: MatchedEntryJson


class WatchJson(TypedDict):
    """The JSON of a watch."""

    id: str
    name: str
    tenant: str
    min_relevance: float
    created_at: str
    search: Mapping[str, JsonValue]


class WatchesJson(TypedDict):
    """The JSON of `GET /v1/watches`."""

    watches: Sequence[WatchJson]
    matches_topic: str


class VectorCacheJson(TypedDict):
    """Look-ups of query vectors that were in the cache, and that were not."""

    hits: int
    misses: int


class QueryStatusJson(TypedDict):
    """The JSON of `GET /v1/status`.

    Over the limit because each field of the status is a key.
    """

    version: str
    profile: str
    index_version: int
    notice: str | None
    uptime_s: float
    ready: bool
    checks: Mapping[str, str]
    store: str | None
    channels: Sequence[str]
    entries: Mapping[str, int]
    assets: int | None
    searches: int | None
    searches_failed: int | None
    searches_partial: int | None
    store_calls: int | None
    vector_cache: VectorCacheJson | None


class AcceptedEventJson(TypedDict):
    """An event that every in-sync replica of the broker has: the key of its asset, and its position."""

    key: str
    topic: str
    partition: int
    offset: int


class AcceptedEventsJson(TypedDict):
    """The JSON of `POST /v1/events`: the positions of the events, in the order of the request."""

    tenant: str
    events: Sequence[AcceptedEventJson]


class EventLimitsJson(TypedDict):
    """The JSON of `GET /v1/events`: the limits of requests with events."""

    max_events: int
    max_event_bytes: int
    max_body_bytes: int
    modalities: Sequence[str]


class FeedbackJson(TypedDict):
    """The JSON of `POST /v1/feedback`: the vote, and the position of its event."""

    vote: str
    position: OriginJson
