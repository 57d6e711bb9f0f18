"""Settings, log levels, signals and the environment, as all commands use them.

This module and those of the commands import nothing heavy (pydantic, NumPy, Ray, clients): that is done inside the
functions that need it, so that `penstock --help` answers immediately.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.observability.logs import configure, configure_text

if TYPE_CHECKING:
    from penstock.config import Settings

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_RECLAIM_SIGNALS_S = 1.0

JsonFlag = Annotated[bool, typer.Option("--json", help="Write machine-readable JSON to stdout.")]


@dataclass(slots=True)
class Globals:
    """The options that stand before the command.

    Attributes:
        overrides: settings given on the command line; they win over environment and file.
        verbosity: number of `-v`; from 1 on, unexpected errors show their traceback.
    """

    overrides: dict[str, Any] = field(default_factory=dict)
    verbosity: int = 0


def read_settings(context: typer.Context) -> Settings:
    """Returns the settings as configured, without the addresses of a running `penstock up`.

    Raises:
        ConfigError: a setting is invalid.
    """
    from penstock.config import load_settings

    return load_settings(**context.obj.overrides)


def connected_settings(context: typer.Context) -> Settings:
    """Returns the settings, with unset addresses filled in from the `penstock up` that runs on the same data folder.

    After a re-index in a local asset store they are those of the version of the index that stayed.
    """
    from penstock.config import with_endpoints

    settings = with_endpoints(read_settings(context))
    is_local = settings.assets.url is None
    return of_kept_index(settings) if is_local and (settings.data_dir / "assets" / "index.json").exists() else settings


def of_kept_index(settings: Settings) -> Settings:
    """Returns the settings with those of the version of the index that stayed after a re-index.

    Raises:
        UnavailableError: the asset store, which says so, does not answer.
        ConfigError: its note cannot be read.
    """
    from penstock.assembly import open_assets
    from penstock.versions import with_kept_index

    return with_kept_index(settings, open_assets(settings))


def topic_settings(context: typer.Context) -> Settings:
    """Returns connected settings that know the topics of all tenants, by a request to Kafka if a pattern names them.

    Raises:
        UnavailableError: no broker answers.
        ConfigError: a setting is invalid, or the broker does not let this client in.
    """
    from penstock.broker.tenant_topics import with_topics

    settings = connected_settings(context)
    return settings if settings.kafka.bootstrap_servers is None else with_topics(settings)


def started_settings(context: typer.Context) -> Settings:
    """Returns the settings of a plane that starts: connected ones, with the profile that the data folder keeps.

    The first start on a data folder records its profile there. Secrets are moved into files: children get the paths.
    """
    from penstock.config import keep_secrets_in_files
    from penstock.config.private_files import make_private
    from penstock.encoders.profiles.record import with_recorded_profile
    from penstock.errors import ConfigError

    data_dir = read_settings(context).data_dir
    try:
        make_private(data_dir)
    except OSError as exc:
        raise ConfigError(f"the data folder {data_dir} cannot be made: {exc.strerror}. Set data_dir") from exc
    settings = with_recorded_profile(of_kept_index(connected_settings(context)))
    return keep_secrets_in_files(settings, str(context.info_name))


def require_kafka(settings: Settings) -> None:
    """Raises `UnavailableError` if no broker is configured and none runs on the data folder."""
    _require(settings, settings.kafka.bootstrap_servers, "Kafka", "kafka.bootstrap_servers")


def require_store(settings: Settings) -> None:
    """Raises `UnavailableError` if no store is configured and none runs on the data folder."""
    _require(settings, settings.store.uri, "Milvus", "store.uri")


def _require(settings: Settings, address: str | None, service: str, setting: str) -> None:
    from penstock.config import start_hint
    from penstock.errors import UnavailableError

    if address is None:
        raise UnavailableError(
            f"no {service} is configured ({setting}) and no `penstock up` runs on {settings.data_dir}. "
            f"{start_hint(settings)}"
        )


def configure_logging(verbosity: int) -> None:
    """Sets log levels: warnings by default, `-v` information, `-vv` debug; other libraries log less."""
    configure_text(_level(verbosity))


def configure_plane_logging(context: typer.Context, settings: Settings, process: str) -> None:
    """Makes the driver of a plane log as the settings say (`log`), and what `-v` demands beyond that."""
    configure(settings.log, process, level=_level(context.obj.verbosity))


def _level(verbosity: int) -> int:
    return {0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)


def run_until_signal(work: Callable[[threading.Event], None]) -> None:
    """Runs a plane in a thread, with an event that SIGTERM and Ctrl-C set.

    Returns, or raises, when the plane ends. The plane does not run in the main thread, because Ray installs a SIGTERM
    handler there, which would end the plane without draining. Ray's C++ installs another one below Python's when a
    process joins a cluster, from any thread: it passes the signal on, and aborts the process three seconds later. So
    the handlers are installed again each second.
    """
    with stopped_by_signals() as stop, ThreadPoolExecutor(1, thread_name_prefix="plane") as pool:
        ours = {number: signal.getsignal(number) for number in _STOP_SIGNALS}
        future = pool.submit(work, stop)
        while not wait([future], timeout=_RECLAIM_SIGNALS_S).done:
            for number, handler in ours.items():
                signal.signal(number, handler)
        future.result()


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """Yields an event that SIGTERM and Ctrl-C set instead of ending the process.

    A second Ctrl-C raises KeyboardInterrupt immediately. The earlier handlers are restored at the end.
    """
    stop = threading.Event()

    def on_signal(number: int, _frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in _STOP_SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def join_embedded_ray(settings: Settings) -> None:
    """Sets the environment that a driver of the embedded Ray needs. Call it before Ray is imported.

    A driver that will start a local Ray gets the same environment. If Ray is configured elsewhere, nothing is set.
    """
    from penstock.config import read_endpoints
    from penstock.embedded.ray import ray_environment

    running = read_endpoints(settings.data_dir)
    if settings.ray_address is None or (running is not None and running.ray_address == settings.ray_address):
        os.environ.update(ray_environment(settings.data_dir))


def quiet_environment() -> None:
    """Disables telemetry and routine logs of libraries that read the environment when they are imported."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


_QUIET: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "error",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "GLOG_minloglevel": "2",
    "GRPC_VERBOSITY": "ERROR",
}
