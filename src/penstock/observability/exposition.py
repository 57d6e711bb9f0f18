"""How metrics get from all processes of a node to its one endpoint: prometheus_client's multiprocess mode, made to fit.

    process ─► <data_dir>/metrics/counter_<slot>.db, histogram_…, gauge_…  ─► merged at each scrape ─► /metrics

A **slot** is what a process writes as: its name (`decode`), with a number if that is taken. The process holds a lock on
it for as long as it lives; the kernel gives it back however the process ends. By that lock everything is told:

- A process that takes a dead one's slot goes on with its counters, so that totals never jump back, and the number of
  files stays that of the processes there were at once, however often they are restarted.
- Gauges of a slot that nobody holds are left out: they were said of a process that is gone.

prometheus_client itself names files by process id, which would leave three files behind each restart, and reads its
folder from the environment, which Ray's agents would inherit: they use prometheus_client too.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from prometheus_client import CollectorRegistry, start_http_server, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from penstock.config import Settings
from penstock.observability import metrics

logger = logging.getLogger(__name__)

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# Written out beforehand: a file with holes, mapped into memory, ends its process by SIGBUS when the disk is full. With
# four modalities a lane's histograms take 124 KB; the lag of 256 partitions takes 45 KB. Beyond its size a file grows.
_FILES = {"counter": 64 * 1024, "histogram": 256 * 1024, "gauge_livesum": 64 * 1024, "gauge_livemax": 64 * 1024}
_lock = threading.Lock()
_slot: IO[str] | None = None  # open, and so locked, for as long as this process lives


def connect(settings: Settings, process: str) -> None:
    """From now on this process counts into the node's files. Call it first thing; a second call changes nothing.

    Without room for the files the process counts in memory, and the log says so: metrics never stop the work.

    Args:
        settings: `metrics.enabled`, and the folder.
        process: what this process is, without a number: `decode`.
    """
    global _slot  # noqa: PLW0603 - as prometheus_client's own choice of where values are kept, it is the process's
    with _lock:
        if _slot is not None or not settings.metrics.enabled:
            return
        try:
            slot = _take_slot(settings.metrics_dir, process)
        except OSError as exc:
            where = settings.metrics_dir
            logger.warning(
                "the metrics of %s are not shown, its files in %s cannot be written: %s", process, where, exc
            )
            return
        _slot = slot
    _keep_values_in(settings.metrics_dir, Path(slot.name).stem)
    for metric in metrics.every_metric():
        metric.clear()
    metrics.PROCESSES.labels(process).set(1)


def remove_stale(directory: Path) -> None:
    """Removes what dead processes counted: for the start of a run in which all begin at zero."""
    for lock in directory.glob("*.lock"):
        if not _is_held(lock):
            for file in directory.glob(f"*_{lock.stem}.db"):
                file.unlink(missing_ok=True)


def _take_slot(directory: Path, process: str) -> IO[str]:
    """The lock of the first slot of this name that is free, with its files there and its gauges gone."""
    directory.mkdir(parents=True, exist_ok=True)
    name = process.replace("_", "-")  # an underscore separates the parts of a file's name
    for number in itertools.count(1):
        slot = name if number == 1 else f"{name}.{number}"
        lock = (directory / f"{slot}.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        for kind, size in _FILES.items():
            file = directory / f"{kind}_{slot}.db"
            if kind.startswith("gauge") or not _is_sound(file):
                fresh = file.with_suffix(".new")
                fresh.write_bytes(bytes(size))
                fresh.replace(file)
        return lock
    raise AssertionError("unreachable")


def _is_sound(file: Path) -> bool:
    """Whether a file of an earlier process is there and can be read; after a power failure it may be half written."""
    try:
        _merged([file])
    except Exception:
        return False
    return True


def _keep_values_in(directory: Path, slot: str) -> None:
    """Has prometheus_client keep the values of this process in the slot's files.

    It chooses by the environment when it is imported, and other libraries may have imported it by now. All files are
    opened here, so that the variable is needed only here.
    """
    kept = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = os.fspath(directory)
    try:
        for kind in _FILES:
            typ, _, over_processes = kind.partition("_")
            kept(typ, "opened", "opened", (), (), "", multiprocess_mode=over_processes)
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before
    values.ValueClass = kept


def _is_held(lock: Path) -> bool:
    """Whether a living process has the slot."""
    try:
        with lock.open() as probe:
            fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


class NodeMetrics(Collector):
    """What all processes of a node have counted, merged anew at each scrape.

    Args:
        directory: `Settings.metrics_dir`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        files = list(self._files())
        try:
            merged = _merged(files)
        except Exception:  # one broken file must not hide the others
            logger.exception("a file of metrics in %s cannot be read and is left out", self._directory)
            merged = _merged([file for file in files if _is_sound(file)])
        return [metric for metric in merged if metric.name.startswith(metrics.PREFIX)]

    def _files(self) -> Iterator[Path]:
        for lock in sorted(self._directory.glob("*.lock")):
            living = _is_held(lock)
            for kind in _FILES:
                file = self._directory / f"{kind}_{lock.stem}.db"
                if (living or not kind.startswith("gauge")) and file.exists():
                    yield file


def _merged(files: Iterable[Path]) -> Iterable[Metric]:
    merged: Iterable[Metric] = MultiProcessCollector.merge([os.fspath(file) for file in files])  # type: ignore[no-untyped-call]
    return merged


class Endpoint:
    """A node's endpoint, `http://host:port/metrics`: served by whichever process asks first, taken over when that ends.

    Args:
        directory: `Settings.metrics_dir`.
        host, port: where it listens; port 0: a free one, and the same again after a takeover if it is still free.
    """

    def __init__(self, directory: Path, host: str, port: int) -> None:
        self._directory = directory
        self._host = host
        self._port = port
        self._serving = contextlib.ExitStack()
        self._complained = False
        self.url = ""

    def ensure(self) -> None:
        """Serves, unless another process of this node does. Returns at once; call it every few seconds."""
        if self.url:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as taken:
            lock = taken.enter_context(endpoint_file(self._directory).open("a"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            server = self._listen()
            if server is None:
                return
            taken.callback(server.server_close)
            taken.callback(server.shutdown)
            self.url = f"http://{_reachable(self._host)}:{server.server_port}/metrics"
            lock.truncate(0)
            lock.write(self.url)
            lock.flush()
            self._serving = taken.pop_all()

    def close(self) -> None:
        """Leaves it to another process, if there is one. Idempotent."""
        self.url = ""
        self._serving.close()

    def _listen(self) -> Any:
        """The server, answering in threads of its own; None while the port is another program's."""
        registry = CollectorRegistry()
        registry.register(NodeMetrics(self._directory))
        wanted = [self._port] if self._port else [_port_of(read_url(self._directory)), 0]
        for port in wanted:
            try:
                return start_http_server(port, self._host, registry)[0]
            except OSError as exc:
                if port == wanted[-1] and not self._complained:
                    self._complained = True
                    logger.warning(
                        "metrics are not served, cannot listen on %s:%d (metrics.host, metrics.port): %s. Tried again "
                        "until it works; set PENSTOCK_METRICS__PORT to another port, 0 for any free one",
                        *(self._host, port, exc),
                    )
        return None


def endpoint_file(directory: Path) -> Path:
    return directory / "endpoint"


def read_url(directory: Path) -> str:
    """Where the endpoint of this node was served last; empty if it never was."""
    try:
        return endpoint_file(directory).read_text()
    except OSError:
        return ""


def _port_of(url: str) -> int:
    return int(url.removesuffix("/metrics").rpartition(":")[2] or 0)


def _reachable(host: str) -> str:
    """The host by which a client on this machine reaches it."""
    reachable = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host
    return f"[{reachable}]" if ":" in reachable else reachable
