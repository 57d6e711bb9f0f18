"""Checks the asset store, in a local folder and on an object store."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import fsspec
import pytest
from s3fs import S3FileSystem

from penstock.assets import (
    REFRESH_AFTER_S,
    AssetStore,
    MissingAssetError,
    SweepLimits,
    SweepReport,
    asset_uri,
    sha256_of,
    sweep,
)
from penstock.assets import store as store_module
from penstock.errors import ConfigError, UnavailableError
from tests.services import s3_server

DATA = b"some media"
NAME = hashlib.sha256(DATA).hexdigest()
DAY_S = 86_400.0


@pytest.fixture(scope="session")
def s3() -> Iterator[Mapping[str, str]]:
    """The environment of clients of a running S3 server."""
    with s3_server() as environment:
        yield environment


@pytest.fixture
def bucket_url(s3: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder in a new bucket."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    bucket = f"media-{uuid.uuid4().hex[:8]}"
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(bucket)
    return f"s3://{bucket}/media"


@pytest.fixture(params=["file", "memory", pytest.param("s3", marks=pytest.mark.operate)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AssetStore]:
    if request.param == "file":
        yield AssetStore((tmp_path / "not created yet").as_uri())
        return
    if request.param == "s3":
        yield AssetStore(request.getfixturevalue("bucket_url"))
        return
    root = f"memory://assets-{uuid.uuid4().hex}"
    yield AssetStore(root)
    memory, path = fsspec.filesystem("memory"), root.removeprefix("memory:/")
    if memory.exists(path):
        memory.rm(path, recursive=True)


@pytest.fixture
def folder(tmp_path: Path) -> tuple[AssetStore, Path]:
    return AssetStore(str(tmp_path)), tmp_path / NAME[:2] / NAME


def swept(store: AssetStore, referenced: Iterable[str], *, grace_s: float, now_s: float) -> SweepReport:
    return sweep(store, referenced, SweepLimits(grace_s, rest_s=7 * DAY_S, force=True), owner="test", now_s=now_s)


def _age(path: Path, days: float) -> None:
    then = time.time() - days * DAY_S
    os.utime(path, (then, then))


def test_media_are_read_by_their_hash(store: AssetStore) -> None:
    assert store.put(DATA) == NAME
    assert store.exists(NAME)
    assert store.read(NAME) == DATA
    assert store.size(NAME) == len(DATA)


def test_a_range_is_read_without_the_rest(store: AssetStore) -> None:
    store.put(DATA)
    assert store.read_range(NAME, 2, 5) == DATA[2:5]
    assert store.read_range(NAME, 0, len(DATA)) == DATA
    assert store.read_range(NAME, 3, 3) == b""
    with pytest.raises(MissingAssetError, match="ends before"):
        store.read_range(NAME, 2, len(DATA) + 1)
    store.delete(NAME)
    with pytest.raises(MissingAssetError, match="is not in the asset store"):
        store.read_range(NAME, 2, 5)


def test_media_arrive_in_chunks_and_appear_when_they_are_complete(store: AssetStore) -> None:
    def chunks() -> Iterator[bytes]:
        yield DATA[:4]
        assert list(store.list()) == []
        yield DATA[4:]

    store.put_chunks(NAME, chunks())
    assert store.read(NAME) == DATA
    store.put_chunks(NAME, [DATA])
    assert [stored.sha256 for stored in store.list()] == [NAME]


@pytest.mark.parametrize("chunks", [[DATA, b"more"], [b"other"], []])
def test_chunks_of_other_media_are_refused_and_leave_nothing(store: AssetStore, chunks: list[bytes]) -> None:
    with pytest.raises(MissingAssetError, match="has another hash"):
        store.put_chunks(NAME, chunks)
    assert not store.exists(NAME)
    store.remove_leftovers(time.time() + DAY_S)
    assert list(store.list()) == []


def test_media_are_listed_once_however_often_they_were_put(store: AssetStore) -> None:
    before = time.time()
    for data in (DATA, b"other", DATA, b""):
        store.put(data)
    files = {stored.sha256: stored for stored in store.list()}
    assert {stored.size for stored in files.values()} == {len(DATA), 5, 0}
    assert len(files) == 3
    assert all(before - 2 < stored.modified_s < time.time() + 2 for stored in files.values())


def test_deleted_media_are_missing_and_deleting_twice_is_no_error(store: AssetStore) -> None:
    store.put(DATA)
    store.delete(NAME)
    store.delete(NAME)
    assert not store.exists(NAME)
    for read in (store.read, store.size):
        with pytest.raises(MissingAssetError, match=NAME):
            read(NAME)


def test_an_empty_store_lists_and_sweeps_nothing(store: AssetStore) -> None:
    store.put(DATA)
    store.delete(NAME)
    assert list(store.list()) == []
    assert swept(store, [], grace_s=0, now_s=time.time() + DAY_S).checked == 0


def test_the_sweep_removes_only_old_media_that_nothing_refers_to(store: AssetStore) -> None:
    kept, unused = store.put(b"kept"), store.put(b"unused")
    in_two_days_s = time.time() + 2 * DAY_S
    assert swept(store, [kept], grace_s=3 * DAY_S, now_s=in_two_days_s).removed == 0
    report = swept(store, iter([kept, kept]), grace_s=DAY_S, now_s=in_two_days_s)
    assert (report.checked, report.removed, report.removed_bytes, report.too_young) == (2, 1, 6, 0)
    assert store.exists(kept)
    assert not store.exists(unused)


_PUT_MANY = """
import sys
from penstock.assets import AssetStore
store = AssetStore(sys.argv[1])
for number in range(500):
    print(store.put(b"media %d" % number))
"""


@pytest.mark.operate
def test_media_of_a_process_that_is_gone_are_read_by_another(bucket_url: str) -> None:
    put = subprocess.run([sys.executable, "-c", _PUT_MANY, bucket_url], capture_output=True, text=True, check=True)
    names = put.stdout.split()
    store = AssetStore(bucket_url)
    assert [store.read(name) for name in names] == [b"media %d" % number for number in range(500)]
    assert {stored.sha256 for stored in store.list()} == set(names)


@pytest.mark.operate
def test_a_wrong_secret_of_an_s3_server_is_unavailable_and_names_the_store(
    bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(UnavailableError, match=rf"{bucket_url} failed: .*\. See assets\.url\."):
        AssetStore(bucket_url).put(DATA)
    S3FileSystem.clear_instance_cache()


def test_a_repeated_put_resets_the_age(folder: tuple[AssetStore, Path]) -> None:
    store, path = folder
    store.put(DATA)
    _age(path, 9)
    store.put(DATA)
    report = swept(store, [], grace_s=DAY_S, now_s=time.time())
    assert (report.removed, report.too_young) == (0, 1)


def test_a_repeated_put_does_not_write_the_file_again(folder: tuple[AssetStore, Path]) -> None:
    store, path = folder
    store.put(DATA)
    inode = path.stat().st_ino
    store.put(DATA)
    assert path.stat().st_ino == inode


def test_media_truncated_by_a_power_failure_are_written_again(folder: tuple[AssetStore, Path]) -> None:
    store, path = folder
    store.put(DATA)
    path.write_bytes(DATA[:3])
    store.put(DATA)
    assert store.read(NAME) == DATA


def test_media_truncated_by_a_full_disk_are_written_again(
    folder: tuple[AssetStore, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, path = folder

    def full(file: int, data: memoryview) -> int:
        if path.stat().st_size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[:3])

    write = os.write
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(UnavailableError, match="No space left"):
        store.put(DATA)
    monkeypatch.undo()
    assert path.stat().st_size == 0
    store.put(DATA)
    assert store.read(NAME) == DATA


def test_media_that_another_process_is_writing_are_complete_when_put_returns(folder: tuple[AssetStore, Path]) -> None:
    store, path = folder
    path.parent.mkdir()
    with path.open("wb") as other:
        other.write(DATA[:3])
        other.flush()
        with pytest.raises(MissingAssetError, match="incomplete"):
            store.read(NAME)
        store.put(DATA)
        assert store.read(NAME) == DATA
        other.write(DATA[3:])
    assert store.read(NAME) == DATA


def test_old_objects_are_rewritten_and_swept_with_that_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    store = AssetStore(f"memory://assets-{uuid.uuid4().hex}")
    store.put(DATA)
    first = next(store.list()).modified_s
    store.put(DATA)
    assert next(store.list()).modified_s == first
    young = swept(store, [], grace_s=DAY_S, now_s=first + DAY_S + REFRESH_AFTER_S - 1)
    assert young.removed == 0
    monkeypatch.setattr(store_module, "REFRESH_AFTER_S", 0.0)
    store.put(DATA)
    assert next(store.list()).modified_s > first


def test_a_put_while_the_sweep_runs_is_never_lost(folder: tuple[AssetStore, Path]) -> None:
    store, path = folder
    store.put(DATA)
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            if path.exists():
                try:
                    _age(path, 9)
                except FileNotFoundError:
                    continue
            swept(store, [], grace_s=DAY_S, now_s=time.time())

    def put() -> None:
        for _ in range(300):
            AssetStore(store.url).put(b"x")
            store.put(DATA)

    threads = [threading.Thread(target=put) for _ in range(2)]
    sweeper = threading.Thread(target=sweep)
    for thread in (sweeper, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    sweeper.join()
    store.put(DATA)
    swept(store, [], grace_s=DAY_S, now_s=time.time())
    assert store.read(NAME) == DATA


def test_a_put_between_listing_and_removal_keeps_the_media(
    folder: tuple[AssetStore, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, path = folder
    store.put(DATA)
    _age(path, 9)
    listed = list(store.list())
    monkeypatch.setattr(store, "list", lambda: iter(listed))
    store.put(DATA)  # after the sweep has listed the old file
    assert swept(store, [], grace_s=DAY_S, now_s=time.time()).removed == 0
    assert store.read(NAME) == DATA


def test_leftovers_of_dead_writers_are_swept(folder: tuple[AssetStore, Path]) -> None:
    store, path = folder
    store.put(DATA)
    old, young = (path.with_name(f".{NAME}.{uuid.uuid4().hex}.tmp") for _ in range(2))
    for leftover in (old, young):
        leftover.write_bytes(b"half")
    _age(old, 9)
    assert [stored.sha256 for stored in store.list()] == [NAME]
    swept(store, [NAME], grace_s=DAY_S, now_s=time.time())
    assert (old.exists(), young.exists()) == (False, True)


def test_concurrent_writers_of_the_same_media_leave_one_complete_file(folder: tuple[AssetStore, Path]) -> None:
    store, path = folder
    data = os.urandom(1_000_000)
    threads = [threading.Thread(target=AssetStore(store.url).put, args=(data,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    name = hashlib.sha256(data).hexdigest()
    assert store.read(name) == data
    assert [file.name for file in (path.parent.parent / name[:2]).iterdir()] == [name]


def test_a_store_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    blocker = tmp_path / "a file"
    blocker.write_bytes(b"")
    with pytest.raises(UnavailableError, match="writing 10 bytes"):
        AssetStore(str(blocker)).put(DATA)


def test_a_url_without_a_file_system_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"assets\.url"):
        AssetStore("gopher://x/y")


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "AB" * 32, "a" * 63])
def test_only_hashes_are_accepted_as_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a SHA-256"):
        AssetStore(str(tmp_path)).read(name)


def test_asset_uris_contain_the_hash() -> None:
    assert sha256_of(asset_uri(NAME)) == NAME
    assert sha256_of("https://host/asset:x") is None
    assert sha256_of("asset:nonsense") is None
