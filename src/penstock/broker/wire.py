"""Converts Kafka records to events, and events to messages: the wire format.

Over the limit because both directions of the format are described and kept in one place.

A message is a CloudEvent 1.0 in the binary or structured mode of the Kafka protocol binding
(github.com/cloudevents/spec, bindings/kafka-protocol-binding.md), or bare media without any CloudEvents header.
Structured mode is recognised by its content type, and without one, or as plain JSON, by the value: an object with
`specversion`, `type` and `source` is the event that it says it is.

    payload      the value, or the `dataref` extension where there is no value; a null value without `dataref` is a
                 tombstone
    asset's key  the message key, else `subject`, else `id`, else topic-partition-offset of the first arrival
    extensions   `tenant`, `title`, `attributes` (a JSON object as a string, of scalars and lists of scalars),
                 `acl` (a JSON list of labels as a string), `vectors` (`given_vectors`), `dataref`, `traceparent`

A topic of `kafka.envelopes` has rows of tables instead, in what connectors put around them (`envelopes`).

A key that is not UTF-8 becomes `hex:` and its bytes in hexadecimal; so does one that begins with `hex:` itself, so that
two different keys never become the same. An empty key counts as none.
"""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from penstock.broker.base import Message
from penstock.broker.envelopes import has_cloud_event, read_row, with_row_key
from penstock.broker.event_values import (
    MAX_HEADER_BYTES,
    ParsedMessage,
    check_required,
    load_object,
    parse_labels,
    refuse,
    to_utf8,
)
from penstock.broker.frames import check_no_frame, without_frame
from penstock.broker.given_vectors import parse_vectors, vectors_json
from penstock.broker.replay_keys import NO_KEYS, ReplayKeys
from penstock.broker.structured import check_media_type, is_json, is_structured, read_structured
from penstock.config.envelope import EnvelopeSettings
from penstock.errors import BadInputError, Reason
from penstock.records import (
    DEFAULT_ACL,
    AssetRef,
    ClaimCheck,
    Event,
    GivenVector,
    Inline,
    Modality,
    Position,
    Record,
    Rejected,
)

logger = logging.getLogger(__name__)

MAX_KEY_BYTES = 1_024
MAX_TITLE_CHARS = 1_000
MAX_ATTRIBUTES_BYTES = 60_000  # Milvus's JSON field holds 65,536
MAX_URI_BYTES = 8_192
# How far the clock of a producer may be ahead. Timestamps order the versions of an asset across partitions, so that one
# far ahead would hold its place for as long. Brokers of Kafka 3.6 and newer refuse the same by default.
MAX_AHEAD_MS = 3_600_000

TYPE_CHANGED = "penstock.asset.changed"
TYPE_DELETED = "penstock.asset.deleted"

# The source of replays by which a re-index fills a new version of the index. It counts with a signature alone.
REFILL_SOURCE = "penstock/reindex"

_CE = "ce_"
_CONTENT_TYPE = "content-type"
_LEAP_SECOND = re.compile(r"(.+:\d\d):60(\.\d+)?(Z|[+-]\d\d:\d\d)")
_TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}")


def parse_record(
    record: Record,
    *,
    modality: Modality,
    default_tenant: str,
    max_inline_bytes: int,
    framed: bool = False,
    envelope: EnvelopeSettings | None = None,
    owner: str | None = None,
    replays: ReplayKeys = NO_KEYS,
    now_ms: int | None = None,
    default_acl: tuple[str, ...] = DEFAULT_ACL,
) -> Event | Rejected:
    """Parses one record. Never raises for its content.

    Args:
        record: as delivered.
        modality: that of its topic.
        default_tenant: the tenant of an event that names none.
        max_inline_bytes: a larger value is rejected as `TOO_LARGE`.
        framed: whether values of its topic begin with the frame of a Schema Registry serializer, which is taken off.
        envelope: in which its topic has rows of a table; None: its values are media and CloudEvents.
        owner: the tenant to whom its topic belongs; an event that names another is `FORBIDDEN`. None: each event
            names its own.
        replays: the keys by which a replay is known; one without a valid signature is `FORBIDDEN`.
        now_ms: the present, milliseconds since the epoch; a timestamp over `MAX_AHEAD_MS` later is `FORBIDDEN`.
            None: there is no bound.
        default_acl: the labels of an event that names none.

    Returns:
        the event, or its rejection in step `receive` as `MALFORMED`, `TOO_LARGE` or `FORBIDDEN`.
    """
    try:
        origin, timestamp_ms = replays.origin_of(record)  # of the record as it came: the signature covers the frame
        _check_clock(timestamp_ms, now_ms)
        arrived, plain = record, without_frame(record) if framed else record
        is_row = envelope is not None and not has_cloud_event(record)
        record = with_row_key(record) if is_row else record
        read = _read_checked(plain, max_inline_bytes, envelope if is_row else None)
        tenant = _tenant_of(read.attributes, owner, default_tenant)
        is_refill = read.attributes.get("source") == REFILL_SOURCE and replays.is_signed(arrived, origin, timestamp_ms)
        return _event(
            record,
            read,
            modality=modality,
            tenant=tenant,
            origin=origin,
            timestamp_ms=timestamp_ms,
            default_acl=default_acl,
            is_refill=is_refill,
        )
    except BadInputError as exc:
        return Rejected(record.position, "receive", exc.reason, str(exc))
    except MemoryError:  # says nothing about the record, which is read again
        raise
    except Exception as exc:  # the lane would die of it, and of the same record again after every restart
        logger.exception("the record at %s cannot be parsed: unexpected error", record.position)
        detail = f"the message cannot be parsed: unexpected {type(exc).__name__}; the log of the ingest plane has more"
        return Rejected(record.position, "receive", Reason.MALFORMED, detail)


def _check_clock(timestamp_ms: int, now_ms: int | None) -> None:
    if now_ms is not None and timestamp_ms > now_ms + MAX_AHEAD_MS:
        ahead_s = (timestamp_ms - now_ms) / 1000
        raise BadInputError(
            Reason.FORBIDDEN,
            f"the record's timestamp is {ahead_s:,.0f} s ahead, more than {MAX_AHEAD_MS // 1000:,} s: it would "
            "hold its place before all updates until then. Correct the clock of its producer.",
        )


def _read_checked(record: Record, max_inline_bytes: int, envelope: EnvelopeSettings | None) -> ParsedMessage:
    if record.value is not None and len(record.value) > max_inline_bytes:
        raise BadInputError(
            Reason.TOO_LARGE,
            f"the value has {len(record.value):,} bytes, more than fetch.max_bytes allows ({max_inline_bytes:,}). "
            "Store the media elsewhere and send its address as dataref.",
        )
    header_bytes = sum(len(name) + len(value) for name, value in record.headers)
    if header_bytes > MAX_HEADER_BYTES:
        refuse(f"the headers have {header_bytes:,} bytes; at most {MAX_HEADER_BYTES:,} are allowed")
    check_no_frame(record.value)
    return _read(record) if envelope is None else read_row(record, envelope)


def _tenant_of(attributes: Mapping[str, str], owner: str | None, default_tenant: str) -> str:
    """Returns the tenant of an event: the owner of its topic, else the one that it names."""
    if owner is None:
        return _tenant(attributes.get("tenant", default_tenant))
    if (named := attributes.get("tenant", owner)) != owner:
        raise BadInputError(
            Reason.FORBIDDEN,
            f"the event names the tenant {named[:80]!r}, but its topic belongs to {owner} (kafka.tenants)",
        )
    return owner


def _event(
    record: Record,
    parsed: ParsedMessage,
    *,
    modality: Modality,
    tenant: str,
    origin: Position,
    timestamp_ms: int,
    default_acl: tuple[str, ...],
    is_refill: bool,
) -> Event:
    attributes = parsed.attributes
    payload = _payload(parsed)
    if payload is None and not record.key:
        refuse("a null value deletes the asset that the message key names, but there is no key")
    time = attributes.get("time")
    raw_attributes, raw_acl, raw_vectors = (attributes.get(name) for name in ("attributes", "acl", "vectors"))
    return Event(
        asset=AssetRef(tenant, record.position.topic, _asset_key(record.key, attributes, origin)),
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
        acl=default_acl if raw_acl is None else parse_labels(raw_acl),
        names_acl=raw_acl is not None,
        vectors=() if raw_vectors is None else parse_vectors(raw_vectors),
        refills=is_refill,
    )


# --- the three modes -------------------------------------------------------------------------------------------------


def _read(record: Record) -> ParsedMessage:
    attributes: dict[str, str] = {}
    content_type: str | None = None
    for name, value in record.headers:
        lowered = name.lower()
        if lowered.startswith(_CE):
            attributes[lowered[len(_CE) :]] = _decode(name, value)
        elif lowered == _CONTENT_TYPE:
            content_type = _decode(name, value)
    if content_type is not None and content_type.lower().startswith("application/cloudevents"):
        check_media_type(content_type)
        return read_structured(record.value)
    if attributes:
        check_required(attributes)
    elif (content_type is None or is_json(content_type)) and is_structured(record.value):
        return read_structured(record.value)
    return ParsedMessage(attributes, content_type, record.value)


# --- the parts of an event -------------------------------------------------------------------------------------------


def _payload(parsed: ParsedMessage) -> Inline | ClaimCheck | None:
    """Returns the value if there is one; a `dataref` beside it names the same content, by the extension's spec."""
    if parsed.data:
        return Inline(parsed.data)
    uri = parsed.attributes.get("dataref")
    if uri is not None:
        if not uri or len(uri.encode()) > MAX_URI_BYTES:
            refuse(f"dataref is empty or longer than {MAX_URI_BYTES:,} bytes")
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
        refuse(f"the asset's key has {size:,} bytes; at most {MAX_KEY_BYTES:,} are allowed")


def _tenant(tenant: str) -> str:
    if not _TENANT.fullmatch(tenant):
        refuse(f"tenant {tenant[:80]!r} is not 1 to 64 letters, digits, dots, underscores and dashes")
    return tenant


def _time_ms(text: str) -> int:
    """Reads an RFC 3339 timestamp, milliseconds since the epoch. A leap second is the first of the next minute."""
    written = text.upper()
    leap = _LEAP_SECOND.fullmatch(written)
    try:
        moment = datetime.fromisoformat(f"{leap[1]}:59{leap[2] or ''}{leap[3]}" if leap else written)
        milliseconds = round(moment.timestamp() * 1000)
    except (ValueError, OverflowError) as exc:
        raise BadInputError(Reason.MALFORMED, f"time {text[:80]!r} is not an RFC 3339 timestamp") from exc
    if moment.tzinfo is None:
        refuse(f"time {text!r} has no UTC offset, which RFC 3339 requires")
    return milliseconds + (1000 if leap else 0)


def _attributes_json(text: str) -> str:
    """Checks the attributes and writes them in one form: no blanks, keys in their order, the last of two equal keys."""
    attributes = load_object(text, "the attributes extension")
    for name, value in attributes.items():
        for item in value if isinstance(value, list) else (value,):
            if not (item is None or isinstance(item, (str, int, float, bool))):
                refuse(f"attribute {name!r} is neither a scalar nor a list of scalars; filters cannot reach inside it")
    try:
        written = json.dumps(attributes, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        refuse("an attribute is a number too large for JSON")
    if len(to_utf8("attributes", written)) > MAX_ATTRIBUTES_BYTES:
        refuse(f"attributes are longer than {MAX_ATTRIBUTES_BYTES:,} bytes")
    return written


def _decode(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise BadInputError(Reason.MALFORMED, f"header {name} is not UTF-8: {exc}") from exc


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
    acl: Sequence[str] | None = None,
    vectors: Sequence[GivenVector] = (),
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
        acl: labels, of which a caller has to have one to read the asset; None for the consumer's default.
        vectors: of the whole media, which are not computed again where the index has the same encoder.
        time_ms: when it happened, milliseconds since the epoch; None if not known.
        event_id: unique within `source`; None for a random one.
        structured: one JSON document as the value instead of headers and bytes; a deletion is always binary.

    Raises:
        BadInputError: the event could not be read back (a key too long, attributes too deep, a time of year 10000…).
    """
    fields: dict[str, Any] = {
        "specversion": "1.0",
        "id": event_id or str(uuid.uuid4()),
        "source": source,
        "type": TYPE_DELETED if payload is None else TYPE_CHANGED,
        "datacontenttype": content_type,
        "time": None if time_ms is None else _moment(time_ms),
        "tenant": None if tenant is None else _tenant(tenant),
        "title": title[:MAX_TITLE_CHARS] or None,
        "attributes": _attributes_json(json.dumps(attributes)) if attributes else None,
        "acl": None if acl is None else json.dumps(parse_labels(json.dumps(list(acl)))),
        "vectors": vectors_json(vectors) if vectors else None,
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


def _moment(time_ms: int) -> datetime:
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise BadInputError(
            Reason.MALFORMED, f"the time is outside of the years 1 to 9999 in UTC: {time_ms:,} milliseconds since 1970"
        ) from exc


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
