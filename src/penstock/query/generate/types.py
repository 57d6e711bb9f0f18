"""The records of an answer, AskRequest → Source → CheckedSentence → GeneratedAnswer, and the events of its stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from penstock.query.types import Hit, SearchRequest, SearchResult
from penstock.query.understand.understood import ChatMessage

EXTRACTIVE = "extractive"
"""The generator that quotes the best sentences of the sources, and writes none."""


class Support(StrEnum):
    """Names what the sources say about a sentence."""

    SUPPORTED = "supported"  # a cited sentence says it
    PARTLY = "partly"  # a cited sentence says most of it, or says it in other words
    CONTRADICTED = "contradicted"  # a cited sentence says otherwise: another number, or the opposite
    UNSUPPORTED = "unsupported"  # no source says it
    NO_CLAIM = "no_claim"  # it claims nothing about the sources, such as a greeting or a question


@dataclass(frozen=True, slots=True)
class AskRequest:
    """A question as the client sent it, unchecked.

    Attributes:
        question: its words; None: the last of the messages, or a spoken question.
        search: what is searched; its `text` is the question if that has words.
        messages: of the conversation before the question, the oldest first.
        generator: auto, extractive, or the name of the configured model.
        max_sources: maximum number of sources in the prompt; None: the setting.
        profile: facts about the asker, such as `domain` and `intent`, by name.
        answer_in: the language of the answer, ISO 639-1, or `question`: that of the question.
        images: encoded images that came with the question.
    """

    question: str | None
    search: SearchRequest
    messages: Sequence[ChatMessage] = ()
    generator: str = "auto"
    max_sources: int | None = None
    profile: Mapping[str, str] = field(default_factory=dict)
    answer_in: str = "question"
    images: Sequence[bytes] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class TimedRange:
    """A range of the text of a source, in characters, with its times, in milliseconds of media time."""

    start_char: int
    end_char: int
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Source:
    """Holds a hit and its words, on which the answer may rest.

    Attributes:
        number: in the prompt, from 1, in the order of the hits.
        hit: of the search.
        text: the words of the hit: its passage, its transcript, the words in its image or its title. What is
            spoken or shown at another time begins a paragraph.
        image: an encoded image of the hit that the generator sees; None: it sees words alone.
        times: of the parts of its text, in their order; empty if it has none.
    """

    number: int
    hit: Hit
    text: str
    image: bytes | None = field(default=None, repr=False)
    times: tuple[TimedRange, ...] = ()

    def span_ms(self, start_char: int, end_char: int) -> tuple[int, int] | None:
        """Returns the milliseconds in which a range of its text is spoken or shown; None if it has no times."""
        parts = [part for part in self.times if part.start_char < end_char and part.end_char > start_char]
        return (min(part.start_ms for part in parts), max(part.end_ms for part in parts)) if parts else None


@dataclass(frozen=True, slots=True)
class Quote:
    """The sentence of a source that says most of what a sentence of the answer says.

    Attributes:
        source: the number of the source.
        text: verbatim.
        start_char, end_char: within `Source.text`, in characters.
        start_ms, end_ms: milliseconds of media time of the part that says or shows it; None: the source has no times.
    """

    source: int
    text: str
    start_char: int
    end_char: int
    start_ms: int | None = None
    end_ms: int | None = None


@dataclass(frozen=True, slots=True)
class CheckedSentence:
    """A sentence of an answer, after its check.

    Attributes:
        text: without markers of citations.
        citations: numbers of the sources that support it; after repair, so not always those that were written.
        support: what the sources say about it.
        score: 0 to 1, how much of it they say.
        quotes: the sentence of each cited source that says most of it, in the order of the citations.
        repaired: whether its citations are others than those that were written.
        because: why it is not supported, in words; None if it is.
    """

    text: str
    citations: tuple[int, ...]
    support: Support
    score: float
    quotes: tuple[Quote, ...] = ()
    repaired: bool = False
    because: str | None = None


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """The tokens of an answer, as the generator counts them; None: it does not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class GeneratedAnswer:
    """The answer to a question.

    Over the limit because each field of a response is an attribute.

    Attributes:
        id: 32 hexadecimal digits.
        text: the sentences that are shown, with markers such as `[1]`, whose numbers are 1, 2 … in the order of
            first use.
        sentences: those of the text; dropped ones are not among them.
        sources: the cited ones, numbered as in the text.
        also: the other sources that the generator had, numbered on.
        dropped: sentences that were left out, with the reason in `because`.
        abstained: whether the sources do not answer the question. `text` then says so, and names the nearest sources.
        why: the reason for that, in words.
        generator: the name of the model, or `extractive`.
        usage: its tokens.
        partial: whether the generator ended early or a channel of the search was missing.
        notices: limitations of this answer, a sentence each.
        search: what the search found.
        took_ms: milliseconds by step: those of the search, `first_token`, `generate`, `check`, and `total`.
        prompt: what the generator read, or would have, as text; None unless the request has `explain`.
    """

    id: str
    text: str
    sentences: tuple[CheckedSentence, ...]
    sources: tuple[Source, ...]
    also: tuple[Source, ...]
    dropped: tuple[CheckedSentence, ...]
    abstained: bool
    why: str | None
    generator: str
    usage: TokenUsage
    partial: bool
    notices: tuple[str, ...]
    search: SearchResult
    took_ms: Mapping[str, float]
    prompt: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SearchEvent:
    """The search has ended: the sources that the answer may rest on. Comes first."""

    answer_id: str
    search: SearchResult
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """A piece of text as the generator wrote it, unchecked. Markers in it have the numbers of `SearchEvent.sources`."""

    text: str


@dataclass(frozen=True, slots=True)
class SentenceEvent:
    """A sentence has been checked.

    Attributes:
        sentence: with the numbers of the shown answer; a client shows it instead of the tokens.
        sources: numbers of the shown answer that this sentence cites first, with their source.
        replaces: the range of the text of all tokens so far that it stands for, in characters.
        dropped: whether it is not part of the answer.
        before: the text between the shown sentence before and this one; empty for the first, and for a dropped one.
    """

    sentence: CheckedSentence
    sources: Mapping[int, Source]
    replaces: tuple[int, int]
    dropped: bool
    before: str = ""


@dataclass(frozen=True, slots=True)
class DoneEvent:
    """The answer is complete. Comes last."""

    answer: GeneratedAnswer


AnswerEvent: TypeAlias = SearchEvent | TokenEvent | SentenceEvent | DoneEvent
