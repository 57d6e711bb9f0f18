"""The JSON of answers to questions, whole and as the events of a stream (docs/ask.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, TypedDict

from penstock.client.results import HitJson, QueryJson


class QuoteJson(TypedDict):
    """The sentence of a source that says most of what a sentence of the answer says."""

    n: int
    text: str
    start_char: int
    end_char: int
    start_ms: int | None
    end_ms: int | None


class SentenceJson(TypedDict):
    """A sentence of an answer, after its check against the sources."""

    text: str
    citations: Sequence[int]
    support: str
    score: float
    quotes: Sequence[QuoteJson]
    repaired: bool
    because: str | None


class CheckJson(TypedDict):
    """The JSON of `POST /v1/check`."""

    sentences: Sequence[SentenceJson]


class SourceJson(TypedDict):
    """A hit on which an answer may rest, with its number there."""

    n: int
    hit: HitJson
    quote: str | None
    start_char: int | None
    end_char: int | None
    start_ms: int | None
    end_ms: int | None
    play_url: str | None
    thumbnail_url: str | None


class UsageJson(TypedDict):
    """Tokens, as the generator counts them; None: it does not say."""

    prompt_tokens: int | None
    completion_tokens: int | None


class AnswerSearchJson(TypedDict):
    """The search behind an answer."""

    answer_id: str
    search_id: str
    transcript: str | None
    partial: bool
    missing: Mapping[str, str]
    took_ms: Mapping[str, float]
    index_version: int


class AnswerJson(AnswerSearchJson):
    """An answer, of which each sentence was checked. `sources` are the cited ones, `also` the others.

    Over the limit because each field of the answer is a key.
    """

    answer: str
    sentences: Sequence[SentenceJson]
    sources: Sequence[SourceJson]
    also: Sequence[SourceJson]
    dropped: Sequence[SentenceJson]
    abstained: bool
    why: str | None
    generator: str
    usage: UsageJson
    notice: str | None
    notices: Sequence[str]
    query: QueryJson
    prompt: str | None


class AnswerStartJson(AnswerSearchJson):
    """The data of the event `search`: what was found before the answer is written."""

    sources: Sequence[SourceJson]
    nothing_found: bool
    why: str | None
    query: QueryJson


class TokenJson(TypedDict):
    """The data of the event `token`: text as the generator wrote it, not checked yet."""

    text: str


class CheckedSentenceJson(SentenceJson):
    """The data of the event `sentence`: it replaces a range of the tokens so far, in characters."""

    replaces: Sequence[int]
    dropped: bool
    before: str
    sources: Sequence[SourceJson]


class AnswerStart(NamedTuple):
    """The first event of a streamed answer."""

    data: AnswerStartJson
    name: Literal["search"] = "search"


class AnswerToken(NamedTuple):
    """Text that was written and not checked yet."""

    data: TokenJson
    name: Literal["token"] = "token"


class AnswerChecked(NamedTuple):
    """A sentence that was checked."""

    data: CheckedSentenceJson
    name: Literal["sentence"] = "sentence"


class AnswerDone(NamedTuple):
    """The last event: the whole answer."""

    data: AnswerJson
    name: Literal["done"] = "done"


AnswerEventJson: TypeAlias = AnswerStart | AnswerToken | AnswerChecked | AnswerDone
