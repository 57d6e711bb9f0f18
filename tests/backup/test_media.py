from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from penstock.assets import AssetStore, StoredMedia
from penstock.backup import media
from penstock.backup.media import MediaCopier, short


def stores(folder: Path) -> tuple[AssetStore, AssetStore]:
    return AssetStore((folder / "from").as_uri()), AssetStore((folder / "to").as_uri())


def test_only_media_that_are_referred_to_and_lacking_are_copied(tmp_path: Path) -> None:
    source, destination = stores(tmp_path)
    names = [source.put(b"medium %d" % number) for number in range(600)]
    destination.put(b"medium 1")
    seen: list[int] = []
    copier = MediaCopier(source, destination, seen.append)
    present = list(copier.copy_referenced({short(name) for name in names[:400]}))
    assert sorted(stored.sha256 for stored in present) == sorted(names[:400])
    assert sorted(stored.sha256 for stored in destination.list()) == sorted(names[:400])
    result = copier.result
    assert (result.present, result.copied, result.missing_count) == (400, 399, 0)
    assert result.size == sum(stored.size for stored in present) == result.copied_bytes + len(b"medium 1")
    assert seen[-1] == 400


def test_what_the_source_lacks_is_counted_and_named(tmp_path: Path) -> None:
    source, destination = stores(tmp_path)
    there, lost = source.put(b"there"), hashlib.sha256(b"lost").hexdigest()
    copier = MediaCopier(source, destination, lambda _: None)
    assert [stored.sha256 for stored in copier.copy_referenced({short(there), short(lost)})] == [there]
    assert (copier.result.missing_count, copier.result.missing) == (1, [short(lost).hex()])


def test_damaged_media_are_missing_not_copied(tmp_path: Path) -> None:
    source, destination = stores(tmp_path)
    name = source.put(b"whole")
    (tmp_path / "from" / name[:2] / name).write_bytes(b"half")
    copier = MediaCopier(source, destination, lambda _: None)
    assert list(copier.copy([StoredMedia(name, 4, 0.0)])) == []
    assert (copier.result.missing_count, copier.result.missing) == (1, [name])
    assert list(destination.list()) == []


def test_an_incomplete_copy_is_replaced(tmp_path: Path) -> None:
    source, destination = stores(tmp_path)
    name = source.put(b"whole")
    destination.put(b"whole")
    (tmp_path / "to" / name[:2] / name).write_bytes(b"wh")
    copier = MediaCopier(source, destination, lambda _: None)
    list(copier.copy_referenced({short(name)}))
    assert destination.read(name) == b"whole"


def test_large_media_are_copied_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "_WHOLE_BYTES", 10)
    monkeypatch.setattr(media, "_CHUNK_BYTES", 7)
    source, destination = stores(tmp_path)
    data = bytes(range(256))
    name = source.put(data)
    monkeypatch.setattr(source, "read", None)  # would hold all of it in memory
    copier = MediaCopier(source, destination, lambda _: None)
    list(copier.copy_referenced({short(name)}))
    assert destination.read(name) == data
