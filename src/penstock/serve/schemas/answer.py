"""The JSON that `POST /v1/ask` answers, whole and as events."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, Field

from penstock.query.generate.types import (
    CheckedSentence,
    GeneratedAnswer,
    Quote,
    SearchEvent,
    SentenceEvent,
    Source,
    Support,
)
from penstock.query.types import Hit
from penstock.serve.schemas.media_urls import is_pictured, thumbnail_path
from penstock.serve.schemas.search_response import HitOut, QueryOut, hit_out, query_out


class QuoteOut(BaseModel):
    """The sentence of a source that says most of what a sentence of the answer says."""

    n: int = Field(description="the number of the source")
    text: str = Field(description="verbatim")
    start_char: int = Field(description="position in the words of the source, in characters")
    end_char: int
    start_ms: int | None = Field(description="when it is spoken or shown, milliseconds; null: the source has no times")
    end_ms: int | None


class SentenceOut(BaseModel):
    """A sentence, after its check."""

    text: str = Field(description="without the marks of its citations")
    citations: list[int] = Field(description="numbers of the sources that support it", examples=[[1]])
    support: Support = Field(description="what the sources say about it; no_claim: it claims nothing about them")
    score: float = Field(description="0 to 1: how much of it they say")
    quotes: list[QuoteOut] = Field(description="of each cited source, the sentence that says most of it")
    repaired: bool = Field(description="whether its citations are others than the generator wrote")
    because: str | None = Field(description="why it is not supported; null if it is")


class SourceOut(BaseModel):
    """A hit on which the answer may rest."""

    n: int = Field(description="its number in the answer", examples=[1])
    hit: HitOut
    quote: str | None = Field(description="what the answer rests on, verbatim; null: the answer does not cite it")
    start_char: int | None = Field(description="position of the quote in the words of the source, in characters")
    end_char: int | None
    start_ms: int | None = Field(
        description="when the quote, or else the hit, is spoken or shown, milliseconds; null: it has no times"
    )
    end_ms: int | None
    play_url: str | None = Field(
        description="path of the audio or video with the seconds to play; null if Penstock does not store it",
        examples=["/v1/media/5feceb66…#t=12.3,15.0"],
    )
    thumbnail_url: str | None = Field(
        description="path of a small JPEG of the image, of the best frame or of the page; null where there is none"
    )


class UsageOut(BaseModel):
    """Tokens, as the generator counts them; null: it does not say."""

    prompt_tokens: int | None
    completion_tokens: int | None


class FoundOut(BaseModel):
    """Reports the search behind an answer."""

    answer_id: str = Field(description="32 hexadecimal digits")
    search_id: str = Field(description="32 hexadecimal digits")
    transcript: str | None = Field(description="text of a spoken question; null for others")
    partial: bool = Field(description="whether the generator ended early, or a channel failed or was late")
    missing: dict[str, str] = Field(description="channels that were left out, with the reason")
    took_ms: dict[str, float] = Field(
        description="milliseconds by step: those of the search, first_token, generate, check, total"
    )
    index_version: int = Field(examples=[1], description="the version of the index that was searched")


class AnswerOut(FoundOut):
    """An answer, of which each sentence was checked against the sources.

    Over the limit because each field of a response is an attribute.
    """

    answer: str = Field(examples=["Herons eat fish and frogs [1]."], description="the sentences, with [1], [2] … after")
    sentences: list[SentenceOut] = Field(description="those of the answer")
    sources: list[SourceOut] = Field(description="the cited ones: 1, 2 … in the order of first use")
    also: list[SourceOut] = Field(description="the others that the generator had, numbered on")
    dropped: list[SentenceOut] = Field(description="sentences that were left out, as no source supports them")
    abstained: bool = Field(description="whether the sources do not answer the question; `answer` says so")
    why: str | None = Field(description="the reason for that; null otherwise")
    generator: str = Field(examples=["extractive"], description="the model that wrote it, or extractive")
    usage: UsageOut
    notice: str | None = Field(description="a limitation of the models of the profile")
    notices: list[str] = Field(description="limitations of this answer")
    query: QueryOut
    prompt: str | None = Field(description="what the generator read, as text; null without `explain`")


class SearchEventOut(FoundOut):
    """The first event, `search`: what was found."""

    sources: list[SourceOut] = Field(
        description="with the numbers of the marks in `token` events; those of the answer come with its sentences"
    )
    nothing_found: bool = Field(description="whether nothing in the index answers the question well")
    why: str | None = Field(description="the reason for `nothing_found`; null otherwise")
    query: QueryOut


class TokenEventOut(BaseModel):
    """The event `token`: a piece of text as the generator wrote it, not checked yet."""

    text: str


class SentenceEventOut(SentenceOut):
    """The event `sentence`: a sentence was checked. A client shows it in the place of the tokens that it replaces."""

    replaces: tuple[int, int] = Field(
        description="the range of the text of all tokens so far that it stands for, in characters"
    )
    dropped: bool = Field(description="whether it is not part of the answer, as no source supports it")
    before: str = Field(description="the text between the shown sentence before and this one")
    sources: list[SourceOut] = Field(
        description="those that this sentence cites first, with their numbers in the answer"
    )


def answer_out(answer: GeneratedAnswer, *, notice: str | None, unnamed_tenant: str | None) -> AnswerOut:
    """Returns the JSON of an answer."""
    quotes = _first_quotes(answer.sentences)
    result = answer.search

    def sources_out(sources: Iterable[Source]) -> list[SourceOut]:
        return [source_out(source, quotes.get(source.number), unnamed_tenant=unnamed_tenant) for source in sources]

    return AnswerOut(
        answer_id=answer.id,
        search_id=search_id_of(answer.id),
        transcript=result.transcript,
        partial=answer.partial,
        missing={str(channel): reason for channel, reason in result.missing.items()},
        took_ms=dict(answer.took_ms),
        index_version=result.index_version,
        answer=answer.text,
        sentences=[sentence_out(sentence) for sentence in answer.sentences],
        sources=sources_out(answer.sources),
        also=sources_out(answer.also),
        dropped=[sentence_out(sentence) for sentence in answer.dropped],
        abstained=answer.abstained,
        why=answer.why,
        generator=answer.generator,
        usage=UsageOut(prompt_tokens=answer.usage.prompt_tokens, completion_tokens=answer.usage.completion_tokens),
        notice=notice,
        notices=[*([notice] if notice else []), *answer.notices],
        query=query_out(result),
        prompt=answer.prompt,
    )


def search_event_out(event: SearchEvent, *, unnamed_tenant: str | None) -> SearchEventOut:
    """Returns the JSON of the first event of an answer."""
    result = event.search
    return SearchEventOut(
        answer_id=event.answer_id,
        search_id=search_id_of(event.answer_id),
        transcript=result.transcript,
        partial=result.partial,
        missing={str(channel): reason for channel, reason in result.missing.items()},
        took_ms=dict(result.took_ms),
        index_version=result.index_version,
        sources=[source_out(source, None, unnamed_tenant=unnamed_tenant) for source in event.sources],
        nothing_found=result.nothing_found,
        why=result.why,
        query=query_out(result),
    )


def sentence_event_out(event: SentenceEvent, *, unnamed_tenant: str | None) -> SentenceEventOut:
    """Returns the JSON of a checked sentence."""
    quotes = _first_quotes([event.sentence])
    return SentenceEventOut(
        **sentence_out(event.sentence).__dict__,
        replaces=event.replaces,
        dropped=event.dropped,
        before=event.before,
        sources=[
            source_out(source, quotes.get(number), unnamed_tenant=unnamed_tenant, number=number)
            for number, source in sorted(event.sources.items())
        ],
    )


def sentence_out(sentence: CheckedSentence) -> SentenceOut:
    """Returns the JSON of a sentence."""
    return SentenceOut(
        text=sentence.text,
        citations=list(sentence.citations),
        support=sentence.support,
        score=round(sentence.score, 4),
        quotes=[_quote_out(quote) for quote in sentence.quotes],
        repaired=sentence.repaired,
        because=sentence.because,
    )


def source_out(
    source: Source, quoted: Quote | None, *, unnamed_tenant: str | None, number: int | None = None
) -> SourceOut:
    """Returns the JSON of a source.

    Args:
        source: a hit with its words.
        quoted: what the answer rests on; None: it does not cite the source.
        unnamed_tenant: whose media need no tenant in their paths; None: all need one.
        number: of the source in the answer; None: its own.
    """
    hit = hit_out(source.hit)
    span = _span_ms(source, quoted)
    return SourceOut(
        n=source.number if number is None else number,
        hit=hit,
        quote=None if quoted is None else quoted.text,
        start_char=None if quoted is None else quoted.start_char,
        end_char=None if quoted is None else quoted.end_char,
        start_ms=None if span is None else span[0],
        end_ms=None if span is None else span[1],
        play_url=None if span is None or hit.media_url is None else f"{hit.media_url}#t={_seconds(*span)}",
        thumbnail_url=_thumbnail_url(source.hit, unnamed_tenant),
    )


def search_id_of(answer_id: str) -> str:
    """Returns the id of the search of an answer, by which events may name it apart from the answer."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"penstock:search:{answer_id}").hex


def _first_quotes(sentences: Iterable[CheckedSentence]) -> Mapping[int, Quote]:
    """Returns for each cited source the quote of the sentence that cites it first."""
    quotes: dict[int, Quote] = {}
    for sentence in sentences:
        for quoted in sentence.quotes:
            quotes.setdefault(quoted.source, quoted)
    return quotes


def _quote_out(quoted: Quote) -> QuoteOut:
    return QuoteOut(
        n=quoted.source,
        text=quoted.text,
        start_char=quoted.start_char,
        end_char=quoted.end_char,
        start_ms=quoted.start_ms,
        end_ms=quoted.end_ms,
    )


def _span_ms(source: Source, quoted: Quote | None) -> tuple[int, int] | None:
    if quoted is not None and quoted.start_ms is not None and quoted.end_ms is not None:
        return quoted.start_ms, quoted.end_ms
    moment = source.hit.moment
    return None if moment is None else (moment.start_ms, moment.end_ms)


def _seconds(start_ms: int, end_ms: int) -> str:
    """Returns a range of time as media fragments write it: 12.3,15.0."""
    return f"{start_ms / 1000:.1f},{end_ms / 1000:.1f}"


def _thumbnail_url(hit: Hit, unnamed_tenant: str | None) -> str | None:
    frame = hit.moment.frame if hit.moment is not None else None
    pictured = frame if frame is not None else hit.entry if is_pictured(hit.entry) else None
    if pictured is None:
        return None
    return thumbnail_path(pictured, unnamed_tenant=unnamed_tenant)
