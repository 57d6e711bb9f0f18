"""`penstock up`: runs Kafka, Milvus, Ray and both planes on this machine until Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from penstock.cli.common import read_settings, stopped_by_signals
from penstock.cli.render import say

if TYPE_CHECKING:
    from penstock.config import Endpoints, Settings
    from penstock.embedded.services import ServiceStatus
    from penstock.embedded.supervisor import Supervisor


def up(context: typer.Context) -> None:
    """Run Kafka, Milvus, Ray and both planes on this machine until Ctrl-C.

    A service that the settings name (kafka.bootstrap_servers, store.uri, ray_address) is used and not started. The data
    folder keeps the index, the topics and the committed offsets, so the next start continues where this one ended.
    """
    settings = read_settings(context)
    with stopped_by_signals() as stop, running_stack(settings, stop) as (supervisor, endpoints):
        for line in _welcome(supervisor.settings, endpoints):
            say(line)
        supervisor.watch()
        say("Stopping: events in flight are finished first.")


@contextmanager
def running_stack(settings: Settings, stop: threading.Event) -> Iterator[tuple[Supervisor, Endpoints]]:
    """Runs all services and planes of a data folder; stops them in order at the end and after errors.

    Their states are shown while they start, and changes are logged afterwards.
    """
    from penstock.cli.display import StartDisplay
    from penstock.embedded.supervisor import Supervisor

    with StartDisplay() as display:
        supervisor = Supervisor(settings, display.report, stop)
        try:
            endpoints = supervisor.start()
        except BaseException:
            supervisor.stop()
            raise
    supervisor.report_to(_print_change)
    try:
        yield supervisor, endpoints
    finally:
        supervisor.stop()


def _print_change(status: ServiceStatus) -> None:
    """Prints a change after the start: a death, a restart, or the end of a service."""
    elapsed = f" after {status.seconds:.1f} s" if status.seconds is not None else ""
    say(f"{status.service}: {status.state}{elapsed}" + (f" ({status.detail})" if status.detail else ""))


def _welcome(settings: Settings, endpoints: Endpoints) -> Iterator[str]:
    from penstock.encoders.profiles import load_profile

    yield f"Ready. Search: {endpoints.query_url}  Kafka: {endpoints.bootstrap_servers}  Data: {settings.data_dir}"
    yield 'In another terminal: `penstock produce some/folder`, then `penstock search "…"`. Ctrl-C stops all services.'
    profile = load_profile(settings.profile)
    yield from profile.substitutions
    if profile.notice:
        yield profile.notice
