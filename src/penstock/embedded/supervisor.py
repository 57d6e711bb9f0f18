"""Starts, watches and stops everything of one data folder: the embedded services and the two planes.

A Kafka, Milvus or Ray that is configured elsewhere is used and not started. Everything started here is a child of
this process and dies with it, even by SIGKILL (`processes.Child`). The kernel's death signal follows the thread that
started a child, so each embedded service has a thread that lives as long as the service, and the planes are started
from the thread that calls `start` and `watch`, which has to be one that stays: the main one.

Over the limit because the order of starts and stops of all of them is one thing.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import httpx

from penstock.assembly import open_assets
from penstock.config import (
    Endpoints,
    MetricsSettings,
    QuerySettings,
    Settings,
    authorization_for,
    endpoints_file,
    keep_secrets_in_files,
    read_endpoints,
    to_environment,
    write_endpoints,
)
from penstock.config.addresses import trusted
from penstock.config.endpoints import kafka_of
from penstock.config.private_files import make_private
from penstock.config.topic_owners import HEADER
from penstock.embedded.kafka import EmbeddedKafka
from penstock.embedded.local_key import with_local_key
from penstock.embedded.ray import EmbeddedRay, ray_environment
from penstock.embedded.services import EmbeddedServer, PlaneProcess, ServiceHost, ServiceStatus, StatusListener
from penstock.embedded.store import check_embedded_store, embedded_store
from penstock.encoders.profiles import load_profile
from penstock.encoders.profiles.record import with_recorded_profile
from penstock.errors import ConfigError, PenstockError
from penstock.ingest.status import PlaneState, read_status
from penstock.observability.exposition import remove_stale
from penstock.processes import free_port, listens
from penstock.records import TIMED_MODALITIES, Modality
from penstock.versions import read_reindex, with_kept_index

T = TypeVar("T")

logger = logging.getLogger(__name__)

_WATCH_S = 0.5
_DRAIN_MARGIN_S = 10.0  # on top of the plane's own limit, for closing what it has open
_SERVE_STOP_S = 20.0
# A pair of canaries takes about 0.6 s of CPU time in all processes, most of it for the searches that look for them.
CANARY_INTERVAL_S = 30.0


class Supervisor:
    """Runs the embedded services and both planes of one data folder.

    Args:
        settings: as configured, without the addresses of another `up`.
        report: called with each change of a service, from several threads.
        stop: set it to end `start` or `watch`.
    """

    def __init__(self, settings: Settings, report: StatusListener, stop: threading.Event) -> None:
        self._settings = settings
        self._listener = report
        self._stop = stop
        self._cleanup = ExitStack()
        self._hosts: list[ServiceHost] = []
        self._kafka_password_file: Path | None = None
        self._planes: list[PlaneProcess] = []

    @property
    def settings(self) -> Settings:
        """Returns the settings; after `start` with the profile that the data folder keeps."""
        return self._settings

    def start(self) -> Endpoints:
        """Starts everything and returns once a search can be answered.

        1. lock the data folder, take the profile it keeps, make the API key of its user where requests need one, and
           check the settings that would stop the planes, so that the error comes early
        2. start broker, store and Ray concurrently
        3. start the planes concurrently
        4. write the endpoints, by which other commands find them

        Raises:
            ConfigError: another `penstock up` has the folder (names it), or a port is in use.
            UnavailableError: a service did not start; quotes its log.
            StartInterruptedError: `stop` was set during the start.
        """
        data_dir = self._settings.data_dir
        self._take_folder()
        remove_stale(self._settings.metrics_dir)
        query_url = _address(self._settings.query, "query")
        metrics = self._settings.metrics
        metrics_url = f"{_address(metrics, 'metrics')}/metrics" if metrics.enabled else None
        broker = self._host("Kafka", self._settings.kafka.bootstrap_servers, self._kafka)
        store = self._host("Milvus", self._settings.store.uri, lambda: embedded_store(self._settings))
        ray = self._host("Ray", self._settings.ray_address, self._ray, restart=False)
        endpoints = Endpoints(
            pid=os.getpid(),
            bootstrap_servers=broker(),
            store_uri=store(),
            ray_address=ray(),
            query_url=query_url,
            metrics_url=metrics_url,
            kafka_password_file=self._kafka_password_file,
            modalities=self._settings.ingest.modalities,
        )
        self._start_planes(endpoints)
        write_endpoints(data_dir, endpoints)
        self._cleanup.callback(endpoints_file(data_dir).unlink, missing_ok=True)
        if may_reindex(self._settings):  # after 4: its plane finds by them whose Ray it joins
            self._start_reindex(_resolved(self._settings, endpoints))
        return endpoints

    def start_services(self) -> Settings:
        """Starts broker and store alone, and returns the settings with their addresses; other commands do not get them.

        Raises:
            ConfigError, UnavailableError, StartInterruptedError: as `start` does.
        """
        self._take_folder()
        broker = self._host("Kafka", self._settings.kafka.bootstrap_servers, self._kafka)
        store = self._host("Milvus", self._settings.store.uri, lambda: embedded_store(self._settings))
        endpoints = Endpoints(
            pid=os.getpid(),
            bootstrap_servers=broker(),
            store_uri=store(),
            ray_address="",
            query_url="",
            metrics_url=None,
            kafka_password_file=self._kafka_password_file,
            modalities=self._settings.ingest.modalities,
        )
        kafka = kafka_of(endpoints, self._settings.kafka)
        reached = self._settings.store.model_copy(update={"uri": endpoints.store_uri})
        return self._settings.model_copy(update={"kafka": kafka, "store": reached})

    def watch(self, until: Callable[[], bool] = lambda: False) -> None:
        """Restarts services that die, with growing waits, until `stop` is set or `until` holds.

        Raises:
            UnavailableError: Ray died, whose address would change. `stop` everything: what was acknowledged is on disk.
        """
        while not until() and not self._stop.wait(_WATCH_S):
            for host in self._hosts:
                host.check()
            for plane in self._planes:
                plane.keep_alive()

    def watch_beside(self, work: Callable[[], T]) -> T:
        """Watches while `work` runs in a thread of its own; returns what it returns, propagates what it raises."""
        with ThreadPoolExecutor(1, thread_name_prefix="beside") as pool:
            future = pool.submit(work)
            try:
                self.watch(until=future.done)
            except BaseException:
                self._stop.set()  # so that the work ends too
                raise
            return future.result()

    def report_to(self, report: StatusListener) -> None:
        """Replaces the listener."""
        self._listener = report

    def stop(self) -> None:
        """Stops everything in order: the query plane, the ingest plane (which drains), Ray, the store, the broker."""
        self._cleanup.close()

    def _report(self, progress: ServiceStatus) -> None:
        self._listener(progress)

    # --- steps -------------------------------------------------------------------------------------------------------

    def _take_folder(self) -> None:
        """Locks the data folder, and completes the settings by what it keeps."""
        self._cleanup.enter_context(_locked(self._settings))
        self._settings = with_kept_index(self._settings, open_assets(self._settings))
        kept = keep_secrets_in_files(with_defaults_of_up(with_recorded_profile(self._settings)), "up")
        self._settings = with_local_key(kept)
        if self._settings.store.uri is None:
            check_embedded_store(self._settings)

    def _host(
        self, name: str, configured: str | None, make: Callable[[], EmbeddedServer], *, restart: bool = True
    ) -> Callable[[], str]:
        """Starts a service in the background and returns a function that waits for its address."""
        if configured is not None:
            self._report(ServiceStatus(name, "external", configured))
            return lambda: configured
        host = ServiceHost(name, make(), self._report, restart=restart)
        self._hosts.append(host)
        self._cleanup.callback(host.stop)
        return lambda: host.address(self._stop)

    def _kafka(self) -> EmbeddedServer:
        def on_jar(done: int, total: int) -> None:
            self._report(ServiceStatus("Kafka", "starting", f"downloading its jars, once: {done} of {total}"))

        kafka = EmbeddedKafka(self._settings.data_dir / "kafka", on_progress=on_jar, secured=True)
        self._kafka_password_file = kafka.password_file
        return EmbeddedServer(kafka.start, kafka.stop, lambda: kafka.pid is not None)

    def _ray(self) -> EmbeddedServer:
        """Sets Ray's CPUs to the number of actors, not of cores: the planes have to fit on two cores too."""
        ingest, query = self._settings.ingest, self._settings.query
        profile = load_profile(self._settings.profile)
        others = (profile.speech, profile.ocr, profile.caption)
        encoders = ingest.encoder_limit * (len(profile.roles) + sum(model is not None for model in others))
        ray = EmbeddedRay(
            self._settings.data_dir,
            min_cpus=ingest.decoder_limit
            + ingest.long_media_decoders
            + encoders
            + math.ceil(query.replicas * query.replica_cpus)
            + 1,
        )
        return EmbeddedServer(ray.start, ray.stop, lambda: ray.pid is not None)

    def _start_planes(self, endpoints: Endpoints) -> None:
        settings = _resolved(self._settings, endpoints)
        environment = self._environment_of_planes(settings)
        logs = settings.data_dir / "logs"
        started_ms = time.time_ns() // 1_000_000
        ingest = PlaneProcess(
            "ingest",
            _command("ingest"),
            log=logs / "ingest.log",
            environment=environment,
            address="",
            ready=lambda: ingests(settings, started_ms),
            stop_timeout_s=settings.ingest.drain_timeout_s + _DRAIN_MARGIN_S,
            report=self._report,
        )
        serve = PlaneProcess(
            "search",
            _command("serve"),
            log=logs / "serve.log",
            environment=environment,
            address=endpoints.query_url,
            ready=lambda: answers(endpoints.query_url, settings),
            stop_timeout_s=_SERVE_STOP_S,
            report=self._report,
        )
        for plane in (ingest, serve):
            self._planes.append(plane)
            self._cleanup.callback(plane.stop)
            plane.start()
        for plane in self._planes:
            plane.wait(self._stop)

    def _start_reindex(self, settings: Settings) -> None:
        """Starts the plane of the new version of the index, without a wait: both versions are fed until `drop`."""
        plane = PlaneProcess(
            "reindex",
            _command("reindex", "start"),
            log=settings.data_dir / "logs" / "reindex.log",
            environment=self._environment_of_planes(settings),
            address="",
            ready=lambda: True,
            stop_timeout_s=settings.ingest.drain_timeout_s + _DRAIN_MARGIN_S,
            report=self._report,
            needed=lambda: may_reindex(settings),
        )
        self._planes.append(plane)
        self._cleanup.callback(plane.stop)
        plane.start()

    def _environment_of_planes(self, settings: Settings) -> dict[str, str]:
        """Returns the environment with the resolved settings and, where it is used, access to the embedded Ray."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        environment |= to_environment(settings)
        if self._settings.ray_address is None:
            environment |= ray_environment(settings.data_dir)
        return environment


def with_defaults_of_up(settings: Settings) -> Settings:
    """Returns the settings with what is unset as it fits one machine.

    That is every modality that the profile can index, models loaded when needed, and fewer canaries.
    """
    ingest, query, canary = settings.ingest, settings.query, settings.canary
    if "modalities" not in ingest.model_fields_set:
        has_speech = load_profile(settings.profile).speech is not None
        usable = tuple(modality for modality in Modality if has_speech or modality not in TIMED_MODALITIES)
        ingest = ingest.model_copy(update={"modalities": usable})
    if ingest.preload is None:
        ingest = ingest.model_copy(update={"preload": False})
    if query.preload is None:
        query = query.model_copy(update={"preload": False})
    if "interval_s" not in canary.model_fields_set:
        canary = canary.model_copy(update={"interval_s": CANARY_INTERVAL_S})
    kafka = settings.kafka
    if kafka.tenants is None and settings.auth.mode != "none":  # its broker is for clients of this machine
        kafka = kafka.model_copy(update={"tenants": HEADER})
    return settings.model_copy(update={"ingest": ingest, "query": query, "canary": canary, "kafka": kafka})


def _command(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "penstock.cli.main", "-v", *words)


def _address(section: QuerySettings | MetricsSettings, name: str) -> str:
    """Returns the configured address, with a free port if the default port is taken and was not set explicitly."""
    port = section.port
    host = "127.0.0.1" if section.host in ("0.0.0.0", "::") else section.host
    if port == 0:
        port = free_port()
    elif listens(host, port):
        if "port" in section.model_fields_set:
            raise ConfigError(
                f"port {port} of {host} ({name}.port) is in use. Stop what listens there, or set "
                f"PENSTOCK_{name.upper()}__PORT to another port, 0 for any free one"
            )
        port = free_port()
    return f"{'http' if section.tls_cert_file is None else 'https'}://{host}:{port}"


def answers(query_url: str, settings: Settings) -> bool:
    """Returns whether the query plane is ready, or lacks nothing but disk space, as those with a key see."""
    try:
        headers = authorization_for(query_url, settings)
        response = httpx.get(
            f"{query_url}/readyz", headers=headers, timeout=1.0, verify=trusted(settings.query.ca_file)
        )
        if response.status_code != 503:
            return response.status_code == 200
        checks = response.json()["checks"]
    except (httpx.HTTPError, ValueError, KeyError):
        return False
    return bool(checks) and all(outcome == "ok" for name, outcome in checks.items() if name != "disk")


def ingests(settings: Settings, since_ms: int) -> bool:
    """Returns whether an ingest plane that started after that time consumes events."""
    status = read_status(settings.data_dir, settings.kafka.group)
    return status is not None and status.state is PlaneState.RUNNING and status.updated_ms >= since_ms


def may_reindex(settings: Settings) -> bool:
    """Returns whether a re-index is under way, or is not known: its plane ends by itself where none is.

    So an outage of the asset store ends neither that plane nor the others.
    """
    try:
        return read_reindex(open_assets(settings)) is not None
    except PenstockError as exc:
        logger.warning("whether a re-index is under way is not known: %s", exc)
        return True


def _resolved(settings: Settings, endpoints: Endpoints) -> Settings:
    """Returns the settings of the planes: the same with all addresses filled in."""
    query_port = int(endpoints.query_url.rsplit(":", 1)[1])
    metrics, canary = settings.metrics, settings.canary
    if endpoints.metrics_url is not None:
        metrics_port = int(endpoints.metrics_url.removesuffix("/metrics").rsplit(":", 1)[1])
        metrics = metrics.model_copy(update={"port": metrics_port})
    if canary.query_url is None:
        canary = canary.model_copy(update={"query_url": endpoints.query_url})
    return settings.model_copy(
        update={
            "kafka": kafka_of(endpoints, settings.kafka),
            "store": settings.store.model_copy(update={"uri": endpoints.store_uri}),
            "ray_address": endpoints.ray_address,
            "query": settings.query.model_copy(update={"port": query_port}),
            "metrics": metrics,
            "canary": canary,
        }
    )


@contextmanager
def _locked(settings: Settings) -> Iterator[None]:
    """Locks the data folder for one `up`. The kernel releases the lock when the process ends."""
    data_dir = settings.data_dir
    try:
        make_private(data_dir)
        lock = (data_dir / "up.lock").open("a+")
    except OSError as exc:
        raise ConfigError(
            f"the data folder {data_dir} cannot be written: {exc.strerror}. Choose one with --data-dir"
        ) from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ConfigError(_describe_owner(data_dir, lock.name)) from exc
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        endpoints_file(data_dir).unlink(missing_ok=True)  # left by a killed run
        yield


def _describe_owner(data_dir: Path, lock: str) -> str:
    running = read_endpoints(data_dir)
    if running is None:
        return (
            f"another `penstock up` (pid {Path(lock).read_text() or 'unknown'}) is starting or stopping on {data_dir}"
        )
    return (
        f"a `penstock up` already runs on {data_dir}: pid {running.pid}, search {running.query_url}, Kafka "
        f"{running.bootstrap_servers}, Milvus {running.store_uri}, Ray {running.ray_address}. Use it, stop it, or "
        "choose another folder with --data-dir"
    )
