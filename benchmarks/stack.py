"""A whole Penstock to measure: `penstock up` as a person runs it, on a folder of its own, gone afterwards.

It is a process of its own and so are its parts; nothing of it shares an interpreter with what measures it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.components import Component, component_of
from penstock.config import Settings, load_settings, read_endpoints, to_environment, with_endpoints
from penstock.errors import UnavailableError
from penstock.processes import Child

_START_TIMEOUT_S = 240.0
_STOP_TIMEOUT_S = 90.0
_PREFIX = "PENSTOCK_"
_DATA = "data"


class LocalStack:
    """A running `penstock up`.

    Args:
        settings: what it runs on; `data_dir` is its own.
        child: the process.
    """

    def __init__(self, settings: Settings, child: Child) -> None:
        self.settings = settings
        self._child = child

    @property
    def query_url(self) -> str:
        endpoints = read_endpoints(self.settings.data_dir)
        if endpoints is None:
            raise UnavailableError("the measured `penstock up` ended by itself; its `up.log` says why")
        return endpoints.query_url

    def processes(self) -> list[psutil.Process]:
        """Returns the process and all its descendants."""
        root = psutil.Process(self._child.pid)
        return [root, *root.children(recursive=True)]

    def cpu_s(self) -> dict[Component, float]:
        """Returns CPU seconds by component, of all living processes, since each started."""
        total = dict.fromkeys(Component, 0.0)
        for process in self.processes():
            try:
                times = process.cpu_times()
                total[component_of(process.cmdline())] += times.user + times.system
            except psutil.NoSuchProcess:
                continue
        return total

    def idle_cores(self, seconds: float) -> dict[str, float]:
        """Returns the cores that each component uses while idle, which measurements beside it lack."""
        before, began_s = self.cpu_s(), time.monotonic()
        time.sleep(seconds)
        took_s = time.monotonic() - began_s
        return {str(part): (cpu_s - before[part]) / took_s for part, cpu_s in self.cpu_s().items()}


def stack_settings(folder: Path, *, profile: str, store_uri: str | None, **more: Any) -> Settings:
    """The settings of the environment, on a folder, Kafka and Ray of its own.

    Args:
        folder: empty.
        profile: its models.
        store_uri: a Milvus to measure instead of the embedded Lite. Its collections are written to.
        more: sections with the settings that a measurement needs: `ingest={"modalities": …}`. They go over those of the
            environment, setting by setting.

    Raises:
        ConfigError: a setting that cannot be used.
    """
    around = load_settings()
    fixed: dict[str, Mapping[str, Any]] = {
        "kafka": {"bootstrap_servers": None},
        "store": {"uri": store_uri},
        "query": {"port": 0},
        "metrics": {"port": 0},
        "canary": {"interval_s": 0.0},  # its events would be counted among those that are measured
    }
    sections = {
        name: getattr(around, name).model_dump() | dict(fixed.get(name, {})) | dict(more.get(name, {}))
        for name in fixed.keys() | more.keys()
    }
    return load_settings(profile=profile, data_dir=folder / _DATA, ray_address=None, **sections)


@contextmanager
def running_stack(settings: Settings) -> Iterator[LocalStack]:
    """`penstock up` on these settings, ready for events and questions; stopped with all its children, come what may.

    Raises:
        UnavailableError: it did not come up; the message quotes its log.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIX)}
    environment |= to_environment(settings)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "penstock.cli.main", "up"]
    child = Child("the measured `penstock up`", command, log=settings.data_dir / "up.log", env=environment)
    try:
        child.wait_until(lambda: read_endpoints(settings.data_dir) is not None, timeout_s=_START_TIMEOUT_S)
        yield LocalStack(with_endpoints(settings), child)
    finally:
        child.stop(timeout_s=_STOP_TIMEOUT_S)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """For a stack; deleted afterwards, also if a process that just died still holds something in it.

    Raises:
        UnavailableError: the one that was raised within. Its cause may be in the stack's logs, so the folder is kept,
            and the message names it.
    """
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    try:
        yield folder
    except UnavailableError as error:
        what_to_do = f"Its logs are kept in {folder / _DATA}: read them, then delete {folder}"
        raise UnavailableError(f"{str(error).rstrip('.')}. {what_to_do}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
