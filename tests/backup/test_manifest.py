from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from penstock.backup.manifest import (
    SCHEMA,
    BackupCounts,
    DamagedBackupError,
    Manifest,
    NewerBackupError,
    Part,
    PartitionOffset,
    parse_manifest,
)
from penstock.backup.restoring import restored_spec
from penstock.config import StoreSettings
from penstock.records import Collection
from tests.store.builders import spec

MANIFEST = Manifest(
    id="20300101T000000.000Z",
    penstock="0.1.0",
    began_ms=1,
    ended_ms=2,
    profile="shelf:image=clip",
    spec=spec(version=3, shards=4, lexical=frozenset([Collection.TEXT])),
    aliases={"image": "image__clip_a__v3"},
    group="penstock",
    dead_letter_topic="media.dlq",
    offsets=[PartitionOffset("media.text", 0, None, 0), PartitionOffset("media.text", 1, 7, 9)],
    counts=BackupCounts(3, {"text": 4, "image": 5}, 1, 2, 99, 0, 1, 0),
    parts={"assets": [Part("assets/00000.parquet", 3, 10, "ab")], "media": []},
)


def changed(**members: Any) -> bytes:
    return json.dumps(json.loads(MANIFEST.to_json()) | members).encode()


def test_a_manifest_comes_back_as_it_was() -> None:
    assert parse_manifest(MANIFEST.id, MANIFEST.to_json()) == MANIFEST


def test_a_newer_schema_is_refused_by_its_number_and_version() -> None:
    document = changed(schema=SCHEMA + 1, penstock="9.9.9", what_only_it_knows=1)
    with pytest.raises(NewerBackupError, match=rf"{MANIFEST.id} has schema {SCHEMA + 1}, made by Penstock 9\.9\.9"):
        parse_manifest(MANIFEST.id, document)


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"null", b"{", b'{"schema": 1}', changed(counts={}), changed(spec={}), changed(unknown=1)]
)
def test_what_is_no_manifest_is_a_damaged_backup(document: bytes) -> None:
    with pytest.raises(DamagedBackupError, match=f"the manifest of backup {MANIFEST.id}"):
        parse_manifest(MANIFEST.id, document)


def test_a_restore_takes_version_and_shards_from_the_settings() -> None:
    restored = restored_spec(MANIFEST, StoreSettings(version=5, num_shards=1))
    assert (restored.version, restored.num_shards) == (5, 1)
    assert restored.vectors == MANIFEST.spec.vectors


def test_a_backend_without_lexical_search_leaves_it_to_the_next_one() -> None:
    without = replace(MANIFEST, spec=spec(lexical=frozenset()))
    assert restored_spec(without, StoreSettings()).lexical == {Collection.TEXT}
