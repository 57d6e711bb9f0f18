"""Checks what a request wants of its words, a part of step 1."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.config import QuerySettings, SpellingMode
from penstock.errors import QueryError
from penstock.query.understand.understood import ChatMessage, UnderstandOptions, UnderstandRequest

MAX_MESSAGES = 50
MAX_MESSAGE_CHARS = 10_000
ROLES = ("user", "assistant")


def understand_options(requested: UnderstandRequest, settings: QuerySettings) -> UnderstandOptions:
    """Checks the `understand` and the `messages` of a request and fills in the settings.

    A question without messages stands alone: it is rewritten only where the request itself wants it.

    Raises:
        QueryError: with a pointer to the option at fault.
    """
    if requested.spelling is not None and requested.spelling not in list(SpellingMode):
        raise QueryError(
            f"spelling is {requested.spelling!r}; it can be {', '.join(SpellingMode)}", field="/understand/spelling"
        )
    _check_messages(requested.messages)
    by_setting = settings.rewrite and bool(requested.messages)
    return UnderstandOptions(
        spelling=settings.spelling if requested.spelling is None else SpellingMode(requested.spelling),
        synonyms=requested.synonyms is not False,
        rewrite=by_setting if requested.rewrite is None else requested.rewrite,
        messages=requested.messages,
    )


def _check_messages(messages: Sequence[ChatMessage]) -> None:
    if len(messages) > MAX_MESSAGES:
        raise QueryError(
            f"there are {len(messages)} messages, and at most {MAX_MESSAGES} are allowed", field="/messages"
        )
    for place, message in enumerate(messages):
        if message.role not in ROLES:
            raise QueryError(f"role is {message.role!r}; it can be {', '.join(ROLES)}", field=f"/messages/{place}/role")
        if len(message.content) > MAX_MESSAGE_CHARS:
            raise QueryError(
                f"content has {len(message.content):,} characters, more than the maximum of {MAX_MESSAGE_CHARS:,}",
                status=413,
                field=f"/messages/{place}/content",
            )
