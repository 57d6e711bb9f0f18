"""Entries and asset rows as rows of columns, and back. Shared by Milvus and the double, so that both hold the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
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
from penstock.store.base import AssetState, EntryKey

Row: TypeAlias = dict[str, Any]
T = TypeVar("T")

# Bytes of UTF-8, which is what Milvus counts for VARCHAR; 65,535 is the most it allows. `title` and `text` are for
# showing and BM25 and are cut at a character; the others name things and are refused when longer.
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
}
ENTRY_INTEGERS = (
    "part",
    "start_ms",
    "end_ms",
    "start_char",
    "end_char",
    "event_time",
    "indexed_at",
    "partition",
    "offset",
)
ENTRY_STRINGS = ("id", "tenant", "asset", "topic", "key", "title", "text", "uri", "mime", "thumbnail")
ENTRY_COLUMNS = (*ENTRY_STRINGS, *ENTRY_INTEGERS, "attributes")
"""Every column of an entry but its vectors."""

ENTRY_KEY_COLUMNS = ("id", "asset", "topic", "part", "partition", "offset")
"""Those that say whose an entry is."""

ASSET_STRINGS = ("id", "tenant", "topic", "key", "outcome", "uri")
ASSET_INTEGERS = ("timestamp_ms", "partition", "offset", "indexed_at")
ASSET_COLUMNS = (*ASSET_STRINGS, *ASSET_INTEGERS, "counts")

_SLOT = "space"  # beside the counts; an asset row of space 0 leaves it out
_UNFINISHED = "unfinished"
_COLLECTIONS = frozenset(collection.value for collection in Collection)

ASSET_STATE_COLUMNS = ("id", "topic", "outcome", "timestamp_ms", "partition", "offset", "counts")
"""Those that say what became of an asset."""


def entry_row(entry: Entry) -> Row:
    """The columns of an entry without its vectors.

    Raises:
        PermanentError: a name is longer than its column.
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
    }


def parse_entry(collection: Collection, row: Mapping[str, Any], fields: Sequence[Field] = ()) -> Entry:
    """The entry of a row, with the vectors of these fields. A vector of zeros stands for none."""
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
        attributes_json=_json(row["attributes"]),
        start_ms=int(row["start_ms"]),
        end_ms=int(row["end_ms"]),
        start_char=int(row["start_char"]),
        end_char=int(row["end_char"]),
        event_time_ms=int(row["event_time"]),
        indexed_at_ms=int(row["indexed_at"]),
        origin=Position(asset.topic, int(row["partition"]), int(row["offset"])),
        thumbnail=row["thumbnail"],
        vectors={field: vector for field, vector in vectors.items() if vector.any()},
    )


def parse_entry_key(row: Mapping[str, Any]) -> EntryKey:
    """Whose entry a row is; of `PART_COLUMNS`."""
    origin = Position(row["topic"], int(row["partition"]), int(row["offset"]))
    return EntryKey(row["id"], row["asset"], int(row["part"]), origin)


def dense_columns(entry: Entry, dims: Mapping[Field, int]) -> Row:
    """The vector columns, float32[dim] each. A field for which the entry has no vector gets zeros: near to nothing, and
    left out again by `entry_of`. A vector of a field that the collection lacks is not kept.

    Raises:
        PermanentError: a vector of another length.
    """
    columns: Row = {}
    for field, dim in dims.items():
        vector = entry.vectors.get(field, np.zeros(dim, dtype=np.float32))
        if vector.shape != (dim,):
            raise PermanentError(f"the {field} vector of an entry has shape {vector.shape}, its collection ({dim},)")
        columns[field.value] = vector.astype(np.float32, copy=False)
    return columns


def asset_row(row: AssetRow) -> Row:
    """The columns of an asset row.

    Raises:
        PermanentError: a name is longer than its column.
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
        "counts": {**_counts(row.counts), **({_SLOT: row.slot} if row.slot else {})},
    }


def parse_asset_row(row: Mapping[str, Any]) -> AssetRow:
    return AssetRow(
        asset=AssetRef(row["tenant"], row["topic"], row["key"]),
        version=Version(int(row["timestamp_ms"]), int(row["partition"]), int(row["offset"])),
        outcome=Outcome(row["outcome"]),
        counts=_counts_of(row),
        uri=row["uri"],
        indexed_at_ms=int(row["indexed_at"]),
        slot=int(row["counts"].get(_SLOT, 0)),
    )


def is_checkpoint(row: Mapping[str, Any]) -> bool:
    """Whether a row of the asset collection tells how far an asset is, and not what became of it."""
    return bool(row["outcome"] == _UNFINISHED)


def checkpoint_id(asset_id: str) -> str:
    """The primary key of an asset's progress, beside its row."""
    return blake2b(asset_id.encode(), digest_size=16, person=b"progress").hexdigest()


def checkpoint_row(checkpoint: Checkpoint) -> Row:
    """The columns of a progress: a row of the asset collection, of another outcome than any asset has."""
    place = checkpoint.position
    return {
        "id": checkpoint_id(checkpoint.asset.id),
        **_asset_names(checkpoint.asset),
        "outcome": _UNFINISHED,
        "uri": _checked("uri", checkpoint.uri),
        "timestamp_ms": checkpoint.version.timestamp_ms,
        "partition": checkpoint.version.partition,
        "offset": checkpoint.version.offset,
        "indexed_at": checkpoint.updated_ms,
        "counts": {
            **_counts(checkpoint.counts),
            _SLOT: checkpoint.slot,
            "place": [place.audio_ms, place.video_ms, place.scanned_ms],
            "settings": checkpoint.settings_hash,
            "media": checkpoint.media_sha256,
        },
    }


def parse_checkpoint(row: Mapping[str, Any]) -> Checkpoint:
    counts = row["counts"]
    return Checkpoint(
        asset=AssetRef(row["tenant"], row["topic"], row["key"]),
        version=Version(int(row["timestamp_ms"]), int(row["partition"]), int(row["offset"])),
        position=MediaPosition(*map(int, counts["place"])),
        counts=_counts_of(row),
        settings_hash=counts["settings"],
        uri=row["uri"],
        media_sha256=counts["media"],
        updated_ms=int(row["indexed_at"]),
        slot=int(counts[_SLOT]),
    )


def parse_asset_state(row: Mapping[str, Any]) -> AssetState:
    """What became of an asset; of `STANDING_COLUMNS`."""
    return AssetState(
        asset_id=row["id"],
        origin=Position(row["topic"], int(row["partition"]), int(row["offset"])),
        timestamp_ms=int(row["timestamp_ms"]),
        deleted=row["outcome"] == Outcome.DELETED,
        counts=_counts_of(row),
        slot=int(row["counts"].get(_SLOT, 0)),
    )


def too_long(asset: AssetRef, *, uri: str = "", attributes_json: str = "{}") -> str | None:
    """What of an event no row could hold, as one line; None if everything fits. For the step that receives it."""
    named = {"tenant": asset.tenant, "topic": asset.topic, "key": asset.key, "uri": uri, "attributes": attributes_json}
    for name, value in named.items():
        if (size := len(value.encode())) > MAX_BYTES[name]:
            return f"the {name} has {size} bytes, the store holds {MAX_BYTES[name]}"
    return None


def ordered_by_part(entries: Sequence[Entry]) -> list[Entry]:
    """The entries in order of their parts.

    Raises:
        PermanentError: two have the same id; real Milvus would keep either.
    """
    if len({entry.id for entry in entries}) != len(entries):
        raise PermanentError("two entries of one write have the same id; a caller gives each part of an asset once")
    return sorted(entries, key=lambda entry: entry.part)


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cuts a sequence into pieces of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _counts(counts: Mapping[Collection, int]) -> Row:
    return {collection.value: count for collection, count in counts.items()}


def _counts_of(row: Mapping[str, Any]) -> Mapping[Collection, int]:
    return {Collection(name): int(count) for name, count in row["counts"].items() if name in _COLLECTIONS}


def _asset_names(asset: AssetRef) -> Row:
    return {name: _checked(name, getattr(asset, name)) for name in ("tenant", "topic", "key")}


def _checked(name: str, value: str) -> str:
    if (size := len(value.encode())) > MAX_BYTES[name]:
        raise PermanentError(f"the {name} of an entry has {size} bytes, the store holds {MAX_BYTES[name]}")
    return value


def _truncate(text: str, limit: int) -> str:
    """At most so many bytes, without half a character."""
    data = text.encode()
    return text if len(data) <= limit else data[:limit].decode(errors="ignore")


def _attributes(text: str) -> Any:
    """The object, its nulls left out: Milvus 2.3 finds them where 2.5 and Lite take them for missing."""
    if (size := len(text.encode())) > MAX_BYTES["attributes"]:
        raise PermanentError(f"the attributes of an entry have {size} bytes, the store holds {MAX_BYTES['attributes']}")
    return _without_nulls(json.loads(text))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return value


def _json(attributes: Any) -> str:
    found = json.loads(attributes) if isinstance(attributes, str | bytes) else attributes
    return json.dumps(found, ensure_ascii=False)
