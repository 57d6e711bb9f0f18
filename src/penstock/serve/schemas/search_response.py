"""The JSON that `POST /v1/search` answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter

from penstock.query.options import RerankReport
from penstock.query.result_cache import CachedHits
from penstock.query.types import ChannelHit, Hit, Moment, MomentMember, SearchResult
from penstock.records import Collection, Entry
from penstock.serve.media_links import link_period
from penstock.serve.schemas.explanation import ExplanationOut, explanation_out
from penstock.serve.schemas.media_urls import captions_url, hit_thumbnail_url, media_url, page_url
from penstock.serve.schemas.times import rfc3339


class OriginOut(BaseModel):
    """The Kafka position of the event that wrote an entry."""

    topic: str
    partition: int
    offset: int


class FoundByOut(BaseModel):
    """The rank and the score that one channel gave the entry."""

    channel: str = Field(examples=["image.joint"], description="collection and vector field")
    rank: int = Field(examples=[1], description="from 1")
    score: float = Field(examples=[0.31], description="cosine similarity or BM25; comparable only within the channel")


class MemberOut(BaseModel):
    """An entry of a moment."""

    id: str
    collection: str = Field(examples=["speech"])
    part: int
    text: str = Field(description="transcript; empty for a frame")
    start_ms: int
    end_ms: int
    found_by: list[FoundByOut]


class FrameOut(BaseModel):
    """The frame of a moment that was ranked best."""

    id: str
    start_ms: int = Field(description="start of its shot")
    end_ms: int
    thumbnail_url: str | None = Field(description="path of its thumbnail, a small JPEG")


class MomentOut(BaseModel):
    """A range of time within a video or audio asset that answers the query."""

    start_ms: int = Field(description="milliseconds from the start of the media; where to start playing")
    end_ms: int
    transcript: str = Field(description="text of the speech entries that were found, in order of time")
    frame: FrameOut | None = Field(description="null if only speech was found")
    members: list[MemberOut] = Field(description="its entries, in order of time")


class OtherOut(BaseModel):
    """A further entry or moment of the asset of a hit, of a search that groups by asset."""

    id: str
    collection: str = Field(examples=["speech"])
    score: float
    relevance: float | None
    part: int
    text: str = Field(description="passage, or transcript of the moment; empty for an image")
    start_ms: int = Field(description="of the moment, milliseconds; 0 without times")
    end_ms: int
    start_char: int
    end_char: int
    page: int | None = Field(description="page of the document, from 1; null for other media")
    page_label: str | None = Field(
        description="the name of that page where it has another one: a printed number, a sheet or a chapter; else null",
    )


class HitOut(BaseModel):
    """An entry, or a moment: then its best entry, with all of its entries in `moment`."""

    id: str = Field(description="32 hexadecimal digits; always the same for one part of one asset")
    collection: str = Field(examples=["image"])
    score: float = Field(description="from the fusion; it only orders the hits of one search")
    tenant: str
    topic: str
    key: str
    part: int = Field(description="number of the passage within its asset, from 0")
    title: str
    text: str = Field(description="passage or transcript; empty for an image")
    uri: str = Field(description="address of the media; empty where readers do not get it (`fetch.allow`, `show`)")
    mime: str
    attributes: dict[str, Any]
    start_ms: int
    end_ms: int
    start_char: int = Field(description="position of the passage in its text, in characters")
    end_char: int
    page: int | None = Field(description="page of the document, from 1; null for other media", examples=[12])
    page_label: str | None = Field(
        description="the name of that page where it has another one: a printed number, a sheet or a chapter; else null",
        examples=["iv"],
    )
    figure: int | None = Field(
        description="number of the image on that page, from 1; 0 for the page as it looks; null for passages and others"
    )
    event_time: str = Field(description="RFC 3339: time of the event")
    indexed_at: str = Field(description="RFC 3339: time of the write to the index")
    origin: OriginOut
    media_url: str | None = Field(description="path of the media, if Penstock stores them")
    page_url: str | None = Field(
        examples=["/v1/media/5feceb66…#page=12"],
        description="that path with the page at which a browser opens a PDF; null for others",
    )
    thumbnail_url: str | None = Field(
        description="path of a small JPEG, of an image, of the page of a document or of a video at the moment that was "
        "found; add `&w=` for its width; null where there is none"
    )
    captions_url: str | None = Field(
        description="path of the words of audio or video as WebVTT; null for others, and where Penstock does not store "
        "the media"
    )
    found_by: list[FoundByOut] = Field(
        description="the channels that found it; for a moment, the best rank that each gave one of its entries"
    )
    moment: MomentOut | None = Field(description="for audio and video; null for texts, images and documents")
    indexing: bool = Field(
        description="whether later segments of this audio, video or document are still being indexed"
    )
    relevance: float | None = Field(
        examples=[0.83],
        description="estimated probability that it answers the query; null for an image query or without calibration",
    )
    below_floor: bool = Field(description="whether that is below the setting query.relevance_floor")
    promoted: bool = Field(
        description="whether it is first for the share of its kind in the index, before a more relevant hit of another "
        "kind (query.first_places)"
    )
    clicked: float | None = Field(
        examples=[0.6],
        description="probability that it answers the query by what people chose for close questions alone; null where "
        "it was never chosen, or choices do not count (docs/feedback.md)",
    )
    others: list[OtherOut] = Field(
        description="further hits of the same asset, best first, at most ten, if grouped by asset; for a passage of a "
        "document the image of its page; else empty"
    )
    explain: ExplanationOut | None = Field(description="the reasons for its place; null without `explain`")


class SpellingOut(BaseModel):
    """A word that is probably misspelt, and the word of the index that was meant."""

    original: str = Field(serialization_alias="from", examples=["ancor"])
    corrected: str = Field(serialization_alias="to", examples=["anchor"])
    applied: bool = Field(description="whether the corrected word was searched")


class QueryOut(BaseModel):
    """The query as it was understood."""

    asked: str | None = Field(examples=["ancor silvr"], description="its text as it was sent; null without one")
    used: str | None = Field(description="the text that was searched", examples=["ancor silvr"])
    language: str | None = Field(examples=["ja"], description="language of its text, ISO 639-1; null if not certain")
    compose: dict[str, float] = Field(
        description="weights of the parts of the query; empty if it has one part",
        examples=[{"text": 1.0, "image": 1.0}],
    )
    frame_image: str | None = Field(
        examples=["thumbnail"],
        description="where the image of `frame` comes from: stored vector (of all of it), stored media, claim check "
        "or thumbnail; null without `frame`",
    )
    route: dict[str, float] = Field(
        examples=[{"image.joint": 1.0, "text.passage": 0.3, "text.lexical": 0.3}],
        description="weights of the channels that answered, and of named sources that do not weigh 1",
    )
    proposed_filter: dict[str, Any] | None = Field(
        examples=[{"attributes.camera": "x100"}],
        description="a filter that the words of the query imply, to send as `filter`; it was not applied",
    )
    spelling: list[SpellingOut] = Field(description="words that are probably misspelt")
    did_you_mean: str | None = Field(
        examples=["anchor silver"], description="the text with corrections that were not applied; null without any"
    )
    synonyms: dict[str, list[str]] = Field(
        description="words that lexical channels searched besides, by the word of the text",
        examples=[{"tv": ["television"]}],
    )
    rewritten: str | None = Field(description="the text as the generator rewrote it; null if it did not")
    because: list[str] = Field(
        description="the reasons, in sentences, for what was done differently from the request and the settings"
    )


class RerankOut(BaseModel):
    """Reports what the reranking model read."""

    model: str = Field(examples=["maxsim"])
    done: int = Field(description="hits that it read within its budget")
    of: int = Field(description="hits with words among those that might change places")
    ms: float


class SearchOut(BaseModel):
    """The hits, best first, with the channels and the times of the search."""

    hits: list[HitOut]
    transcript: str | None = Field(description="text of a spoken query; null for other queries")
    next_cursor: str | None = Field(description="`cursor` of a request for the next hits; null: there are none")
    changed: bool = Field(
        description="whether the pages before would be others now, as the index has changed or a channel was "
        "late; no hit is repeated"
    )
    nothing_found: bool = Field(
        description="whether nothing in the index answers the query well; hits, if any, are the nearest there are"
    )
    why: str | None = Field(description="the reason for `nothing_found`; null otherwise")
    partial: bool = Field(description="whether a channel failed or was late: better hits may be missing")
    missing: dict[str, str] = Field(
        description="channels that were left out, with the reason; includes those that this store does not offer",
        examples=[{"text.lexical": "did not answer within the deadline"}],
    )
    took_ms: dict[str, float] = Field(
        description="milliseconds by step: transcribe (spoken queries), understand, route, encode, search, fuse, "
        "rerank (if on), diversify, judge, explain (if requested), mark (media that are still being indexed), total",
        examples=[{"route": 0.5, "encode": 7.1, "search": 5.2, "fuse": 0.5, "judge": 0.4, "total": 13.7}],
    )
    profile: str = Field(examples=["reference"])
    index_version: int = Field(examples=[1], description="the version of the index that the whole answer is from")
    notice: str | None = Field(description="a limitation of the models of the profile")
    notices: list[str] = Field(
        description="limitations of this answer: that of the models, and that they do not know the query's language"
    )
    query: QueryOut
    rerank: RerankOut | None = Field(description="null if the hits were not reranked")


_HITS = TypeAdapter(list[HitOut])
_NO_HITS = '{"hits":[]'  # what an answer without hits begins with


def search_out(result: SearchResult, *, profile: str, notice: str | None) -> SearchOut:
    """Returns the JSON of a result."""
    return SearchOut(
        hits=[hit_out(hit) for hit in result.hits],
        transcript=result.transcript,
        next_cursor=result.next_cursor,
        changed=result.changed,
        nothing_found=result.nothing_found,
        why=result.why,
        partial=result.partial,
        missing={str(channel): reason for channel, reason in result.missing.items()},
        took_ms=dict(result.took_ms),
        profile=profile,
        index_version=result.index_version,
        notice=notice,
        notices=[*([notice] if notice else []), *result.notices],
        query=query_out(result),
        rerank=None if result.rerank is None else _rerank_out(result.rerank),
    )


def query_out(result: SearchResult) -> QueryOut:
    """Returns the JSON of a query as it was understood."""
    understood = result.understood
    return QueryOut(
        asked=understood and understood.original,
        used=understood and understood.used,
        language=result.language,
        compose={part.value: weight for part, weight in sorted(result.weights.items())},
        frame_image=result.image_source,
        route=dict(result.route),
        proposed_filter=None if result.proposed_filter is None else dict(result.proposed_filter),
        spelling=[SpellingOut(**asdict(word)) for word in understood.spelling] if understood else [],
        did_you_mean=understood and understood.did_you_mean,
        synonyms={word: list(others) for word, others in understood.synonyms.items()} if understood else {},
        rewritten=understood and understood.rewritten,
        because=list(result.because),
    )


def search_json(result: SearchResult, *, profile: str, notice: str | None) -> str:
    """Returns `search_out` as text. That of hits that are cached is kept beside them."""
    if not isinstance(hits := result.hits, CachedHits):
        return search_out(result, profile=profile, notice=notice).model_dump_json(by_alias=True)
    rest = search_out(replace(result, hits=()), profile=profile, notice=notice).model_dump_json(by_alias=True)
    if not hits.json or hits.links != link_period():
        hits.links = link_period()
        hits.json = _HITS.dump_json([hit_out(hit) for hit in hits]).decode()
    return f'{{"hits":{hits.json}{rest.removeprefix(_NO_HITS)}'


def _rerank_out(report: RerankReport) -> RerankOut:
    return RerankOut(model=report.model, done=report.done, of=report.of, ms=round(report.ms, 3))


def hit_out(hit: Hit) -> HitOut:
    """Returns the JSON of a hit."""
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
        page=entry.page or None,
        page_label=entry.page_label or None,
        figure=entry.figure if entry.collection is Collection.PAGE else None,
        event_time=rfc3339(entry.event_time_ms),
        indexed_at=rfc3339(entry.indexed_at_ms),
        origin=OriginOut(topic=entry.origin.topic, partition=entry.origin.partition, offset=entry.origin.offset),
        media_url=media_url(entry.uri, entry.asset.tenant),
        page_url=page_url(entry),
        thumbnail_url=hit_thumbnail_url(hit),
        captions_url=captions_url(entry),
        found_by=_found_by_out(hit.found_by),
        moment=None if hit.moment is None else _moment_out(hit.moment),
        indexing=hit.indexing,
        relevance=None if hit.relevance is None else round(hit.relevance, 4),
        below_floor=hit.below_floor,
        promoted=hit.promoted,
        clicked=None if hit.clicked is None else round(hit.clicked, 4),
        others=[_other_out(other) for other in hit.others],
        explain=None if hit.explanation is None else explanation_out(hit.explanation, promoted=hit.promoted),
    )


def _other_out(hit: Hit) -> OtherOut:
    entry, moment = hit.entry, hit.moment
    return OtherOut(
        id=entry.id,
        collection=entry.collection,
        score=hit.score,
        relevance=None if hit.relevance is None else round(hit.relevance, 4),
        part=entry.part,
        text=moment.transcript if moment else entry.text,
        start_ms=moment.start_ms if moment else entry.start_ms,
        end_ms=moment.end_ms if moment else entry.end_ms,
        start_char=entry.start_char,
        end_char=entry.end_char,
        page=entry.page or None,
        page_label=entry.page_label or None,
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
    return FrameOut(
        id=frame.id,
        start_ms=frame.start_ms,
        end_ms=frame.end_ms,
        thumbnail_url=media_url(frame.thumbnail, frame.asset.tenant),
    )


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
