"""The records of what a request wants of its words, and of what was made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.config import SpellingMode


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message of the conversation before a question. The role is `user` or `assistant`."""

    role: str
    content: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class UnderstandRequest:
    """Says what a client wants of its words, unchecked; None: the setting.

    Attributes:
        spelling: a name of `SpellingMode`.
        synonyms: whether they are searched, too.
        rewrite: whether the generator may rewrite the question.
        messages: the conversation before it, the oldest first.
    """

    spelling: str | None = None
    synonyms: bool | None = None
    rewrite: bool | None = None
    messages: tuple[ChatMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class UnderstandOptions:
    """The checked wishes, with the settings filled in.

    Attributes:
        spelling: what is done with a word that is probably misspelt.
        synonyms: whether they are searched, too.
        rewrite: whether the generator rewrites the question.
        messages: the conversation before it, the oldest first.
    """

    spelling: SpellingMode = SpellingMode.OFF
    synonyms: bool = False
    rewrite: bool = False
    messages: tuple[ChatMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class WeightedWords:
    """Words that lexical channels search besides those of the question, and what their scores count."""

    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class RespeltWord:
    """A word that is probably misspelt, the word that was meant, and whether that was searched."""

    original: str
    corrected: str
    applied: bool


@dataclass(frozen=True, slots=True)
class Understood:
    """Reports what was made of a question.

    Attributes:
        original: the question as it was sent.
        used: the question that was searched.
        spelling: the words that are probably misspelt.
        synonyms: the words that lexical channels searched, too, by the word of the question.
        rewritten: the question as the generator wrote it; None: it did not.
        did_you_mean: the question with corrections that were not applied; None: there are none.
        extra: the words that lexical channels search besides.
    """

    original: str
    used: str
    spelling: tuple[RespeltWord, ...] = ()
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rewritten: str | None = None
    did_you_mean: str | None = None
    extra: tuple[WeightedWords, ...] = ()
