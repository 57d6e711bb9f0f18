"""Checks what surrounds the real Milvus; `tests/store` runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from penstock.config import load_settings
from penstock.embedded.milvus_standalone import MilvusStandalone, end_leftover, record_process
from penstock.embedded.store import check_embedded_store, embedded_store
from penstock.errors import ConfigError


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends at SIGTERM and not by itself."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


def test_the_process_of_a_former_start_is_ended(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    file = tmp_path / "process.json"
    record_process(file, process.pid)
    assert end_leftover(file)
    assert not psutil.pid_exists(process.pid) or process.wait(5) is not None
    assert not file.exists()
    assert not end_leftover(file)


def test_another_process_with_the_same_id_is_left_alone(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    file = tmp_path / "process.json"
    record_process(file, os.getppid())  # started at another time
    file.write_text(file.read_text().replace(str(os.getppid()), str(process.pid)))
    assert not end_leftover(file)
    assert process.poll() is None


@pytest.mark.parametrize("content", ["", "{}", '{"pid": 1}', '{"pid": 4194305, "started_s": 1.0}'])
def test_a_file_that_names_no_process_is_removed(content: str, tmp_path: Path) -> None:
    file = tmp_path / "process.json"
    file.write_text(content)
    assert not end_leftover(file)
    assert not file.exists()


def test_without_its_package_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "milvus", None)
    with pytest.raises(ConfigError, match=r"penstock\[milvus\]"):
        MilvusStandalone(tmp_path / "milvus").start()
    assert not (tmp_path / "milvus").exists()


@pytest.mark.parametrize(
    ("embedded", "folder", "other"), [("milvus", "milvus", "lite"), ("lite", "milvus-standalone", "milvus")]
)
def test_the_other_store_is_refused_on_a_folder_that_has_an_index(
    embedded: str, folder: str, other: str, tmp_path: Path
) -> None:
    settings = load_settings(data_dir=tmp_path, store={"embedded": embedded})
    check_embedded_store(settings)
    (tmp_path / folder / "data").mkdir(parents=True)
    for refuse in (check_embedded_store, embedded_store):
        with pytest.raises(ConfigError, match=f"store.embedded={other}"):
            refuse(settings)
    check_embedded_store(load_settings(data_dir=tmp_path, store={"embedded": other}))
