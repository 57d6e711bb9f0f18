"""Reads rows of tables in the envelopes of Kafka Connect and Debezium, by the settings of their topic.

    connect    {"schema": …, "payload": ROW} of JsonConverter, or ROW alone; a row with `__deleted` = true is a
               deletion, as Debezium's ExtractNewRecordState writes it
    debezium   {"before": …, "after": ROW, "op": "c", "source": {"ts_ms": …}}, with `schema` and `payload` around it or
               without; c, u and r (read by a snapshot) are rows as they are now, d is a deletion

A null value is a deletion, as everywhere. The asset's key is that of the table: the one column of the message key, or
all of its columns as JSON. A message with CloudEvents headers is no row, so that other producers can use the topic.

Only the columns that the settings name are parsed; everything else of a document stays text: an empty object takes
2 bytes in JSON and 64 in memory.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NoReturn

import msgspec

from penstock.broker.event_values import MAX_HEADER_BYTES, ParsedMessage, load_json, refuse, to_utf8
from penstock.broker.structured import MAX_STRUCTURED_BYTES
from penstock.config.envelope import EnvelopeKind, EnvelopeSettings
from penstock.errors import BadInputError, Reason
from penstock.records import Record

_NULL, _ABSENT = msgspec.Raw(b"null"), msgspec.Raw(b"")
_ROWS = frozenset("cur")
_REFUSED_OPERATIONS = {"t": "it empties the table (truncate), which names no asset", "m": "it is a message, not a row"}
_DELETED = "__deleted"  # of ExtractNewRecordState with delete.handling.mode=rewrite
_MAX_KEY_BYTES = 64 * 1024


class _Outer(msgspec.Struct):
    """A document of JsonConverter with schemas.enable; one without both members is the payload itself."""

    schema: msgspec.Raw = _ABSENT
    payload: msgspec.Raw = _ABSENT


class _Change(msgspec.Struct):
    """A change event of Debezium; `before` is not read."""

    op: str
    after: msgspec.Raw = _NULL
    source: msgspec.Raw = _NULL
    ts_ms: int | None = None


class _ChangeSource(msgspec.Struct):
    ts_ms: int | None = None


class _SchemaType(msgspec.Struct):
    type: str = ""


_OUTER, _CHANGE = msgspec.json.Decoder(_Outer), msgspec.json.Decoder(_Change)
_MEDIA: msgspec.json.Decoder[str | int | float | None] = msgspec.json.Decoder(str | int | float | None)
_CHANGE_SOURCE, _SCHEMA_TYPE = msgspec.json.Decoder(_ChangeSource), msgspec.json.Decoder(_SchemaType)


def has_cloud_event(record: Record) -> bool:
    """Returns whether a message says in its headers that it is a CloudEvent, so that it is no row."""
    return any(
        name.lower().startswith("ce_")
        or (name.lower() == "content-type" and value.lower().startswith(b"application/cloudevents"))
        for name, value in record.headers
    )


def with_row_key(record: Record) -> Record:
    """Returns a record with the key of its row in place of the document that has it.

    Raises:
        BadInputError: MALFORMED.
    """
    return record if not record.key else replace(record, key=row_key(record.key))


def row_key(key: bytes) -> bytes:
    """Returns the key of a row: its only column, else all columns as JSON; other keys as they are.

    Raises:
        BadInputError: MALFORMED, the key is too long, or has no column.
    """
    if len(key) > _MAX_KEY_BYTES:
        refuse(f"the message key has {len(key):,} bytes, too many for that of a row")
    try:
        value = json.loads(key, parse_int=str, parse_float=str, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return key
    if isinstance(value, dict) and value.keys() == {"schema", "payload"}:
        value = value["payload"]
    if isinstance(value, dict):
        if not value:
            refuse("the message key is a row without columns")
        columns = {name: column for name, column in value.items() if name != "__dbz__physicalTableIdentifier"} or value
        value = next(iter(columns.values())) if len(columns) == 1 else columns
    if isinstance(value, str):
        return to_utf8("key", value)
    if value is None:
        refuse("the message key is null, so that it names no asset")
    return to_utf8("key", json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def read_row(record: Record, envelope: EnvelopeSettings) -> ParsedMessage:
    """Reads the row of a message.

    Raises:
        BadInputError: `MALFORMED` or `TOO_LARGE`.
    """
    value = record.value
    if value is None:
        return ParsedMessage({}, None, None)
    if len(value) > MAX_STRUCTURED_BYTES:
        raise BadInputError(
            Reason.TOO_LARGE,
            f"the row has {len(value):,} bytes; {MAX_STRUCTURED_BYTES:,} are allowed. Send media by their address.",
        )
    payload, is_row = _payload(value)
    time_ms: int | None = None
    if envelope.kind is EnvelopeKind.DEBEZIUM:
        change = _decode(_CHANGE, payload, "a change event of Debezium")
        if change.op == "d":
            return ParsedMessage({}, None, None)
        if change.op not in _ROWS:
            refuse(f"the change has op {change.op[:20]!r}: {_REFUSED_OPERATIONS.get(change.op, 'it is not known')}")
        payload, time_ms = bytes(change.after), _changed_ms(change)
    elif not is_row:
        refuse("the payload is no row: its schema is not that of a struct")
    if payload == b"null":
        if envelope.kind is EnvelopeKind.CONNECT:
            return ParsedMessage({}, None, None)
        refuse("the change has no row: after is null")
    return _message(payload, envelope, time_ms)


def _payload(value: bytes) -> tuple[bytes, bool]:
    """Returns the payload of a document, and whether its schema, if there is one, is that of a row."""
    outer = _decode(_OUTER, value, "the document of a connector")
    schema, payload = bytes(outer.schema), bytes(outer.payload)
    if not schema or not payload:
        return value, True
    return payload, schema == b"null" or _decode(_SCHEMA_TYPE, schema, "a schema").type == "struct"


def _changed_ms(change: _Change) -> int | None:
    source = bytes(change.source)
    in_database = None if source == b"null" else _decode(_CHANGE_SOURCE, source, "the source of a change").ts_ms
    return in_database or change.ts_ms


def _message(row: bytes, envelope: EnvelopeSettings, time_ms: int | None) -> ParsedMessage:
    columns = _columns(row, envelope)
    if columns.get(_DELETED) in (True, "true"):
        return ParsedMessage({}, None, None)
    attributes: dict[str, str] = {}
    if envelope.title is not None and (title := columns.get(envelope.title)) is not None:
        attributes["title"] = _text(envelope.title, title)
    if envelope.acl is not None:
        attributes["acl"] = _labels(envelope.acl, columns.get(envelope.acl))
    if named := {name: columns[name] for name in envelope.attributes if columns.get(name) is not None}:
        attributes["attributes"] = json.dumps(named, ensure_ascii=False)
    if (time := _time(envelope, columns, time_ms)) is not None:
        attributes["time"] = time
    return _with_payload(envelope, columns, attributes)


def _with_payload(envelope: EnvelopeSettings, columns: Mapping[str, Any], attributes: dict[str, str]) -> ParsedMessage:
    """Adds the media. A row whose column of media is empty has an asset without content, as an empty text has."""
    column = envelope.text or envelope.uri or envelope.data
    assert column is not None
    value = columns.get(column)
    if value is None:
        refuse(f"the row has no {column!r}, the column of its media (kafka.envelopes)")
    text = _text(column, value)
    if envelope.uri is not None:
        return ParsedMessage({**attributes, "dataref": text}, None, b"")
    if envelope.text is not None:
        return ParsedMessage(attributes, "text/plain", to_utf8(column, text))
    try:
        return ParsedMessage(attributes, None, base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as exc:
        raise BadInputError(Reason.MALFORMED, f"the column {column!r} is not base64: {exc}") from exc


def _columns(row: bytes, envelope: EnvelopeSettings) -> dict[str, Any]:
    """Returns the values of the columns that the settings name."""
    decoder, names = _row_decoder(_named_columns(envelope))
    raw = _decode(decoder, row, "a row")
    media = envelope.text or envelope.uri or envelope.data
    columns: dict[str, Any] = {}
    for field, name in names.items():
        text = bytes(getattr(raw, field))
        if name != media and len(text) > MAX_HEADER_BYTES:
            refuse(f"the column {name!r} is longer than {MAX_HEADER_BYTES:,} bytes")
        columns[name] = _decode(_MEDIA, text, f"a text in {name!r}") if name == media else _value(name, text)
    return columns


def _value(name: str, text: bytes) -> object:
    return load_json(text, f"the column {name!r}")


def _named_columns(envelope: EnvelopeSettings) -> tuple[str, ...]:
    single = (envelope.text, envelope.uri, envelope.data, envelope.title, envelope.time, envelope.acl)
    return tuple(dict.fromkeys([*(name for name in single if name is not None), *envelope.attributes, _DELETED]))


@lru_cache(maxsize=256)
def _row_decoder(columns: tuple[str, ...]) -> tuple[msgspec.json.Decoder[Any], Mapping[str, str]]:
    """Returns what reads these columns of a row, and the column of each of its fields."""
    names = {f"column_{number}": name for number, name in enumerate(columns)}
    fields = [(field, msgspec.Raw, _NULL) for field in names]
    return msgspec.json.Decoder(msgspec.defstruct("Row", fields, rename=dict(names))), names


def _decode(decoder: msgspec.json.Decoder[Any], text: bytes, kind: str) -> Any:
    try:
        return decoder.decode(text)
    except (ValueError, RecursionError) as exc:
        raise BadInputError(Reason.MALFORMED, f"the value is not {kind}: {exc}") from exc


def _text(column: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        refuse(f"the column {column!r} is a {type(value).__name__}, not a text")
    return str(value)


def _labels(column: str, value: object) -> str:
    """Returns the labels of a row as JSON. A row without any is hidden from all callers with labels."""
    if value is None:
        return "[]"
    if isinstance(value, str) and not value.startswith("["):
        return json.dumps([value])
    return value if isinstance(value, str) else json.dumps(value)


def _time(envelope: EnvelopeSettings, columns: Mapping[str, Any], changed_ms: int | None) -> str | None:
    value = changed_ms if envelope.time is None else columns.get(envelope.time)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value / 1000, UTC).isoformat()
        except (ValueError, OverflowError, OSError) as exc:
            raise BadInputError(Reason.MALFORMED, f"the time {value} is not milliseconds since 1970: {exc}") from exc
    return _text(envelope.time or "ts_ms", value)


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)
