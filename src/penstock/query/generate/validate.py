"""Checks a question, and says what is searched for it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from penstock.config import GenerateSettings, QuerySettings
from penstock.errors import QueryError
from penstock.query.generate.types import EXTRACTIVE, AskRequest
from penstock.query.types import SearchRequest
from penstock.query.understand.text import normalise_text
from penstock.query.understand.understood import ChatMessage

AUTO = "auto"
OF_QUESTION = "question"  # the answer is in the language of the question
MAX_SOURCES = 50
MAX_PROFILE_FACTS = 10
MAX_PROFILE_CHARS = 200  # of a name or a fact
_LANGUAGE = re.compile(r"[a-z]{2}")


@dataclass(frozen=True, slots=True)
class Question:
    """A checked question with its defaults filled in.

    Attributes:
        text: its words; None: it is spoken, and its words are known once it is searched.
        search: what is searched for it.
        history: the conversation before it, the oldest first.
        extractive: whether the answer quotes the sources, and no generator writes it.
        max_sources: of the prompt.
        profile: facts about the asker, by name.
        answer_in: the language of the answer, ISO 639-1; None: that of the question.
        images: encoded images that came with it.
    """

    text: str | None
    search: SearchRequest
    history: tuple[ChatMessage, ...] = ()
    extractive: bool = True
    max_sources: int = 8
    profile: Mapping[str, str] = field(default_factory=dict)
    answer_in: str | None = None
    images: tuple[bytes, ...] = field(default=(), repr=False)


def check_request(
    request: AskRequest, settings: GenerateSettings, limits: QuerySettings, *, model: str | None
) -> Question:
    """Checks what only a question has; the search checks the rest.

    Args:
        request: as the client sent it.
        settings: of answers.
        limits: of searches.
        model: the name of the configured generator; None: there is none.

    Raises:
        QueryError: with the HTTP status and the field at fault.
    """
    text, history = _question(request)
    max_sources = settings.max_sources if request.max_sources is None else request.max_sources
    if not 1 <= max_sources <= MAX_SOURCES:
        raise QueryError(f"max_sources is {max_sources}; it can be 1 to {MAX_SOURCES}", field="/max_sources")
    if request.search.cursor is not None:
        raise QueryError("an answer has no pages: leave out cursor", field="/cursor")
    if request.answer_in != OF_QUESTION and not _LANGUAGE.fullmatch(request.answer_in):
        raise QueryError(
            f"answer_in is {request.answer_in!r}; it can be {OF_QUESTION}, or two letters such as en",
            field="/answer_in",
        )
    _check_profile(request.profile)
    understand = replace(request.search.understand, messages=history or request.search.understand.messages)
    return Question(
        text=text,
        search=replace(
            request.search,
            text=request.search.text if request.search.text is not None else text,
            limit=_limit(max_sources, limits) if request.search.limit is None else request.search.limit,
            understand=understand,
        ),
        history=understand.messages,
        extractive=_is_extractive(request.generator, model),
        max_sources=max_sources,
        profile=dict(request.profile),
        answer_in=None if request.answer_in == OF_QUESTION else request.answer_in,
        images=tuple(request.images),
    )


def _question(request: AskRequest) -> tuple[str | None, tuple[ChatMessage, ...]]:
    """Returns the words of the question, None if it is spoken, and the messages before it."""
    messages = tuple(request.messages)
    if request.question is not None:
        return normalise_text(request.question, name="question", field="/question"), messages
    if messages:
        last = messages[-1]
        if last.role != "user":
            raise QueryError(
                f"the last message is of {last.role}, and a question is one of user",
                field=f"/messages/{len(messages) - 1}/role",
            )
        text = normalise_text(last.content, name="content", field=f"/messages/{len(messages) - 1}/content")
        return text, messages[:-1]
    if request.search.audio is None:
        raise QueryError("there is no question: send question, messages or audio", field="/question")
    return None, ()


def _limit(max_sources: int, limits: QuerySettings) -> int:
    """Returns how many hits are searched: twice the sources, as some have no words, or the same as others."""
    return min(limits.max_limit, max(limits.limit, 2 * max_sources))


def _check_profile(profile: Mapping[str, str]) -> None:
    if len(profile) > MAX_PROFILE_FACTS:
        raise QueryError(
            f"profile has {len(profile)} facts, and at most {MAX_PROFILE_FACTS} are allowed", field="/profile"
        )
    for name, fact in profile.items():
        if max(len(name), len(fact)) > MAX_PROFILE_CHARS:
            raise QueryError(
                f"a fact of profile has more than {MAX_PROFILE_CHARS} characters",
                status=413,
                field=f"/profile/{name[:MAX_PROFILE_CHARS]}",
            )


def _is_extractive(generator: str, model: str | None) -> bool:
    names: Collection[str] = [AUTO, EXTRACTIVE, *([model] if model is not None else [])]
    if generator not in names:
        raise QueryError(f"there is no generator {generator!r}; there are {', '.join(names)}", field="/generator")
    return generator == EXTRACTIVE or model is None
