"""The JSON of the HTTP API: requests as they are checked, responses as they are made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from penstock.assets import sha256_of
from penstock.query.types import ChannelHit, Hit, Moment, MomentMember, SearchResult
from penstock.records import Entry, Modality

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999


class SearchBody(BaseModel):
    """What to look for: `text`, `image` or `audio`, and conditions."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"text": "something you eat at breakfast"},
                {
                    "text": "red bicycle",
                    "modalities": ["image"],
                    "filter": {
                        "attributes.camera": {"in": ["x100", "gr3"]},
                        "event_time": {"gte": "2026-01-01T00:00:00Z"},
                    },
                    "limit": 5,
                },
            ]
        },
    )

    text: StrictStr | None = Field(None, description="the question in words; exactly one of text, image and audio")
    image: StrictStr | None = Field(None, description="a picture to search by: JPEG, PNG, WebP…, base64")
    audio: StrictStr | None = Field(
        None,
        description="the question as it was spoken: WAV, MP3, Ogg, MP4…, at most 60 s unless set otherwise, base64",
    )
    modalities: list[Annotated[StrictStr, Field(json_schema_extra={"enum": list(Modality)})]] | None = Field(
        None, description="what may be found; all when left out"
    )
    filter: dict[str, Any] | None = Field(
        None,
        description='conditions on fields and attributes: {"mime": "image/png"}, {"event_time": {"gte": …}}, '
        '{"attributes.camera": {"in": […]}}; joined by {"and": […]}, {"or": […]}, {"not": …}',
    )
    tenant: StrictStr | None = Field(None, description="whose entries are searched; the default tenant when left out")
    limit: StrictInt | None = Field(None, description="most hits; 10 unless set otherwise")
    deadline_ms: StrictInt | None = Field(
        None, description="milliseconds for the whole search; channels that are later are left out and named"
    )


class OriginOut(BaseModel):
    """The Kafka position of the event that an entry comes from."""

    topic: str
    partition: int
    offset: int


class FoundByOut(BaseModel):
    """That one channel found the entry."""

    channel: str = Field(examples=["image.joint"], description="collection and vector field")
    rank: int = Field(examples=[1], description="place in that channel, from 1")
    score: float = Field(examples=[0.31], description="the channel's own: cosine, or BM25; comparable only within it")


class MemberOut(BaseModel):
    """An entry of a moment."""

    id: str
    collection: str = Field(examples=["speech"])
    part: int
    text: str = Field(description="what is said; empty for a frame")
    start_ms: int
    end_ms: int
    found_by: list[FoundByOut]


class FrameOut(BaseModel):
    """The frame that shows a moment best, for a thumbnail."""

    id: str
    start_ms: int = Field(description="from when on the film looks like this")
    end_ms: int
    thumbnail_url: str | None = Field(description="path of a small JPEG of it")


class MomentOut(BaseModel):
    """What was found of a recording close together in time, by its sound or by its pictures."""

    start_ms: int = Field(description="milliseconds from the start of the recording; where to begin playing")
    end_ms: int
    transcript: str = Field(description="what is said in it, as far as it was found, in order of time")
    frame: FrameOut | None = Field(description="null where only words were found")
    members: list[MemberOut] = Field(description="the entries that make it up, in order of time")


class HitOut(BaseModel):
    """One entry that was found, or one moment: then the best of its entries, and all of them in `moment`."""

    id: str = Field(description="32 hexadecimal digits; the same for the same part of the same asset for ever")
    collection: str = Field(examples=["image"])
    score: float = Field(description="of the fusion; says the order, nothing more")
    tenant: str
    topic: str
    key: str
    part: int = Field(description="number of the passage within its asset, from 0")
    title: str
    text: str = Field(description="the passage, or what is said; empty for a picture")
    uri: str
    mime: str
    attributes: dict[str, Any]
    start_ms: int
    end_ms: int
    start_char: int = Field(description="where the passage lies in its text, in characters")
    end_char: int
    event_time: str = Field(description="RFC 3339: when it happened")
    indexed_at: str = Field(description="RFC 3339: when it was written to the index")
    origin: OriginOut
    media_url: str | None = Field(description="path of the media, where Penstock keeps them")
    found_by: list[FoundByOut] = Field(
        description="of a moment: the best rank that each channel gave one of its entries"
    )
    moment: MomentOut | None = Field(description="of sound and film; null for texts and images")
    indexing: bool = Field(description="of sound and film: it is long, and the rest of it is being indexed still")


class SearchOut(BaseModel):
    """The answer: hits, best first, and how it came about."""

    hits: list[HitOut]
    transcript: str | None = Field(description="what was understood of a question by voice; null for any other")
    partial: bool = Field(description="a channel failed or was late: there may be better hits than these")
    missing: dict[str, str] = Field(
        description="channels that were left out, and why; those that this store cannot offer too",
        examples=[{"text.lexical": "did not answer within the deadline"}],
    )
    took_ms: dict[str, float] = Field(examples=[{"encode": 7.1, "search": 5.2, "fuse": 0.2, "total": 12.6}])
    profile: str = Field(examples=["reference"])
    notice: str | None = Field(description="what to know of the models before believing the answer")


class HealthOut(BaseModel):
    """The process lives."""

    status: str = Field("ok", examples=["ok"])


class ReadinessOut(BaseModel):
    """Whether searches can be answered now, and if not, what keeps them."""

    ready: bool
    checks: dict[str, str] = Field(examples=[{"store": "ok", "encoders": "ok", "disk": "ok"}])


class CacheOut(BaseModel):
    """Query vectors that were known, or were not."""

    hits: int
    misses: int


class StatusOut(BaseModel):
    """The query plane as `penstock status` shows it. Counters are this replica's, since it started."""

    version: str
    profile: str
    notice: str | None
    uptime_s: float
    ready: bool
    checks: dict[str, str]
    store: str | None = Field(description="name and version of the store; null while it does not answer")
    channels: list[str]
    entries: dict[str, int] = Field(description="rows of each collection")
    assets: int | None
    searches: int
    searches_failed: int
    searches_partial: int
    store_calls: int = Field(description="calls of the store that wait or are under way")
    vector_cache: CacheOut


def search_out(result: SearchResult, *, profile: str, notice: str | None) -> SearchOut:
    """A result as JSON is made of it."""
    return SearchOut(
        hits=[_hit_out(hit) for hit in result.hits],
        transcript=result.transcript,
        partial=result.partial,
        missing={str(channel): why for channel, why in result.missing.items()},
        took_ms=dict(result.took_ms),
        profile=profile,
        notice=notice,
    )


def _hit_out(hit: Hit) -> HitOut:
    entry = hit.entry
    return HitOut(
        id=entry.id,
        collection=entry.collection,
        score=hit.score,
        tenant=entry.asset.tenant,
        topic=entry.asset.topic,
        key=entry.asset.key,
        part=entry.part,
        title=entry.title,
        text=entry.text,
        uri=entry.uri,
        mime=entry.mime,
        attributes=json.loads(entry.attributes_json or "{}"),
        start_ms=entry.start_ms,
        end_ms=entry.end_ms,
        start_char=entry.start_char,
        end_char=entry.end_char,
        event_time=_rfc3339(entry.event_time_ms),
        indexed_at=_rfc3339(entry.indexed_at_ms),
        origin=OriginOut(topic=entry.origin.topic, partition=entry.origin.partition, offset=entry.origin.offset),
        media_url=_media_url(entry),
        found_by=_found_by_out(hit.found_by),
        moment=None if hit.moment is None else _moment_out(hit.moment),
        indexing=hit.indexing,
    )


def _moment_out(moment: Moment) -> MomentOut:
    frame = moment.frame
    return MomentOut(
        start_ms=moment.start_ms,
        end_ms=moment.end_ms,
        transcript=moment.transcript,
        frame=None if frame is None else _frame_out(frame),
        members=[_member_out(member) for member in moment.members],
    )


def _frame_out(frame: Entry) -> FrameOut:
    return FrameOut(id=frame.id, start_ms=frame.start_ms, end_ms=frame.end_ms, thumbnail_url=_kept_url(frame.thumbnail))


def _member_out(member: MomentMember) -> MemberOut:
    entry = member.entry
    return MemberOut(
        id=entry.id,
        collection=entry.collection,
        part=entry.part,
        text=entry.text,
        start_ms=entry.start_ms,
        end_ms=entry.end_ms,
        found_by=_found_by_out(member.found_by),
    )


def _found_by_out(hits: Sequence[ChannelHit]) -> list[FoundByOut]:
    return [FoundByOut(channel=str(hit.channel), rank=hit.rank, score=hit.score) for hit in hits]


def _media_url(entry: Entry) -> str | None:
    """Where this server serves the media; None for a claim check, whose own address is in `uri`."""
    return _kept_url(entry.uri)


def _kept_url(uri: str) -> str | None:
    sha256 = sha256_of(uri)
    return None if sha256 is None else f"/v1/media/{sha256}"


def _rfc3339(milliseconds: int) -> str:
    """Times beyond the years 1 to 9999, which Kafka allows, become the nearest that RFC 3339 can write."""
    moment = _EPOCH + timedelta(milliseconds=min(max(milliseconds, _FIRST_MS), _LAST_MS))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
