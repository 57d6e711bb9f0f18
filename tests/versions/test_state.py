"""The notes of a re-index: read as written, removed together, refused when they are newer or damaged."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace

import pytest

from penstock.assets import AssetStore
from penstock.config import Settings
from penstock.errors import ConfigError
from penstock.records import AssetRef
from penstock.versions import (
    MAX_NAMED,
    MissingAsset,
    Phase,
    Progress,
    Reindex,
    drop_reindex,
    read_missing,
    read_progress,
    read_reindex,
    version_settings,
    write_missing,
    write_progress,
    write_reindex,
)

REINDEX = Reindex(
    from_version=1,
    to_version=2,
    profile="shelf",
    group="penstock.v2",
    started_ms=1_700_000_000_000,
    settings={"profile": "shelf", "store": {"version": 2}, "kafka": {"group": "penstock.v2"}},
)


@pytest.fixture
def assets() -> AssetStore:
    return AssetStore(f"memory://versions-{uuid.uuid4().hex}")


@pytest.mark.parametrize("phase", list(Phase))
def test_a_reindex_is_read_as_it_was_written(assets: AssetStore, phase: Phase) -> None:
    reindex = replace(REINDEX, phase=phase, waived=True, transform="/models/turned.safetensors")
    write_reindex(assets, reindex)
    assert read_reindex(assets) == reindex


def test_a_store_without_a_reindex_has_no_notes(assets: AssetStore) -> None:
    assert read_reindex(assets) is None
    assert read_progress(assets) is None
    assert read_missing(assets) == []


def test_a_note_of_a_newer_release_is_refused_by_name(assets: AssetStore) -> None:
    assets.put_note("reindex.json", json.dumps({"schema": 7, "surprise": True}).encode())
    with pytest.raises(ConfigError, match=r"reindex\.json .* has schema 7"):
        read_reindex(assets)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"schema": 1}', b'{"from_version": 1}', b"\xff"])
def test_a_damaged_note_is_refused_by_name(assets: AssetStore, damage: bytes) -> None:
    assets.put_note("reindex.json", damage)
    with pytest.raises(ConfigError, match=r"reindex\.json .* cannot be read"):
        read_reindex(assets)


def test_the_end_of_a_reindex_removes_all_its_notes(assets: AssetStore) -> None:
    write_reindex(assets, REINDEX)
    write_progress(assets, Progress(3, 9, 1, 0.5, 5))
    write_missing(assets, [MissingAsset(AssetRef("t", "media.text", "k"), "gone")])
    drop_reindex(assets)
    assert (read_reindex(assets), read_progress(assets), read_missing(assets)) == (None, None, [])


def test_progress_says_how_long_the_rest_takes(assets: AssetStore) -> None:
    progress = Progress(done=300, total=900, missing=2, rate_per_s=20.0, updated_ms=7, after="ab", lag=4)
    write_progress(assets, progress)
    assert read_progress(assets) == progress
    assert progress.left_s == 30.0
    assert replace(progress, rate_per_s=0.0).left_s is None
    assert replace(progress, done=900, rate_per_s=0.0).left_s == 0.0


def test_names_of_missing_assets_are_bounded(assets: AssetStore) -> None:
    missing = [
        MissingAsset(AssetRef("t", "media.image", f"ключ {number}\n"), "gone") for number in range(MAX_NAMED + 3)
    ]
    write_missing(assets, iter(missing))
    assert read_missing(assets) == missing[:MAX_NAMED]


def test_the_settings_of_the_new_version_are_those_of_its_plane() -> None:
    settings = Settings(profile="reference")
    new = version_settings(settings, REINDEX, 2)
    assert (new.profile, new.store.version, new.kafka.group) == ("shelf", 2, "penstock.v2")
    assert new.kafka.control_topic == settings.kafka.control_topic
    assert version_settings(settings, REINDEX, 1) == settings
    assert version_settings(settings, None, 3).store.version == 3


@pytest.mark.parametrize(
    "changes", [{"store": {"version": 0}}, {"surprise": 1}, {"device": 7}, {"store": {"nothing": 1}}]
)
def test_a_recorded_setting_that_is_refused_is_named(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        version_settings(Settings(), replace(REINDEX, settings=changes), 2)
