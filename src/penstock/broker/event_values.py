"""Reads the values of CloudEvents attributes and JSON, and refuses wrong ones in words. Shared by all modes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from penstock.errors import BadInputError, Reason
from penstock.records import MAX_LABELS, is_label, sorted_labels

# Parsing must not cost much more memory than a message has: a message of 24 kB can unpack to 250 MB of JSON, which
# would take 7 GB as Python objects.
MAX_HEADER_BYTES = 256 * 1024

_REQUIRED = ("id", "source", "type", "specversion")


@dataclass(frozen=True, slots=True)
class ParsedMessage:
    """A message in any mode: CloudEvents attributes by name (none for bare media), content type and data."""

    attributes: Mapping[str, str]
    content_type: str | None
    data: bytes | None


def check_required(attributes: Mapping[str, str]) -> None:
    """Raises BadInputError if a CloudEvent lacks what CloudEvents 1.0 requires, or is of another version."""
    for name in _REQUIRED:
        if not attributes.get(name):
            refuse(f"the CloudEvent has no {name}, which CloudEvents 1.0 requires")
    if attributes["specversion"] != "1.0":
        refuse(f"CloudEvents {attributes['specversion']} is not supported; send specversion 1.0")


def load_json(text: str | bytes, source: str) -> object:
    """Parses JSON. Raises BadInputError, which names its source."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise BadInputError(Reason.MALFORMED, f"{source} is not JSON: {exc}") from exc


def load_object(text: str | bytes, source: str) -> dict[str, object]:
    """Parses a JSON object. Raises BadInputError, which names its source."""
    value = load_json(text, source)
    if not isinstance(value, dict):
        refuse(f"{source} is JSON, but a {type(value).__name__} and not an object")
    return value


def parse_labels(text: str) -> tuple[str, ...]:
    """Parses the labels of an event, as of `sorted_labels`. Raises BadInputError: wrong ones make nothing public."""
    labels = load_json(text, "the acl extension")
    if not isinstance(labels, list) or len(labels) > MAX_LABELS:
        refuse(f"acl is not a JSON list of at most {MAX_LABELS} labels")
    for label in labels:
        if not isinstance(label, str) or not is_label(label):
            refuse(f"acl has {str(label)[:80]!r}, which is not 1 to 128 letters, digits and . _ : @ / -")
    return sorted_labels(labels)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def to_utf8(name: str, text: str) -> bytes:
    """Encodes text. JSON can spell half a surrogate pair (`\\ud800`), which is not text and cannot be stored."""
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise BadInputError(Reason.MALFORMED, f"{name} has characters that are not Unicode text: {exc}") from exc


def refuse(message: str) -> NoReturn:
    """Raises BadInputError: the message is malformed."""
    raise BadInputError(Reason.MALFORMED, message)
