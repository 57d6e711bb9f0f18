"""Makes messages of rows: of tables by their columns, and of JSONL by its fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from penstock.broker.base import Message
from penstock.errors import UsageError
from penstock.produce.compose import FIELDS, MessageComposer, check_fields
from penstock.produce.items import JsonObject, ProduceOptions

ROW_FIELDS = frozenset((FIELDS | {"data"}) - {"path"})
"""The fields of a row; `data` are bytes."""


def columns_of(options: ProduceOptions, available: frozenset[str]) -> dict[str, str]:
    """Returns the column of each field that a table has: by `columns`, else the one of the field's name.

    Raises:
        UsageError: a column is named that the table does not have, or a field that there is not.
    """
    if unknown := sorted(options.columns.keys() - ROW_FIELDS):
        raise UsageError(f"there is no field {', '.join(unknown)}; there are {', '.join(sorted(ROW_FIELDS))}")
    named = {*options.columns.values(), *options.attribute_columns}
    if missing := sorted(named - available):
        raise UsageError(f"the table has no column {', '.join(missing)}; it has {', '.join(sorted(available))}")
    columns = {field: field for field in ROW_FIELDS & available if field not in options.columns}
    columns |= options.columns
    if options.vector_encoder is None and "vector" not in options.columns:
        columns.pop("vector", None)
    if not columns.keys() & {"text", "uri", "data"}:
        raise UsageError(
            "the table has no column text, uri or data: name the one that has the media, such as --column text=caption"
        )
    return columns


def message_of_row(
    row: JsonObject, columns: Mapping[str, str], composer: MessageComposer, *, default_key: str
) -> Message:
    """Returns the message of a row of a table.

    Args:
        row: values by column.
        columns: the column of each field.
        composer: of the table.
        default_key: of media that have no other key.

    Raises:
        UsageError, BadInputError: it cannot be sent.
    """
    fields = {field: value for field, column in columns.items() if (value := row.get(column)) is not None}
    for field, convert in _CONVERSIONS.items():
        if field in fields:
            fields[field] = convert(fields[field])
    own = {name: plain(row[name]) for name in composer.options.attribute_columns if row.get(name) is not None}
    if own or "attributes" in fields:
        fields["attributes"] = {**fields.get("attributes", {}), **own}
    return message_of_fields(fields, composer, default_key=default_key)


def message_of_fields(fields: JsonObject, composer: MessageComposer, *, default_key: str) -> Message:
    """Returns the message of fields that have their types. Raises as `message_of_row` does."""
    check_fields(fields, known=ROW_FIELDS)
    described, topic = composer.described(fields), composer.topic_of_fields(fields)
    described = {**described, "attributes": composer.attributes_of(described)}
    if "uri" in fields:
        return composer.of_address(fields["uri"], key=fields.get("key") or fields["uri"], fields=described, topic=topic)
    if "data" in fields:
        key = fields.get("key") or fields.get("id") or default_key
        return composer.of_bytes(fields["data"], key=key, fields=described, topic=topic)
    return composer.of_text(fields["text"], key=fields.get("key"), fields=described, topic=topic)


def plain(value: object) -> object:
    """Returns a value of a column as JSON has it; times in RFC 3339, decimals as numbers."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return _with_offset(value).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        raise UsageError("has bytes in a column of attributes")
    return value


def _text(value: Any) -> str:
    """Returns keys and titles, which may be numbers in a table."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise UsageError(f"has a {type(value).__name__} where a text is needed")
    return value


def _bytes(value: Any) -> bytes:
    """Returns bytes; also of the struct in which datasets of Hugging Face keep images and audio."""
    if isinstance(value, Mapping):
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise UsageError(f"has data that are a {type(value).__name__} and not bytes")
    return value


def _time(value: Any) -> Any:
    return _with_offset(value) if isinstance(value, datetime) else value


def _with_offset(moment: datetime) -> datetime:
    """Returns a time of a table, which is in UTC if its column has no time zone."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _object(value: Any) -> Any:
    """Returns attributes: a struct, a map as Parquet has it, or JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as exc:
            raise UsageError(f"has attributes that are not JSON: {exc}") from exc
    if isinstance(value, list) and all(isinstance(item, tuple) for item in value):
        value = dict(value)
    if not isinstance(value, Mapping):
        raise UsageError(f"has attributes that are a {type(value).__name__} and not an object")
    return {name: plain(item) for name, item in value.items() if item is not None}


def _labels(value: Any) -> Any:
    """Returns labels: a list, JSON of one, or one label."""
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str):
        raise UsageError(f"has an acl that is a {type(value).__name__} and not a list of labels")
    if not value.startswith("["):
        return [value]
    try:
        return json.loads(value)
    except ValueError as exc:
        raise UsageError(f"has an acl that is not JSON: {exc}") from exc


def _numbers(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as exc:
        raise UsageError(f"has a vector that is not a JSON list: {exc}") from exc


_CONVERSIONS = {
    **dict.fromkeys(("key", "id", "title", "text", "uri"), _text),
    "data": _bytes,
    "time": _time,
    "attributes": _object,
    "acl": _labels,
    "vector": _numbers,
}
