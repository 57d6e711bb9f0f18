"""Reads CloudEvents in structured mode: one JSON document with the attributes and the data.

It is read here and not by the CloudEvents SDK, because the SDK invents a missing `id` or `specversion`: a record read
twice would be two assets. Nothing of the document becomes Python objects but the attributes that are used, each of
limited size: an empty object takes 2 bytes in JSON and 64 in memory.
"""

from __future__ import annotations

import base64
import re

import msgspec

from penstock.broker.event_values import MAX_HEADER_BYTES, ParsedMessage, check_required, load_json, refuse, to_utf8
from penstock.errors import BadInputError, Reason

MAX_STRUCTURED_BYTES = 16 * 1024 * 1024

_JSON_TYPE = re.compile(r"(application|text)/([a-z0-9.+-]+\+)?json\b", re.IGNORECASE)
_SPEC_VERSION = b'"specversion"'
_NULL = b"null"
# Escapes in a string of JSON: of numbered characters all that follow each other, as some are pairs. Possessive (`++`),
# as a way back would be kept for each of them.
_ESCAPE = re.compile(r"(?:\\u[0-9a-fA-F]{4})++|\\.")
_ESCAPED = re.compile(r'["\\\x00-\x1f]')  # characters that JSON has as escapes only


class _EventDocument(msgspec.Struct):
    """The members that are read, as JSON; all others are skipped.

    Over the limit because each member is an attribute.
    """

    id: msgspec.Raw = msgspec.Raw(_NULL)
    source: msgspec.Raw = msgspec.Raw(_NULL)
    type: msgspec.Raw = msgspec.Raw(_NULL)
    specversion: msgspec.Raw = msgspec.Raw(_NULL)
    datacontenttype: msgspec.Raw = msgspec.Raw(_NULL)
    subject: msgspec.Raw = msgspec.Raw(_NULL)
    time: msgspec.Raw = msgspec.Raw(_NULL)
    tenant: msgspec.Raw = msgspec.Raw(_NULL)
    title: msgspec.Raw = msgspec.Raw(_NULL)
    attributes: msgspec.Raw = msgspec.Raw(_NULL)
    acl: msgspec.Raw = msgspec.Raw(_NULL)
    dataref: msgspec.Raw = msgspec.Raw(_NULL)
    traceparent: msgspec.Raw = msgspec.Raw(_NULL)
    vectors: msgspec.Raw = msgspec.Raw(_NULL)
    data: msgspec.Raw = msgspec.Raw(_NULL)
    data_base64: msgspec.Raw = msgspec.Raw(_NULL)


_DECODER = msgspec.json.Decoder(_EventDocument)
_ATTRIBUTES = tuple(name for name in _EventDocument.__struct_fields__ if name not in ("data", "data_base64"))


def is_json(content_type: str) -> bool:
    """Returns whether a content type is one of JSON."""
    return _JSON_TYPE.match(content_type) is not None


def check_media_type(content_type: str) -> None:
    """Raises BadInputError for a content type of CloudEvents that is not read."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.startswith("application/cloudevents-batch"):
        refuse("batched CloudEvents are not part of the Kafka binding; send one event per message")
    if media_type != "application/cloudevents+json":
        refuse(f"structured CloudEvents are supported as application/cloudevents+json only, not as {media_type}")


def is_structured(value: bytes | None) -> bool:
    """Returns whether a value of no CloudEvents content type is a CloudEvent in structured mode all the same."""
    if value is None or _SPEC_VERSION not in value:
        return False
    try:
        document = _DECODER.decode(value)
    except (ValueError, RecursionError):
        return False
    return all(bytes(member) != _NULL for member in (document.specversion, document.type, document.source))


def read_structured(value: bytes | None) -> ParsedMessage:
    """Reads a CloudEvent in structured mode; without a value it is a deletion, whatever its headers say.

    Raises:
        BadInputError: `MALFORMED` or `TOO_LARGE`.
    """
    if value is None:
        return ParsedMessage({}, None, None)
    if len(value) > MAX_STRUCTURED_BYTES:
        raise BadInputError(
            Reason.TOO_LARGE,
            f"the structured CloudEvent has {len(value):,} bytes; {MAX_STRUCTURED_BYTES:,} are allowed. Send it in "
            "binary mode, with the media as the value.",
        )
    try:
        document = _DECODER.decode(value)
    except (ValueError, RecursionError) as exc:
        raise BadInputError(Reason.MALFORMED, f"the structured CloudEvent is not a JSON object: {exc}") from exc
    attributes = {name: text for name in _ATTRIBUTES if (text := _attribute(document, name)) is not None}
    check_required(attributes)
    content_type = attributes.get("datacontenttype")
    data = _data(bytes(document.data_base64), bytes(document.data), content_type)
    if data is None and "dataref" not in attributes:
        refuse("the CloudEvent has neither data nor dataref; a message with a null value deletes an asset")
    return ParsedMessage(attributes, content_type, data or b"")


def _attribute(document: _EventDocument, name: str) -> str | None:
    """Returns an attribute as a string (spec 1.0, type system); booleans and integers have a string form."""
    raw: msgspec.Raw = getattr(document, name)
    text = bytes(raw)
    if len(text) > MAX_HEADER_BYTES:
        refuse(f"the CloudEvents attribute {name} is longer than {MAX_HEADER_BYTES:,} bytes")
    value = load_json(text, f"the CloudEvents attribute {name}")
    if value is None:
        return None
    if isinstance(value, str):
        to_utf8(name, value)
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    hint = "; write the JSON as a string" if name in ("attributes", "acl", "vectors") else ""
    return refuse(f"the CloudEvents attribute {name} is a {type(value).__name__}, not a string{hint}")


def _data(encoded: bytes, data: bytes, content_type: str | None) -> bytes | None:
    """Returns the bytes that `data_base64` or `data` stand for; None if both are missing. JSON stays JSON."""
    if encoded != _NULL:
        try:
            return base64.b64decode(msgspec.json.decode(encoded, type=str), validate=True)
        except ValueError as exc:
            raise BadInputError(Reason.MALFORMED, f"data_base64 is not base64: {exc}") from exc
    if data == _NULL:
        return None
    # A string stands for itself, unless the content is declared as JSON: then it is a JSON value like any other.
    if data.startswith(b'"') and not is_json(content_type or ""):
        try:
            return msgspec.json.decode(data, type=str).encode()
        except ValueError as exc:
            raise BadInputError(Reason.MALFORMED, f"data is no text: {exc}") from exc
    return _readable(msgspec.json.format(data, indent=0))


def _readable(text: bytes) -> bytes:
    """Writes the characters of JSON as themselves where it has their numbers, as it is indexed as text."""
    try:
        return _ESCAPE.sub(_unescaped, text.decode()).encode() if b"\\u" in text else text
    except ValueError as exc:
        raise BadInputError(Reason.MALFORMED, f"data has characters that are not Unicode text: {exc}") from exc


def _unescaped(escapes: re.Match[str]) -> str:
    if not escapes[0].startswith("\\u"):
        return escapes[0]
    characters = msgspec.json.decode(f'"{escapes[0]}"', type=str)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", characters)
