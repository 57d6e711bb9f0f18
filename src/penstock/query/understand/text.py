"""Normalises the texts of a request."""

from __future__ import annotations

import unicodedata

from penstock.analysis.normal_form import normal_form
from penstock.errors import QueryError

# Sentence encoders read a few hundred tokens; ten times as many characters is a pasted document, not a query.
MAX_TEXT_CHARS = 10_000


def normalise_text(text: str, *, name: str = "text", field: str = "/text") -> str:
    """Returns the text as texts are indexed: what looks the same is the same, and one space separates words.

    Args:
        text: of the request.
        name, field: of the text, for errors.

    Raises:
        QueryError: it is too long, empty, or not valid Unicode.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise QueryError(
            f"{name} has {len(text):,} characters, more than the maximum of {MAX_TEXT_CHARS:,}",
            status=413,
            field=field,
        )
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise QueryError(f"{name} has half of a surrogate pair, which is not valid Unicode", field=field) from exc
    words = "".join(" " if unicodedata.category(char) == "Cc" else char for char in normal_form(text)).split()
    if all(unicodedata.category(char) == "Cf" for word in words for char in word):
        raise QueryError(f"{name} is empty: send what to search for", field=field)
    return " ".join(words)
