from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import requests

from penstock.embedded import kafka_jars as lock
from penstock.embedded.kafka_jars import Jar, default_cache, fetch_jars, read_lock
from penstock.errors import UnavailableError


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise requests.ConnectionError("no route to host")

    monkeypatch.setattr(requests, "request", refuse)


def test_the_lock_names_every_jar_by_version_and_checksum_and_no_registry() -> None:
    jars = read_lock()
    assert len(jars) > 40
    assert all(re.fullmatch(r"[\w.-]+:[\w.-]+:[\w.-]+", jar.coordinate) for jar in jars)
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in jars)
    assert {root for root, _ in lock.ROOTS} <= {jar.coordinate for jar in jars}
    assert len({jar.filename for jar in jars}) == len(jars)
    assert "http" not in Path(lock.__file__).with_name("kafka.lock.json").read_text()


@pytest.mark.usefixtures("offline")
def test_a_second_run_needs_no_network() -> None:
    folder = fetch_jars(default_cache())  # other tests have filled it
    assert {path.name for path in folder.iterdir()} == {jar.filename for jar in read_lock()}


@pytest.mark.usefixtures("offline")
def test_jars_that_cannot_be_fetched_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"kafka\.bootstrap_servers") as caught:
        fetch_jars(tmp_path)
    assert "no route to host" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("download-*"))


def test_only_what_is_missing_or_damaged_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jars = sorted(read_lock(), key=lambda jar: (fetch_jars(default_cache()) / jar.filename).stat().st_size)[:3]
    monkeypatch.setattr(lock, "read_lock", lambda: jars)
    progress: list[tuple[int, int]] = []
    folder = fetch_jars(tmp_path, on_progress=lambda done, total: progress.append((done, total)))
    assert progress == [(1, 3), (2, 3), (3, 3)]

    (folder / jars[0].filename).write_bytes(b"damaged")
    (folder / jars[1].filename).unlink()
    progress.clear()
    assert fetch_jars(tmp_path, on_progress=lambda done, total: progress.append((done, total))) == folder
    assert progress == [(2, 3), (3, 3)]
    source = shutil.copytree(folder, tmp_path / "copy")
    assert {path.name for path in source.iterdir()} == {jar.filename for jar in jars}


def test_a_jar_with_another_checksum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smallest = min(read_lock(), key=lambda jar: (fetch_jars(default_cache()) / jar.filename).stat().st_size)
    monkeypatch.setattr(lock, "read_lock", lambda: [Jar(smallest.coordinate, "0" * 64)])
    with pytest.raises(UnavailableError, match="not the jar that was locked"):
        fetch_jars(tmp_path)
    assert not list(tmp_path.rglob("*.jar"))
