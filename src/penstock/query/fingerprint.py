"""The fingerprint of a request: equal for requests that ask for the same hits, on every replica."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from penstock.query.types import SearchRequest

FINGERPRINT_BYTES = 16
# An item of a list costs as much as some characters of a text.
_ITEM_CHARS = 16
# What decides how many hits come, and how long they may take, but not which ones or their order.
_NOT_COUNTED = frozenset({"limit", "deadline_ms", "cursor", "explain"})


def fingerprint(request: SearchRequest) -> bytes:
    """Returns 16 bytes; two requests that differ in more than page, limit and deadline have different ones.

    Hashes all bytes of images and audio, some 20 ms for 20 MB.
    """
    named = {name: value for name, value in _named(request).items() if name not in _NOT_COUNTED}
    plain = json.dumps(named, default=_plain, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=FINGERPRINT_BYTES).digest()


def is_larger(request: SearchRequest, max_chars: int) -> bool:
    """Returns whether all words, lists and maps of an unchecked request exceed a size, without reading further.

    Media do not count.
    """
    chars = 0
    pending: list[Any] = [request]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            chars += len(value)
        elif is_dataclass(value):
            pending += _named(value).values()
        elif isinstance(value, Mapping | Sequence | Set) and not isinstance(value, bytes | bytearray):
            chars += _ITEM_CHARS * len(value)
            if chars <= max_chars:
                pending += [*value, *value.values()] if isinstance(value, Mapping) else value
        if chars > max_chars:
            return True
    return False


def _named(record: Any) -> dict[str, Any]:
    """Returns the fields that differ from their defaults: so one that a later version adds changes nothing."""
    return {
        field.name: value
        for field in fields(record)
        if (value := getattr(record, field.name)) is not None and value != field.default
    }


def _plain(value: Any) -> Any:
    """Returns what JSON can express for a value that it cannot. Classes are named: two may have the same fields."""
    if isinstance(value, bytes | bytearray):
        return {"bytes": hashlib.blake2b(value, digest_size=FINGERPRINT_BYTES).hexdigest()}
    if is_dataclass(value):
        return {type(value).__name__: _named(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Set):
        return sorted(value)
    raise TypeError(f"a request cannot hold {type(value).__name__}")
