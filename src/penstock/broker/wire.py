"""Converts Kafka records to events, and events to messages: the wire format.

A message is a CloudEvent 1.0 in the binary or structured mode of the Kafka protocol binding
(github.com/cloudevents/spec, bindings/kafka-protocol-binding.md), or bare media without any CloudEvents header.

    payload      the value, or the `dataref` extension where there is no value; a null value without `dataref` is a
                 tombstone
    asset's key  the message key, else `subject`, else `id`, else topic-partition-offset of the first arrival
    extensions   `tenant`, `title`, `attributes` (a JSON object as a string, of scalars and lists of scalars),
                 `dataref`, `traceparent`

A key that is not UTF-8 becomes `hex:` and its bytes in hexadecimal; so does one that begins with `hex:` itself, so that
two different keys never become the same. An empty key counts as none.

Structured mode is read here and not by the CloudEvents SDK, because the SDK invents a missing `id` or `specversion`: a
record read twice would be two assets.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from penstock.broker import headers as penstock_headers
from penstock.broker.base import Message
from penstock.errors import BadInputError, Reason
from penstock.records import AssetRef, ClaimCheck, Event, Inline, Modality, Position, Record, Rejected

MAX_KEY_BYTES = 1_024
MAX_TITLE_CHARS = 1_000
MAX_ATTRIBUTES_BYTES = 60_000  # Milvus's JSON field holds 65,536
MAX_URI_BYTES = 8_192

TYPE_CHANGED = "penstock.asset.changed"
TYPE_DELETED = "penstock.asset.deleted"

_CE = "ce_"
_CONTENT_TYPE = "content-type"
_REQUIRED = ("id", "source", "type", "specversion")
_TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_JSON_TYPE = re.compile(r"(application|text)/([a-z0-9.+-]+\+)?json\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A message in any mode: CloudEvents attributes by name (none for bare media), content type and data."""

    attributes: Mapping[str, str]
    content_type: str | None
    data: bytes | None


def parse_record(record: Record, *, modality: Modality, default_tenant: str, max_inline_bytes: int) -> Event | Rejected:
    """Parses one record. Never raises for its content.

    Args:
        record: as delivered.
        modality: that of its topic.
        default_tenant: the tenant of an event that names none.
        max_inline_bytes: a larger value is rejected as `TOO_LARGE`.

    Returns:
        the event, or its rejection in step `receive` as `MALFORMED` or `TOO_LARGE`.
    """
    try:
        return _parse(record, modality, default_tenant, max_inline_bytes)
    except BadInputError as exc:
        return Rejected(record.position, "receive", exc.reason, str(exc))


def _parse(record: Record, modality: Modality, default_tenant: str, max_inline_bytes: int) -> Event:
    if record.value is not None and len(record.value) > max_inline_bytes:
        raise BadInputError(
            Reason.TOO_LARGE,
            f"the value has {len(record.value):,} bytes, more than fetch.max_bytes allows ({max_inline_bytes:,}). "
            "Store the media elsewhere and send its address as dataref.",
        )
    parsed = _read(record)
    attributes = parsed.attributes
    origin, timestamp_ms = penstock_headers.origin_of(record)
    payload = _payload(parsed)
    if payload is None and not record.key:
        _malformed("a null value deletes the asset that the message key names, but there is no key")
    time = attributes.get("time")
    raw_attributes = attributes.get("attributes")
    return Event(
        asset=AssetRef(
            _tenant(attributes.get("tenant", default_tenant)),
            record.position.topic,
            _asset_key(record.key, attributes, origin),
        ),
        origin=origin,
        position=record.position,
        timestamp_ms=timestamp_ms,
        modality=modality,
        payload=payload,
        content_type=parsed.content_type,
        title=attributes.get("title", "")[:MAX_TITLE_CHARS],
        attributes_json="{}" if raw_attributes is None else _attributes_json(raw_attributes),
        event_time_ms=timestamp_ms if time is None else _time_ms(time),
        traceparent=attributes.get("traceparent", ""),
    )


# --- the three modes -------------------------------------------------------------------------------------------------


def _read(record: Record) -> _Parsed:
    attributes: dict[str, str] = {}
    content_type: str | None = None
    for name, value in record.headers:
        lowered = name.lower()
        if lowered.startswith(_CE):
            attributes[lowered[len(_CE) :]] = _decode(name, value)
        elif lowered == _CONTENT_TYPE:
            content_type = _decode(name, value)
    if content_type is not None and content_type.lower().startswith("application/cloudevents"):
        return _read_structured(content_type, record.value)
    if attributes:
        _check_required(attributes)
    return _Parsed(attributes, content_type, record.value)


def _read_structured(content_type: str, value: bytes | None) -> _Parsed:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.startswith("application/cloudevents-batch"):
        _malformed("batched CloudEvents are not part of the Kafka binding; send one event per message")
    if media_type != "application/cloudevents+json":
        _malformed(f"structured CloudEvents are supported as application/cloudevents+json only, not as {media_type}")
    if value is None:  # a tombstone has no body to hold attributes, whatever its headers say
        return _Parsed({}, None, None)
    body = _load_object(value, "the structured CloudEvent")
    data = _structured_data(body)
    attributes = {name: _attribute_text(name, value) for name, value in body.items() if value is not None}
    _check_required(attributes)
    if data is None and "dataref" not in attributes:
        _malformed("the CloudEvent has neither data nor dataref; a message with a null value deletes an asset")
    return _Parsed(attributes, attributes.get("datacontenttype"), data or b"")


def _structured_data(body: dict[str, Any]) -> bytes | None:
    """Removes `data` or `data_base64` from the body and returns the bytes they stand for; None if both are missing."""
    encoded, data = body.pop("data_base64", None), body.pop("data", None)
    if encoded is not None:
        try:
            return base64.b64decode(encoded, validate=True)
        except (ValueError, TypeError) as exc:
            raise BadInputError(Reason.MALFORMED, f"data_base64 is not base64: {exc}") from exc
    if data is None:
        return None
    # A string stands for itself, unless the content is declared as JSON: then it is a JSON value like any other.
    if isinstance(data, str) and not _JSON_TYPE.match(str(body.get("datacontenttype"))):
        return _utf8("data", data)
    return _utf8("data", json.dumps(data, ensure_ascii=False))


def _attribute_text(name: str, value: object) -> str:
    """Returns a CloudEvents attribute as a string (spec 1.0, type system); booleans and integers have a string form."""
    if isinstance(value, str):
        _utf8(name, value)
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    hint = "; write the JSON object as a string" if name == "attributes" else ""
    return _malformed(f"the CloudEvents attribute {name} is a {type(value).__name__}, not a string{hint}")


def _check_required(attributes: Mapping[str, str]) -> None:
    for name in _REQUIRED:
        if not attributes.get(name):
            _malformed(f"the CloudEvent has no {name}, which CloudEvents 1.0 requires")
    if attributes["specversion"] != "1.0":
        _malformed(f"CloudEvents {attributes['specversion']} is not supported; send specversion 1.0")


# --- the parts of an event -------------------------------------------------------------------------------------------


def _payload(parsed: _Parsed) -> Inline | ClaimCheck | None:
    """Returns the value if there is one; a `dataref` beside it names the same content, by the extension's spec."""
    if parsed.data:
        return Inline(parsed.data)
    uri = parsed.attributes.get("dataref")
    if uri is not None:
        if not uri or len(uri.encode()) > MAX_URI_BYTES:
            _malformed(f"dataref is empty or longer than {MAX_URI_BYTES:,} bytes")
        return ClaimCheck(uri)
    return None if parsed.data is None else Inline(b"")


def _asset_key(key: bytes | None, attributes: Mapping[str, str], origin: Position) -> str:
    if key:
        return render_key(key)
    named = attributes.get("subject") or attributes.get("id")
    if named is None:
        return f"{origin.topic}-{origin.partition}-{origin.offset}"
    _check_key_size(len(named.encode()))
    return named


def render_key(key: bytes) -> str:
    """Returns a message key as an asset's key: its UTF-8 text, or `hex:…` (see the head of this file).

    Raises:
        BadInputError: `MALFORMED`, longer than `MAX_KEY_BYTES`.
    """
    _check_key_size(len(key))
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return f"hex:{key.hex()}"
    return f"hex:{key.hex()}" if text.startswith("hex:") else text


def _check_key_size(size: int) -> None:
    if size > MAX_KEY_BYTES:
        _malformed(f"the asset's key has {size:,} bytes; at most {MAX_KEY_BYTES:,} are allowed")


def _tenant(tenant: str) -> str:
    if not _TENANT.fullmatch(tenant):
        _malformed(f"tenant {tenant[:80]!r} is not 1 to 64 letters, digits, dots, underscores and dashes")
    return tenant


def _time_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise BadInputError(Reason.MALFORMED, f"time {text[:80]!r} is not an RFC 3339 timestamp") from exc
    if moment.tzinfo is None:
        _malformed(f"time {text!r} has no UTC offset, which RFC 3339 requires")
    return round(moment.timestamp() * 1000)


def _attributes_json(text: str) -> str:
    """Checks the attributes and writes them in one form: no blanks, keys in their order, the last of two equal keys."""
    attributes = _load_object(text, "the attributes extension")
    for name, value in attributes.items():
        for item in value if isinstance(value, list) else (value,):
            if not (item is None or isinstance(item, (str, int, float, bool))):
                _malformed(
                    f"attribute {name!r} is neither a scalar nor a list of scalars; filters cannot reach inside it"
                )
    try:
        written = json.dumps(attributes, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        _malformed("an attribute is a number too large for JSON")
    if len(_utf8("attributes", written)) > MAX_ATTRIBUTES_BYTES:
        _malformed(f"attributes are longer than {MAX_ATTRIBUTES_BYTES:,} bytes")
    return written


# --- text and JSON ---------------------------------------------------------------------------------------------------


def _load_object(text: str | bytes, source: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise BadInputError(Reason.MALFORMED, f"{source} is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        _malformed(f"{source} is JSON, but a {type(value).__name__} and not an object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _decode(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise BadInputError(Reason.MALFORMED, f"header {name} is not UTF-8: {exc}") from exc


def _utf8(name: str, text: str) -> bytes:
    """Encodes text. JSON can spell half a surrogate pair (`\\ud800`), which is not text and cannot be stored."""
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise BadInputError(Reason.MALFORMED, f"{name} has characters that are not Unicode text: {exc}") from exc


def _malformed(message: str) -> NoReturn:
    raise BadInputError(Reason.MALFORMED, message)


# --- writing ---------------------------------------------------------------------------------------------------------


def encode_event(
    *,
    topic: str,
    key: str | None,
    payload: Inline | ClaimCheck | None,
    source: str,
    content_type: str | None = None,
    tenant: str | None = None,
    title: str = "",
    attributes: Mapping[str, object] | None = None,
    time_ms: int | None = None,
    event_id: str | None = None,
    structured: bool = False,
) -> Message:
    """Returns an event as a CloudEvent for `Producer.send`, as `parse_record` reads it back.

    Args:
        topic: the topic of the media's modality.
        key: the asset's name within tenant and topic; None for media that are never replaced.
        payload: bytes, an address, or None to delete the asset.
        source: the producer of the event as a URI reference, such as `penstock/produce`.
        content_type: that of the media.
        tenant: None for the consumer's default.
        title: shown with hits.
        attributes: for filters; scalars and lists of scalars.
        time_ms: when it happened, milliseconds since the epoch; None if not known.
        event_id: unique within `source`; None for a random one.
        structured: one JSON document as the value instead of headers and bytes; a deletion is always binary.

    Raises:
        BadInputError: the event could not be read back (a key too long, attributes too deep…).
    """
    fields: dict[str, Any] = {
        "specversion": "1.0",
        "id": event_id or str(uuid.uuid4()),
        "source": source,
        "type": TYPE_DELETED if payload is None else TYPE_CHANGED,
        "datacontenttype": content_type,
        "time": None if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC),
        "tenant": None if tenant is None else _tenant(tenant),
        "title": title[:MAX_TITLE_CHARS] or None,
        "attributes": _attributes_json(json.dumps(attributes)) if attributes else None,
        "dataref": payload.uri if isinstance(payload, ClaimCheck) else None,
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    data = payload.data if isinstance(payload, Inline) else None
    key_bytes = None if key is None else key.encode()
    if key_bytes is not None:
        _check_key_size(len(key_bytes))
    if structured and payload is not None:
        return _encode_structured(topic, key_bytes, fields, data)
    return _encode_binary(topic, key_bytes, fields, data, is_tombstone=payload is None)


def _encode_binary(
    topic: str, key: bytes | None, attributes: Mapping[str, Any], data: bytes | None, *, is_tombstone: bool
) -> Message:
    written = []
    for name, value in attributes.items():
        header = _CONTENT_TYPE if name == "datacontenttype" else f"{_CE}{name}"
        written.append((header, _rfc3339(value).encode() if isinstance(value, datetime) else value.encode()))
    return Message(topic, key, None if is_tombstone else data or b"", tuple(written))


def _encode_structured(topic: str, key: bytes | None, attributes: dict[str, Any], data: bytes | None) -> Message:
    from cloudevents.core.formats.json import JSONFormat
    from cloudevents.core.v1.event import CloudEvent

    value = JSONFormat().write(CloudEvent(attributes, data))
    return Message(topic, key, value, ((_CONTENT_TYPE, b"application/cloudevents+json; charset=UTF-8"),))


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
