"""Looks for secrets where `penstock up` must not leave them: in Ray, in environments, in arguments and in logs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import psutil
import pytest

from tests.embedded.test_supervisor import Up

SECRET = "hunter2-5f3a9c"
_CHUNK_BYTES = 8 << 20
_RAY_KEEPS = ("gcs_server", "raylet")  # Ray's control store, and what starts workers and holds objects


@pytest.fixture
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Up]:
    monkeypatch.setenv("PENSTOCK_STORE__TOKEN", f"root:{SECRET}")
    monkeypatch.setenv("PENSTOCK_GENERATE", f'{{"key": "{SECRET}"}}')
    monkeypatch.setenv("PENSTOCK_TRACING__HEADERS", f"x-key={SECRET}")
    started = Up(tmp_path / "data")
    try:
        yield started
    finally:
        started.end()


@pytest.mark.services
@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.skipif(not os.access("/proc/1/mem", os.R_OK), reason="reads the memory of other processes")
def test_after_a_start_no_secret_is_in_ray_in_an_environment_or_in_a_log(up: Up) -> None:
    up.wait_ready()
    processes = [process for process in up.processes() if process.pid != up.process.pid]
    keepers = [process for process in processes if process.name() in _RAY_KEEPS]
    assert {process.name() for process in keepers} == set(_RAY_KEEPS)
    assert [process for process in processes if SECRET in str(process.environ())] == []
    assert [process for process in processes if SECRET in " ".join(process.cmdline())] == []
    assert [process for process in keepers if is_in_memory(process.pid, SECRET.encode())] == []
    parsing = [process for process in processes if _counts_as(process, "decode", "fetch", "passage", "joint")]
    assert parsing
    assert [process for process in parsing if is_in_memory(process.pid, SECRET.encode())] == []
    logs = [up.log, *(up.data_dir / "logs").iterdir(), *(up.ray.temp_dir).rglob("*.log")]
    assert [log for log in logs if log.is_file() and SECRET.encode() in log.read_bytes()] == []
    kept = [file for file in up.data_dir.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
    assert {file.parent.parent.name for file in kept} == {"secrets"}
    assert up.data_dir.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in kept} == {0o600}


def _counts_as(process: psutil.Process, *names: str) -> bool:
    """Returns whether a process counts under one of these names, whose lock it has open as long as it lives."""
    locks = [Path(file.path) for file in process.open_files() if file.path.endswith(".lock")]
    return any(lock.name.startswith(names) and lock.parent.name == "metrics" for lock in locks)


def is_in_memory(pid: int, text: bytes) -> bool:
    """Returns whether a process has these bytes in memory that it may read, shared memory included."""
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in maps:
            bounds, rights, *_ = line.split()
            if "r" not in rights or line.rstrip().endswith(("[vvar]", "[vsyscall]")):
                continue
            start, end = (int(bound, 16) for bound in bounds.split("-"))
            if _is_between(memory, start, end, text):
                return True
    return False


def _is_between(memory: FileIO, start: int, end: int, text: bytes) -> bool:
    position = start
    while position < end:
        try:
            memory.seek(position)
            data = memory.read(min(_CHUNK_BYTES, end - position) + len(text))
        except (OSError, OverflowError):
            return False
        if not data:
            return False
        if text in data:
            return True
        position += _CHUNK_BYTES
    return False


def test_the_search_of_memory_finds_what_is_there() -> None:
    held = os.urandom(24).hex().encode()
    assert is_in_memory(os.getpid(), held)
