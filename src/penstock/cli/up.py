"""`penstock up`: everything on this machine, until Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from penstock.cli.common import read_settings, say, stopped_by_signals

if TYPE_CHECKING:
    from penstock.config import Endpoints, Settings
    from penstock.embedded.services import ServiceStatus
    from penstock.embedded.supervisor import Supervisor


def up(context: typer.Context) -> None:
    """Start Kafka, Milvus, Ray and both planes on this machine; stays until Ctrl-C.

    What the settings name (kafka.bootstrap_servers, store.uri, ray_address) is used and not started. The data folder
    keeps the index, the topics and the committed offsets; start again and go on.
    """
    settings = read_settings(context)
    with stopped_by_signals() as stop, everything(settings, stop) as (supervisor, endpoints):
        for line in _welcome(settings, endpoints):
            say(line)
        supervisor.watch()
        say("Stopping: what is in flight is finished first.")


@contextmanager
def everything(settings: Settings, stop: threading.Event) -> Iterator[tuple[Supervisor, Endpoints]]:
    """Everything of a data folder running, shown while it starts and stops; stopped in order whatever happens."""
    from penstock.cli.display import StartDisplay
    from penstock.embedded.supervisor import Supervisor

    with StartDisplay() as display:
        supervisor = Supervisor(settings, display.report, stop)
        try:
            endpoints = supervisor.start()
        except BaseException:
            supervisor.stop()
            raise
    supervisor.report_to(_say_progress)
    try:
        yield supervisor, endpoints
    finally:
        supervisor.stop()


def _say_progress(progress: ServiceStatus) -> None:
    """After the start: deaths and restarts, and the end of each service."""
    took = f" after {progress.seconds:.1f} s" if progress.seconds is not None else ""
    say(f"{progress.service}: {progress.state}{took}" + (f" ({progress.detail})" if progress.detail else ""))


def _welcome(settings: Settings, endpoints: Endpoints) -> Iterator[str]:
    from penstock.encoders.profiles import load_profile

    yield f"Ready. Search: {endpoints.query_url}  Kafka: {endpoints.bootstrap_servers}  Data: {settings.data_dir}"
    yield 'In another terminal: `penstock produce some/folder`, then `penstock search "…"`. Ctrl-C stops everything.'
    if notice := load_profile(settings.profile).notice:
        yield notice
