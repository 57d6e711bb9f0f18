from __future__ import annotations

import resource
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.backup.folder import BackupFolder
from penstock.backup.manifest import DamagedBackupError
from penstock.errors import ConfigError, UnavailableError, UsageError
from tests.backup.test_manifest import MANIFEST
from tests.backup.world import World


@pytest.fixture(params=["file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> BackupFolder:
    return BackupFolder(f"memory://{uuid.uuid4().hex}" if request.param == "memory" else str(tmp_path / "backups"))


def test_a_folder_without_a_manifest_is_no_backup(folder: BackupFolder) -> None:
    assert folder.ids() == []
    with pytest.raises(UsageError, match="no complete backup"):
        folder.manifest()
    part = folder.put_part("20300101T000000.000Z", "text/00000.parquet", b"data", 1)
    assert (folder.ids(), folder.folders()) == ([], ["20300101T000000.000Z"])
    folder.put_manifest(replace(MANIFEST, parts={"text": [part]}))
    assert folder.ids() == [MANIFEST.id]
    assert folder.read_part(MANIFEST.id, folder.manifest().parts["text"][0]) == b"data"


def test_the_newest_backup_is_the_default(folder: BackupFolder) -> None:
    for id_ in ("20300102T000000.000Z", "20291231T235959.999Z", "20300101T000000.000Z"):
        folder.put_manifest(replace(MANIFEST, id=id_))
    assert folder.manifest().id == "20300102T000000.000Z"
    assert folder.manifest("20291231T235959.999Z").id == "20291231T235959.999Z"
    with pytest.raises(UsageError, match="no complete backup 2031"):
        folder.manifest("2031")


@pytest.mark.parametrize("damage", [b"dat", b"Data", b"data and more"])
def test_a_damaged_part_is_named(folder: BackupFolder, damage: bytes) -> None:
    part = folder.put_part("id", "text/00003.parquet", b"data", 1)
    folder.put_part("id", "text/00003.parquet", damage, 1)
    with pytest.raises(DamagedBackupError, match=r"text/00003\.parquet of backup id .* is damaged"):
        folder.read_part("id", part)


def test_a_missing_part_is_named(folder: BackupFolder) -> None:
    part = folder.put_part("id", "text/00003.parquet", b"data", 1)
    folder.remove("id")
    assert folder.folders() == []
    with pytest.raises(DamagedBackupError, match=r"lacks its part text/00003\.parquet"):
        folder.read_part("id", part)


def test_a_url_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        BackupFolder("nosuchscheme://somewhere")
    with pytest.raises(ConfigError, match="a user or a password"):
        BackupFolder("s3://key:secret@bucket/backups")


def test_a_place_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "backups").write_text("a file in its place")
    with pytest.raises(UnavailableError, match="among the backups at"):
        BackupFolder(str(tmp_path)).put_part("id", "text/00000.parquet", b"data", 1)


@contextmanager
def full_disk(left: int) -> Iterator[None]:
    """Lets no file grow beyond this size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_manifest_that_cannot_be_written_whole_is_not_there(tmp_path: Path) -> None:
    folder = BackupFolder(str(tmp_path))
    part = folder.put_part(MANIFEST.id, "text/00000.parquet", b"data", 1)
    manifest = replace(MANIFEST, parts={"text": [part] * 3_000})
    with full_disk(100_000), pytest.raises(UnavailableError, match="File too large"):
        folder.put_manifest(manifest)
    assert folder.ids() == []
    assert [path.name for path in (tmp_path / "backups" / MANIFEST.id).iterdir()] == ["text"]
    folder.put_manifest(manifest)
    assert folder.manifest() == manifest


def test_local_backups_are_closed_to_other_users(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.produce("k")
    world.ingest()
    world.put(replace(world.rows()[0], uri=f"asset:{world.assets.put(b'media')}"))
    world.back_up()
    root = tmp_path / "backups"
    assert [folder.stat().st_mode & 0o077 for folder in (root, root / "backups", root / "media")] == [0, 0, 0]
    files = [path for path in (root / "backups").rglob("*") if path.is_file()]
    assert len(files) > 2
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert len([path for path in (root / "media").rglob("*") if path.is_file()]) == 1
