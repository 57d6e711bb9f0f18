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
    from penstock.config import LITE_CEILING, STANDALONE_LACKS, local_key_file
    from penstock.encoders.profiles import load_profile

    url = f"{endpoints.query_url}/"
    yield f"Ready. Page and API: {url}  Kafka: {endpoints.bootstrap_servers}  Data: {settings.data_dir}"
    if endpoints.kafka_password_file is not None:
        client = endpoints.kafka_password_file.with_name("client.properties")
        yield f"Commands of Penstock on this data folder log in by themselves; other Kafka clients by {client}."
    yield 'In another terminal: `penstock produce some/folder`, then `penstock search "…"`. Ctrl-C stops all services.'
    if settings.auth.takes_keys and settings.api_key_file == local_key_file(settings.data_dir):
        yield f"Requests need credentials: commands use the key in {settings.api_key_file}; it signs in on the page."
    profile = load_profile(settings.profile)
    yield f"Ingests {', '.join(settings.ingest.modalities)} (setting ingest.modalities)."
    if not settings.ingest.preloads and profile.speech is not None:
        yield (
            "The models of speech, sounds and words in images are loaded by the first event that needs them, which "
            "waits some seconds; so does the first query by image or by voice."
        )
    if settings.store.uri is None:
        yield f"{LITE_CEILING if settings.store.embedded == 'lite' else STANDALONE_LACKS}."
    yield from profile.substitutions
    if profile.notice:
        yield profile.notice
