"""Runs the server of Milvus Lite as a child process: the store of `penstock up` and of tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from penstock.config import StoreSettings
from penstock.errors import ConfigError, UnavailableError
from penstock.processes import Child, free_port, listens
from penstock.store.milvus.client import Connection

HOST = "127.0.0.1"
# It replays its log before it answers. Starting takes 2 to 4 s; a busy machine gets thirty times that.
START_TIMEOUT_S = 120.0
# Rows that are still in the memtable are read one by one in Python, with a filter at 30 ms per 1,000. Measured at
# 20,000 rows of 512-d written in batches of 32, search with a tenant while writing, p50, and upserts per second: 128 MB
# (the default) 1,500 ms and 2,500/s; 4 MB 107 ms and 1,970/s; 2 MB 86 ms and 1,580/s; 1 MB 63 ms and 1,700/s. Its
# compaction keeps the files few (2 to 5 at the end).
MEMTABLE_BYTES = 1024 * 1024


class EmbeddedMilvus:
    """One server on one data folder. Acknowledged data survives `stop`, and a SIGKILL.

    It has one worker: overlapping upserts into one collection lose data in Milvus Lite 3.2.

    Attributes:
        uri: address of the server; empty before the first start.

    Args:
        data_dir: folder of the data; created if missing.
        log: file for its output; default: beside the data.
    """

    def __init__(self, data_dir: Path, *, log: Path | None = None) -> None:
        self._data_dir = data_dir
        self._log = log or data_dir.with_name(f"{data_dir.name}.log")
        self._child: Child | None = None
        self.uri = ""

    def start(self, port: int | None = None) -> str:
        """Starts the server, and returns its URI once it answers.

        Args:
            port: TCP port of loopback; None: a free one.

        Raises:
            ConfigError: the port is in use.
            UnavailableError: it ended or did not answer in time; the message quotes its log.
        """
        if self._child is not None:
            raise RuntimeError("this server is already started: stop it first")
        if port is not None and listens(HOST, port):
            raise ConfigError(
                f"port {port} for Milvus Lite is in use: stop the process that listens there, or choose another port"
            )
        port = port or free_port()
        self.uri = f"http://{HOST}:{port}"
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._child = Child("Milvus Lite", self._command(port), log=self._log, env=_environment())
        try:
            self._child.wait_until(lambda: listens(HOST, port) and _answers(self.uri), timeout_s=START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise
        return self.uri

    def stop(self) -> None:
        """Ends the server. No error if it does not run."""
        child, self._child = self._child, None
        if child is not None:
            child.stop()

    def kill(self) -> None:
        """Sends SIGKILL, for tests of crashes."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and self._child.alive

    @property
    def pid(self) -> int | None:
        """The process id; None if the server is not started."""
        return self._child.pid if self._child else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _command(self, port: int) -> list[str]:
        command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(self._data_dir)]
        return [*command, "--host", HOST, "--port", str(port), "--max-workers", "1"]


def _environment() -> dict[str, str]:
    return {**os.environ, "MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES": str(MEMTABLE_BYTES)}


def _answers(uri: str) -> bool:
    connection = Connection(StoreSettings(uri=uri, timeout_s=1.0))
    try:
        connection.ping()
    except UnavailableError:
        return False
    finally:
        connection.close()
    return True
