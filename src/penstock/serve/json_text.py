"""Checks the strings of a JSON body, which may hold halves of surrogate pairs: JSON can write them, UTF-8 cannot."""

from __future__ import annotations

from penstock.errors import QueryError


def check_unicode(value: object, pointer: str = "") -> None:
    """Raises QueryError for a string, or a name of a field, that is not valid Unicode.

    Args:
        value: of JSON, at any depth that a body can have.
        pointer: to the value, as JSON Pointer writes it (RFC 6901).
    """
    waiting = [(value, pointer)]
    while waiting:
        value, pointer = waiting.pop()
        if isinstance(value, str) and not value.isascii():
            _check(value, pointer)
        elif isinstance(value, dict):
            for name in value:
                _check(str(name), pointer or "/")
            waiting += [(part, f"{pointer}/{name}") for name, part in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(part, f"{pointer}/{number}") for number, part in enumerate(value)]


def _check(text: str, pointer: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise QueryError("half of a surrogate pair, which is not valid Unicode", field=pointer) from exc
