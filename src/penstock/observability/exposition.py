"""Exposition of the metrics of all processes of a node at one endpoint, by prometheus_client's multiprocess mode.

    process ─► <data_dir>/metrics/counter_<slot>.db, histogram_…, gauge_…  ─► merged at each scrape ─► /metrics

A **slot** is the name under which a process writes: its own (`decode`), with a number if that is taken. The process
locks its slot for as long as it lives; the kernel releases the lock however the process ends. The lock decides two
things:

- A process that takes the slot of a dead one continues its counters. Totals then never fall, and the number of files
  stays that of the processes that ran concurrently, however often they are restarted.
- Gauges of a slot that no process holds are left out, since they describe a process that ended.

prometheus_client itself names files by process id, which would leave three files at each restart. It reads its folder
from the environment, which Ray's agents would inherit: they use prometheus_client as well.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

from prometheus_client import CollectorRegistry, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from penstock.config import MetricsSettings, Settings
from penstock.observability import metrics, tracing
from penstock.observability.node_server import NodeServer, TlsFiles

logger = logging.getLogger(__name__)

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# Allocated in advance: a sparse file that is mapped into memory kills its process by SIGBUS when the disk is full. With
# five modalities the histograms of a lane take 155 KB; the lag of 256 partitions takes 45 KB. A file may grow beyond.
_FILES = {"counter": 64 * 1024, "histogram": 256 * 1024, "gauge_livesum": 64 * 1024, "gauge_livemax": 64 * 1024}
_lock = threading.Lock()
_slot: IO[str] | None = None  # open, and so locked, for as long as this process lives


def connect(settings: Settings, process: str) -> None:
    """Makes this process count in the files of its node, and export its spans; a second call has no effect.

    Call it before counting. If the files cannot be written, the process counts in memory and logs a warning: metrics
    never stop the work.

    Args:
        settings: whether metrics are enabled, and their folder.
        process: the name of this process, without a number: `decode`.
    """
    global _slot  # noqa: PLW0603 - it belongs to the process, as prometheus_client's own choice of storage does
    tracing.connect(settings, process)
    with _lock:
        if _slot is not None or not settings.metrics.enabled:
            return
        try:
            slot = _take_slot(settings.metrics_dir, process)
        except OSError as exc:
            where = settings.metrics_dir
            logger.warning("metrics of %s are not exported: its files in %s cannot be written: %s", process, where, exc)
            return
        _slot = slot
    _keep_values_in(settings.metrics_dir, Path(slot.name).stem)
    for metric in metrics.every_metric():
        metric.clear()
    metrics.PROCESSES.labels(process).set(1)


def remove_stale(directory: Path) -> None:
    """Removes the files of dead processes, for a run in which all counters start at zero."""
    for lock in directory.glob("*.lock"):
        if not _is_held(lock):
            for file in directory.glob(f"*_{lock.stem}.db"):
                file.unlink(missing_ok=True)


def _take_slot(directory: Path, process: str) -> IO[str]:
    """Locks the first free slot of this name, creates its missing files, and empties its gauges."""
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
            if kind.startswith("gauge") or not _is_readable(file):
                fresh = file.with_suffix(".new")
                fresh.write_bytes(bytes(size))
                fresh.replace(file)
        return lock
    raise AssertionError("unreachable")


def _is_readable(file: Path) -> bool:
    """Returns whether the file of an earlier process exists and is readable; a power failure may leave half of it."""
    try:
        _merged([file])
    except Exception:
        return False
    return True


def _keep_values_in(directory: Path, slot: str) -> None:
    """Makes prometheus_client keep the values of this process in the files of the slot.

    It reads the environment when it is imported, and other libraries may have imported it already. All files are opened
    here, so that the variable is set only here.
    """
    value_class = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = os.fspath(directory)
    try:
        for kind in _FILES:
            typ, _, over_processes = kind.partition("_")
            value_class(typ, "opened", "opened", (), (), "", multiprocess_mode=over_processes)
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before
    values.ValueClass = value_class


def _is_held(lock: Path) -> bool:
    """Returns whether a living process holds the slot."""
    try:
        with lock.open() as probe:
            fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


class NodeMetrics(Collector):
    """The metrics of all processes of a node, merged at each scrape.

    Args:
        directory: `Settings.metrics_dir`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        """Returns the merged metrics of Penstock; those of other libraries and unreadable files are left out."""
        files = list(self._files())
        try:
            merged = _merged(files)
        except Exception:  # one broken file must not hide the others
            logger.exception("metrics: a file in %s cannot be read and is left out", self._directory)
            merged = _merged([file for file in files if _is_readable(file)])
        return [_known(metric) for metric in merged if metric.name.startswith(metrics.PREFIX)]

    def _files(self) -> Iterator[Path]:
        for lock in sorted(self._directory.glob("*.lock")):
            living = _is_held(lock)
            for kind in _FILES:
                file = self._directory / f"{kind}_{lock.stem}.db"
                if (living or not kind.startswith("gauge")) and file.exists():
                    yield file


def _known(metric: Metric) -> Metric:
    """Returns the metric without samples that are `metrics.UNKNOWN`. prometheus_client cannot remove them itself."""
    if metric.type == "gauge":
        metric.samples = [sample for sample in metric.samples if not math.isnan(sample.value)]
    return metric


def _merged(files: Iterable[Path]) -> Iterable[Metric]:
    merged: Iterable[Metric] = MultiProcessCollector.merge([os.fspath(file) for file in files])  # type: ignore[no-untyped-call]
    return merged


class Endpoint:
    """The endpoint of a node, `http://host:port/metrics`: one process serves it, and another takes over.

    It also answers `/livez`, `/readyz` and `/status` for ingest planes whose driver runs on the node (`health`).

    Args:
        directory: `Settings.metrics_dir`.
        host, port: the address that it listens on; port 0: a free one, and after a takeover the same if it is free.
        tls: its certificate; None: it speaks plain HTTP.

    Attributes:
        url: its address while this process serves it, else empty.
    """

    def __init__(
        self, directory: Path, host: str, port: int, tls: TlsFiles | None = None, token: Callable[[], str] = str
    ) -> None:
        self._directory = directory
        self._token = token
        self._tls = tls
        self._host = host
        self._port = port
        self._serving = contextlib.ExitStack()
        self._warned = False
        self.url = ""

    def ensure(self) -> None:
        """Serves, unless another process of this node does. Returns immediately; call it every few seconds."""
        if self.url:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as resources:
            lock = resources.enter_context(endpoint_file(self._directory).open("a"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            server = self._listen()
            if server is None:
                return
            resources.callback(server.close)
            self.url = f"{'http' if self._tls is None else 'https'}://{_reachable(self._host)}:{server.port}/metrics"
            lock.truncate(0)
            lock.write(self.url)
            lock.flush()
            self._serving = resources.pop_all()

    def close(self) -> None:
        """Stops serving, so that another process can take over. Idempotent."""
        self.url = ""
        self._serving.close()

    def _listen(self) -> NodeServer | None:
        """Returns the server, which answers in threads of its own; None while another program uses the port."""
        registry = CollectorRegistry()
        registry.register(NodeMetrics(self._directory))
        ports = [self._port] if self._port else [_port_of(read_url(self._directory)), 0]
        for port in ports:
            try:
                return NodeServer(self._directory, registry, self._host, port, self._tls, token=self._token)
            except OSError as exc:
                if port == ports[-1] and not self._warned:
                    self._warned = True
                    logger.warning(
                        "metrics are not served, cannot listen on %s:%d (metrics.host, metrics.port): %s. Retrying "
                        "until it succeeds; set PENSTOCK_METRICS__PORT to another port, 0 for any free one",
                        *(self._host, port, exc),
                    )
        return None


def endpoint_of(directory: Path, metrics: MetricsSettings) -> Endpoint:
    """Returns the endpoint of a node by the settings."""
    return Endpoint(directory, metrics.host, metrics.port, tls_of(metrics), partial(metrics.secret, "token"))


def tls_of(metrics: MetricsSettings) -> TlsFiles | None:
    """Returns the files of the endpoint's certificate; None if it speaks plain HTTP."""
    if metrics.tls_cert_file is None or metrics.tls_key_file is None:
        return None
    return TlsFiles(metrics.tls_cert_file, metrics.tls_key_file, metrics.tls_client_ca_file)


def is_counting(directory: Path) -> bool:
    """Returns whether any process of this node counts."""
    return any(_is_held(lock) for lock in directory.glob("*.lock"))


def is_served(directory: Path) -> bool:
    """Returns whether a process of this node serves the endpoint."""
    return _is_held(endpoint_file(directory))


def endpoint_file(directory: Path) -> Path:
    """Returns the path of the file that holds the endpoint's lock and its address."""
    return directory / "endpoint"


def read_url(directory: Path) -> str:
    """Returns the latest address of this node's endpoint; empty if it was never served."""
    try:
        return endpoint_file(directory).read_text()
    except OSError:
        return ""


def _port_of(url: str) -> int:
    return int(url.removesuffix("/metrics").rpartition(":")[2] or 0)


def _reachable(host: str) -> str:
    """Returns the host at which a client on this machine reaches it."""
    reachable = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host
    return f"[{reachable}]" if ":" in reachable else reachable
