"""Converts entries, asset rows and checkpoints to rows of columns, and back.

Milvus and the double share it, so that both hold the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from hashlib import blake2b
from typing import Any, TypeAlias, TypeVar

import numpy as np

from penstock.errors import PermanentError
from penstock.records import (
    AssetRef,
    AssetRow,
    Checkpoint,
    Collection,
    Entry,
    Field,
    MediaPosition,
    Outcome,
    Position,
    Version,
)
from penstock.store.access import ACL, parse_acl
from penstock.store.base import AssetState, EntryKey

Row: TypeAlias = dict[str, Any]
T = TypeVar("T")

# Bytes of UTF-8, which is what Milvus counts for VARCHAR; 65,535 is the most it allows. `title` and `text` are for
# display and BM25 and are cut at a character; the other columns identify things, and a longer value is refused.
MAX_BYTES: Mapping[str, int] = {
    "id": 32,
    "asset": 32,
    "tenant": 512,
    "topic": 512,  # Kafka allows 249 characters
    "key": 65_535,
    "uri": 65_535,
    "mime": 512,
    "title": 4_096,
    "text": 65_535,
    "attributes": 65_536,  # of JSON, Milvus's own limit
    "outcome": 32,
    "thumbnail": 128,
    "page_label": 1_200,
}
ENTRY_STRINGS = ("id", "tenant", "asset", "topic", "key", "title", "text", "uri", "mime", "thumbnail", "page_label")
ENTRY_INTEGERS = (
    "part", "start_ms", "end_ms", "start_char", "end_char", "event_time", "indexed_at", "partition", "offset",
    "page", "figure",
)  # fmt: skip
ENTRY_COLUMNS = (*ENTRY_STRINGS, *ENTRY_INTEGERS, "attributes", ACL)  # without the vectors
ENTRY_TEXT_COLUMNS = ("id", "part", "title", "text")
ENTRY_KEY_COLUMNS = ("id", "asset", "topic", "part", "partition", "offset")

ASSET_STRINGS = ("id", "tenant", "topic", "key", "outcome", "uri")
ASSET_INTEGERS = ("timestamp_ms", "partition", "offset", "indexed_at")
ASSET_COLUMNS = (*ASSET_STRINGS, *ASSET_INTEGERS, "counts", ACL)
ASSET_STATE_COLUMNS = ("id", "topic", "outcome", "timestamp_ms", "partition", "offset", "counts")

# In the JSON of `counts`, beside the collections. An asset row of slot 0 leaves the slot out, one without a trace that.
_SLOT, _POSITION, _SETTINGS_HASH, _MEDIA_SHA256, _FIGURES = "space", "place", "settings", "media", "figures"
_TRACE, _CONTENT = "trace", "content"
_CHECKPOINT = "unfinished"  # the `outcome` of a checkpoint, which no asset row has
_COLLECTIONS = frozenset(collection.value for collection in Collection)

# --- entries ---------------------------------------------------------------------------------------------------------


def entry_row(entry: Entry) -> Row:
    """Returns the columns of an entry without its vectors.

    Raises:
        PermanentError: an identifying value is longer than its column.
    """
    return {
        "id": entry.id,
        "asset": entry.asset.id,
        **_asset_names(entry.asset),
        "title": _truncate(entry.title, MAX_BYTES["title"]),
        "text": _truncate(entry.text, MAX_BYTES["text"]),
        "uri": _checked("uri", entry.uri),
        "mime": _checked("mime", entry.mime),
        "thumbnail": _checked("thumbnail", entry.thumbnail),
        "page": entry.page,
        "page_label": _truncate(entry.page_label, MAX_BYTES["page_label"]),
        "figure": entry.figure,
        "part": entry.part,
        "start_ms": entry.start_ms,
        "end_ms": entry.end_ms,
        "start_char": entry.start_char,
        "end_char": entry.end_char,
        "event_time": entry.event_time_ms,
        "indexed_at": entry.indexed_at_ms,
        "partition": entry.origin.partition,
        "offset": entry.origin.offset,
        "attributes": _attributes(entry.attributes_json),
        ACL: list(entry.acl),
    }


def parse_entry(collection: Collection, row: Mapping[str, Any], fields: Sequence[Field] = ()) -> Entry:
    """Returns the entry of a row, with the vectors of these fields. A vector of zeros is left out.

    A row of schema 1 has no page.
    """
    asset = AssetRef(row["tenant"], row["topic"], row["key"])
    vectors = {field: np.asarray(row[field.value], dtype=np.float32) for field in fields}
    return Entry(
        id=row["id"],
        collection=collection,
        asset=asset,
        part=int(row["part"]),
        title=row["title"],
        text=row["text"],
        uri=row["uri"],
        mime=row["mime"],
        attributes_json=_attributes_json(row["attributes"]),
        start_ms=int(row["start_ms"]),
        end_ms=int(row["end_ms"]),
        start_char=int(row["start_char"]),
        end_char=int(row["end_char"]),
        event_time_ms=int(row["event_time"]),
        indexed_at_ms=int(row["indexed_at"]),
        origin=Position(asset.topic, int(row["partition"]), int(row["offset"])),
        thumbnail=row["thumbnail"],
        page=int(row.get("page", 0)),
        page_label=row.get("page_label", ""),
        figure=int(row.get("figure", 0)),
        acl=parse_acl(row[ACL]),
        vectors={field: vector for field, vector in vectors.items() if vector.any()},
    )


def parse_entry_key(row: Mapping[str, Any]) -> EntryKey:
    """Returns the key of an entry from a row with `ENTRY_KEY_COLUMNS`."""
    origin = Position(row["topic"], int(row["partition"]), int(row["offset"]))
    return EntryKey(row["id"], row["asset"], int(row["part"]), origin)


def dense_columns(entry: Entry, dims: Mapping[Field, int]) -> Row:
    """Returns the vector columns, float32[dim] each; `dims` are those of the collection's dense fields.

    A field for which the entry has no vector gets zeros, which are similar to nothing and which `parse_entry` leaves
    out. A vector of a field that the collection lacks is dropped.

    Raises:
        PermanentError: a vector has another length.
    """
    columns: Row = {}
    for field, dim in dims.items():
        vector = entry.vectors.get(field, np.zeros(dim, dtype=np.float32))
        if vector.shape != (dim,):
            raise PermanentError(f"the {field} vector of an entry has shape {vector.shape}, its collection ({dim},)")
        columns[field.value] = vector.astype(np.float32, copy=False)
    return columns


def ordered_by_part(entries: Sequence[Entry]) -> list[Entry]:
    """Returns the entries in order of their parts.

    Raises:
        PermanentError: two have the same id; a real Milvus would keep either.
    """
    if len({entry.id for entry in entries}) != len(entries):
        raise PermanentError("two entries of one write have the same id; pass each part of an asset once")
    return sorted(entries, key=lambda entry: entry.part)


# --- asset rows and checkpoints --------------------------------------------------------------------------------------


def asset_row(row: AssetRow) -> Row:
    """Returns the columns of an asset row.

    Raises:
        PermanentError: an identifying value is longer than its column.
    """
    return {
        "id": row.asset.id,
        **_asset_names(row.asset),
        "outcome": row.outcome.value,
        "uri": _checked("uri", row.uri),
        "timestamp_ms": row.version.timestamp_ms,
        "partition": row.version.partition,
        "offset": row.version.offset,
        "indexed_at": row.indexed_at_ms,
        "counts": {
            **_counts(row.counts),
            **({_SLOT: row.slot} if row.slot else {}),
            **({_TRACE: row.traceparent} if row.traceparent else {}),
            **({_CONTENT: row.content_hash} if row.content_hash else {}),
        },
        ACL: list(row.acl),
    }


def parse_asset_row(row: Mapping[str, Any]) -> AssetRow:
    """Returns the asset row of a row with `ASSET_COLUMNS`."""
    return AssetRow(
        asset=AssetRef(row["tenant"], row["topic"], row["key"]),
        version=Version(int(row["timestamp_ms"]), int(row["partition"]), int(row["offset"])),
        outcome=Outcome(row["outcome"]),
        counts=_parse_counts(row),
        uri=row["uri"],
        indexed_at_ms=int(row["indexed_at"]),
        slot=int(row["counts"].get(_SLOT, 0)),
        traceparent=row["counts"].get(_TRACE, ""),
        acl=parse_acl(row[ACL]),
        content_hash=row["counts"].get(_CONTENT, ""),
    )


def parse_asset_state(row: Mapping[str, Any]) -> AssetState:
    """Returns the state of an asset from a row with `ASSET_STATE_COLUMNS`."""
    return AssetState(
        asset_id=row["id"],
        origin=Position(row["topic"], int(row["partition"]), int(row["offset"])),
        timestamp_ms=int(row["timestamp_ms"]),
        deleted=row["outcome"] in (Outcome.DELETED, Outcome.EXPIRED),
        expired=row["outcome"] == Outcome.EXPIRED,
        counts=_parse_counts(row),
        slot=int(row["counts"].get(_SLOT, 0)),
    )


def is_checkpoint(row: Mapping[str, Any]) -> bool:
    """Returns whether a row of the asset collection is a checkpoint and not an asset row."""
    return bool(row["outcome"] == _CHECKPOINT)


def checkpoint_id(asset_id: str) -> str:
    """Returns the primary key of an asset's checkpoint, which differs from that of its row."""
    return blake2b(asset_id.encode(), digest_size=16, person=b"progress").hexdigest()


def checkpoint_row(checkpoint: Checkpoint) -> Row:
    """Returns the columns of a checkpoint, which is a row of the asset collection with an outcome of its own."""
    position = checkpoint.position
    return {
        "id": checkpoint_id(checkpoint.asset.id),
        **_asset_names(checkpoint.asset),
        "outcome": _CHECKPOINT,
        "uri": _checked("uri", checkpoint.uri),
        "timestamp_ms": checkpoint.version.timestamp_ms,
        "partition": checkpoint.version.partition,
        "offset": checkpoint.version.offset,
        "indexed_at": checkpoint.updated_ms,
        "counts": {
            **_counts(checkpoint.counts),
            _SLOT: checkpoint.slot,
            _POSITION: list(astuple(position)),
            _SETTINGS_HASH: checkpoint.settings_hash,
            _MEDIA_SHA256: checkpoint.media_sha256,
            **({_FIGURES: list(checkpoint.figures)} if checkpoint.figures else {}),
        },
        ACL: [],
    }


def parse_checkpoint(row: Mapping[str, Any]) -> Checkpoint:
    """Returns the checkpoint of a row with `ASSET_COLUMNS`."""
    counts = row["counts"]
    return Checkpoint(
        asset=AssetRef(row["tenant"], row["topic"], row["key"]),
        version=Version(int(row["timestamp_ms"]), int(row["partition"]), int(row["offset"])),
        position=MediaPosition(*map(int, counts[_POSITION])),
        counts=_parse_counts(row),
        settings_hash=counts[_SETTINGS_HASH],
        uri=row["uri"],
        media_sha256=counts[_MEDIA_SHA256],
        updated_ms=int(row["indexed_at"]),
        slot=int(counts[_SLOT]),
        figures=tuple(counts.get(_FIGURES, ())),
    )


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yields pieces of at most `size` items, in order."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _counts(counts: Mapping[Collection, int]) -> Row:
    return {collection.value: count for collection, count in counts.items()}


def _parse_counts(row: Mapping[str, Any]) -> Mapping[Collection, int]:
    return {Collection(name): int(count) for name, count in row["counts"].items() if name in _COLLECTIONS}


def _asset_names(asset: AssetRef) -> Row:
    return {name: _checked(name, getattr(asset, name)) for name in ("tenant", "topic", "key")}


def _checked(name: str, value: str) -> str:
    if (size := len(value.encode())) > MAX_BYTES[name]:
        raise PermanentError(f"the {name} of an entry has {size} bytes, over the store's limit of {MAX_BYTES[name]}")
    return value


def _truncate(text: str, max_bytes: int) -> str:
    """Cuts a text at a character boundary."""
    data = text.encode()
    return text if len(data) <= max_bytes else data[:max_bytes].decode(errors="ignore")


def _attributes(text: str) -> Any:
    """Returns the object without its nulls: Milvus 2.3 matches nulls that 2.5 and Lite treat as missing."""
    if (size := len(text.encode())) > (limit := MAX_BYTES["attributes"]):
        raise PermanentError(f"the attributes of an entry have {size} bytes, over the store's limit of {limit}")
    return _without_nulls(json.loads(text))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(member) for name, member in value.items() if member is not None}
    return value


def _attributes_json(attributes: Any) -> str:
    value = json.loads(attributes) if isinstance(attributes, str | bytes) else attributes
    return json.dumps(value, ensure_ascii=False)
