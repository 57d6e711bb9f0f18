"""What the commands share: settings from the global options, JSON output, log levels, signals.

Kept light, and so are the commands' own modules: whatever is heavy (pydantic, NumPy, Ray, clients) is imported inside
the functions that need it, so that `penstock --help` answers at once.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from penstock.config import Settings

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_TAKE_BACK_S = 1.0

JsonFlag = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]


@dataclass(slots=True)
class Globals:
    """The options that stand before the command.

    Attributes:
        overrides: settings given on the command line; they win over environment and file.
        verbosity: how many `-v`; from 1 on, unexpected errors show their traceback.
    """

    overrides: dict[str, Any] = field(default_factory=dict)
    verbosity: int = 0


def read_settings(context: typer.Context, **more: Any) -> Settings:
    """The settings as configured, without the addresses of a running `penstock up`.

    Args:
        context: of the command.
        more: further overrides, such as `kafka={"group": "g"}`.

    Raises:
        ConfigError: a setting that cannot be used.
    """
    from penstock.config import load_settings

    return load_settings(**{**context.obj.overrides, **more})


def connected_settings(context: typer.Context) -> Settings:
    """The settings, with unset addresses filled from the `penstock up` that runs on the same data folder."""
    from penstock.config import with_endpoints

    return with_endpoints(read_settings(context))


def require_kafka(settings: Settings) -> None:
    """Raises `UnavailableError` if no broker is configured and none runs on the data folder."""
    _require(settings, settings.kafka.bootstrap_servers, "Kafka", "kafka.bootstrap_servers")


def require_store(settings: Settings) -> None:
    """Raises `UnavailableError` if no store is configured and none runs on the data folder."""
    _require(settings, settings.store.uri, "Milvus", "store.uri")


def _require(settings: Settings, address: str | None, what: str, name: str) -> None:
    from penstock.config import start_hint
    from penstock.errors import UnavailableError

    if address is None:
        raise UnavailableError(
            f"no {what} is configured ({name}) and no `penstock up` runs on {settings.data_dir}. {start_hint(settings)}"
        )


def print_json(value: Any) -> None:
    """One JSON document on stdout; what JSON lacks (paths, enums) as text."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")


def print_table(rows: Sequence[Mapping[str, Any]], *, title: str | None = None) -> None:
    """Rows with the same names, as a table on stdout; as wide as it needs to be where that is no terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=400)
    table = Table(*rows[0], title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row.values()))
    console.print(table)


def clear_screen() -> None:
    """An empty terminal; nothing elsewhere."""
    from rich.console import Console

    Console().clear()


def say(line: str) -> None:
    """One line for people on stderr, so that stdout holds results only."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def configure_logging(verbosity: int) -> None:
    """Warnings by default, `-v` information, `-vv` everything of ours; other libraries one step quieter."""
    ours = {0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    others = logging.ERROR if verbosity == 0 else logging.WARNING
    logging.basicConfig(level=others, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("penstock").setLevel(ours)


def run_until_signal(work: Callable[[threading.Event], None]) -> None:
    """Runs a plane in a thread, with an event that SIGTERM and Ctrl-C set; returns, or raises, when the plane ends.

    Not in the main thread, because Ray puts a SIGTERM handler of its own there, which would end it without draining.
    Ray's C++ puts another one under Python's when a process joins a cluster, from whichever thread: it passes the
    signal on, and aborts the process three seconds later. So the signals are taken back again and again.
    """
    with stopped_by_signals() as stop, ThreadPoolExecutor(1, thread_name_prefix="plane") as pool:
        ours = {number: signal.getsignal(number) for number in _STOPPING}
        ended = pool.submit(work, stop)
        while not wait([ended], timeout=_TAKE_BACK_S).done:
            for number, handler in ours.items():
                signal.signal(number, handler)
        ended.result()


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set, instead of ending the process. A second Ctrl-C ends it at once."""
    stop = threading.Event()

    def on_signal(number: int, _frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in _STOPPING}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def join_embedded_ray(settings: Settings) -> None:
    """Prepares the environment for a driver of the embedded Ray, or of a local one of its own; before Ray is imported.

    A Ray that is configured elsewhere is left with the environment it needs.
    """
    from penstock.config import read_endpoints
    from penstock.embedded.ray import ray_environment

    running = read_endpoints(settings.data_dir)
    if settings.ray_address is None or (running is not None and running.ray_address == settings.ray_address):
        os.environ.update(ray_environment(settings.data_dir))


def quiet_environment() -> None:
    """For libraries that read the environment when they are imported: nothing is reported to anyone."""
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
