"""The manifest of a backup: what it has, of which index, and the hash of every part. It is written last.

It is JSON, so that people and other programs can read it. A manifest of a newer schema is refused by its number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from penstock.broker.base import Partition
from penstock.errors import PermanentError, UsageError
from penstock.records import Collection, Field
from penstock.store.base import IndexSpec
from penstock.store.provenance import EncoderInfo

SCHEMA = 2
"""The number of the schema that this release writes, and the highest that it reads. Entries of 1 have no pages."""

ASSETS, LETTERS, MEDIA, LEFT_OUT = "assets", "letters", "media", "left-out"
"""The kinds of parts beside those of entries, which are named after their collection."""


class DamagedBackupError(PermanentError):
    """A part of a backup is missing, or not what its manifest says."""


class NewerBackupError(UsageError):
    """A backup was made by a newer Penstock, in a form that this one does not know."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a backup.

    Attributes:
        path: below the folder of the backup.
        rows: in it.
        size: bytes.
        sha256: of the file, hexadecimal.
    """

    path: str
    rows: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PartitionOffset:
    """The offset from which a restored index is brought up to date, in one partition.

    Attributes:
        topic, partition: name the partition.
        offset: the next one that the group would have read; None if it never committed.
        log_end: the end of the log at that time.
    """

    topic: str
    partition: int
    offset: int | None
    log_end: int

    @property
    def key(self) -> Partition:
        """The partition."""
        return Partition(self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class BackupCounts:
    """The numbers of what a backup has.

    Attributes:
        assets: asset rows.
        entries: by collection.
        letters: dead letters.
        media: files of the asset store, those of earlier backups included.
        media_bytes: their size.
        missing_media: media that rows refer to and the asset store did not have.
        left_out: assets that changed during the backup. A restore replays them.
        damaged: assets whose entries did not fit their rows before, and which are backed up so.
    """

    assets: int
    entries: Mapping[str, int]
    letters: int
    media: int
    media_bytes: int
    missing_media: int
    left_out: int
    damaged: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest.

    Over the limit because it is one JSON document.

    Attributes:
        id: of the backup: the time at which it began, in UTC.
        penstock: the version that made it.
        began_ms, ended_ms: milliseconds since the epoch.
        profile: the models of the index, with all choices.
        spec: the collections with their encoders, as a restore creates them.
        aliases: the physical collection behind each alias, for the record: a restore creates its own.
        group: the consumer group whose offsets these are.
        dead_letter_topic: the topic of the dead letters.
        offsets: where a restore replays from.
        counts: of what the backup has.
        parts: the files, by kind.
    """

    id: str
    penstock: str
    began_ms: int
    ended_ms: int
    profile: str
    spec: IndexSpec
    aliases: Mapping[str, str]
    group: str
    dead_letter_topic: str
    offsets: Sequence[PartitionOffset]
    counts: BackupCounts
    parts: Mapping[str, Sequence[Part]]

    def to_json(self) -> bytes:
        """Returns the document."""
        document = asdict(self) | {"schema": SCHEMA, "spec": _spec_json(self.spec)}
        return json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True).encode() + b"\n"

    @property
    def every_part(self) -> Sequence[Part]:
        """All files, without the manifest."""
        return [part for parts in self.parts.values() for part in parts]


def parse_manifest(name: str, data: bytes) -> Manifest:
    """Parses a manifest.

    Args:
        name: of the backup, for messages.
        data: the document.

    Raises:
        NewerBackupError: a newer Penstock wrote it.
        DamagedBackupError: it is no manifest.
    """
    try:
        document: dict[str, Any] = json.loads(data)
        schema = int(document.pop("schema"))
        if schema > SCHEMA:
            raise NewerBackupError(
                f"backup {name} has schema {schema}, made by Penstock {document.get('penstock')}, and this Penstock "
                f"reads up to schema {SCHEMA}: restore it with that version or a newer one"
            )
        return Manifest(
            **document
            | {
                "spec": _parse_spec(document["spec"]),
                "offsets": [PartitionOffset(**offset) for offset in document["offsets"]],
                "counts": BackupCounts(**document["counts"]),
                "parts": {kind: [Part(**part) for part in parts] for kind, parts in document["parts"].items()},
            }
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise DamagedBackupError(f"the manifest of backup {name} cannot be read ({exc!r}): take another one") from exc


def _spec_json(spec: IndexSpec) -> Mapping[str, Any]:
    return {
        "version": spec.version,
        "num_shards": spec.num_shards,
        "collections": {
            collection.value: {
                "model_slug": spec.model_slug[collection],
                "lexical": collection in spec.lexical,
                "vectors": {field.value: asdict(EncoderInfo.from_spec(vector)) for field, vector in fields.items()},
            }
            for collection, fields in spec.vectors.items()
        },
    }


def _parse_spec(document: Mapping[str, Any]) -> IndexSpec:
    collections = {Collection(name): recorded for name, recorded in document["collections"].items()}
    return IndexSpec(
        vectors={
            collection: {Field(name): EncoderInfo(**info).to_spec() for name, info in recorded["vectors"].items()}
            for collection, recorded in collections.items()
        },
        model_slug={collection: recorded["model_slug"] for collection, recorded in collections.items()},
        version=int(document["version"]),
        num_shards=int(document["num_shards"]),
        lexical=frozenset(collection for collection, recorded in collections.items() if recorded["lexical"]),
    )
