"""`penstock status`: shows lag, counts, latencies and problems of all parts of the system."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, connected_settings, require_kafka, require_store, stopped_by_signals
from penstock.cli.render import clear_screen, print_json, print_line, print_table
from penstock.cli.system_status import MAX_DEAD_LETTERS_READ, collect_status

if TYPE_CHECKING:
    from penstock.cli.system_status import DeadLetterStatus, IndexStatus, SystemStatus
    from penstock.config import Settings
    from penstock.ingest.status import PlaneStatus

_WATCH_INTERVAL_S = 2.0
_MAX_LONG_MEDIA_SHOWN = 5


def status(
    context: typer.Context,
    *,
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at",
            metavar="URL",
            help="Endpoint of a node of the ingest plane elsewhere, http://driver:8601. Repeatable.",
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(metavar="URL", help="Address of the query plane elsewhere.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every two seconds until Ctrl-C.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show lag, counts, freshness, latencies, dead letters, disk space and addresses.

    Latencies are those of the ingest steps, the searches by step and channel, and the canary.

    Without --at and --url (metrics.urls, query.url) the planes are those of this data folder. In another pod or on
    another machine name the endpoints: that of the driver, and those of other nodes whose metrics are to be added.

    Exits with 3 if Kafka, Milvus, the ingest plane, the query plane or the metrics endpoint is unavailable.
    """
    from penstock.encoders.profiles.record import with_selected_profile

    settings = _asking(with_selected_profile(connected_settings(context)), at or [], url)
    if not settings.metrics.urls:
        require_kafka(settings)
        require_store(settings)
    if not watch:
        system = collect_status(settings)
        print_json(asdict(system)) if as_json else show(system)
        raise typer.Exit(3 if system.problems else 0)
    with stopped_by_signals() as stop:
        while not stop.is_set():
            system = collect_status(settings)
            if not as_json:
                clear_screen()
            print_json(asdict(system)) if as_json else show(system)
            stop.wait(_WATCH_INTERVAL_S)


def _asking(settings: Settings, at: list[str], url: str | None) -> Settings:
    """Returns the settings with the addresses of the command line. Raises ConfigError if one is none."""
    from pydantic import ValidationError

    from penstock.config import MetricsSettings
    from penstock.errors import ConfigError

    try:
        metrics = MetricsSettings.model_validate({**settings.metrics.model_dump(), "urls": at or settings.metrics.urls})
    except ValidationError as exc:
        raise ConfigError(f"--at: {exc.errors()[0]['msg'].removeprefix('Value error, ')}") from exc
    query = settings.query.model_copy(update={"url": url or settings.query.url})
    return settings.model_copy(update={"metrics": metrics, "query": query})


def show(system: SystemStatus) -> None:
    """Prints tables of addresses and topics, then lines for the other parts, then the problems."""
    print_table([{"service": name, "address": address or ""} for name, address in system.addresses.items()])
    print_line("")
    print_table(list(topic_rows(system)))
    print_line("")
    for line in _lines(system):
        print_line(line)


def topic_rows(system: SystemStatus) -> Iterator[Mapping[str, object]]:
    """Yields a row for each topic, with few enough columns for a terminal of 80 characters."""
    ingest = system.ingest
    for name, topic in (system.topics or {}).items():
        outcomes = ingest.outcomes.get(topic.modality, {}) if ingest else {}
        fresh = ingest.freshness.get(topic.modality) if ingest else None
        yield {
            "topic": name,
            "records": topic.records,
            "lag": topic.lag,
            "indexed since start": outcomes.get("indexed", 0),
            "deleted / superseded": f"{outcomes.get('deleted', 0)} / {outcomes.get('superseded', 0)}",
            "dead letters": outcomes.get("dead_lettered", 0),
            "fresh p50 / p95, s": f"{fresh.p50_s:.2f} / {fresh.p95_s:.2f}" if fresh else "",
        }


def long_media_lines(indexed_s: Mapping[str, float], pages: Mapping[str, int]) -> Iterator[str]:
    """Yields a line for each of the most advanced assets that are being indexed, and the number of the others."""
    most_advanced = sorted(indexed_s.items(), key=lambda asset: -asset[1])
    for asset, seconds in most_advanced[:_MAX_LONG_MEDIA_SHOWN]:
        yield f"  in progress: {asset}, {int(seconds) // 60}:{int(seconds) % 60:02} indexed"
    if len(most_advanced) > _MAX_LONG_MEDIA_SHOWN:
        yield f"  in progress: {len(most_advanced) - _MAX_LONG_MEDIA_SHOWN} more"
    longest = sorted(pages.items(), key=lambda asset: -asset[1])
    for asset, count in longest[:_MAX_LONG_MEDIA_SHOWN]:
        yield f"  in progress: {asset}, {count:,} pages indexed"
    if len(longest) > _MAX_LONG_MEDIA_SHOWN:
        yield f"  in progress: {len(longest) - _MAX_LONG_MEDIA_SHOWN} more documents"


def dead_letters_line(letters: DeadLetterStatus) -> str:
    """Returns the number of dead letters, with their reasons as far as they were counted."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(letters.by_reason.items()))
    counted = letters.counted_by_reason
    note = f"of the first {counted:,}: " if MAX_DEAD_LETTERS_READ <= counted < letters.total else ""
    return f"dead letters: {letters.total:,}" + (f" ({note}{reasons})" if reasons else "")


def store_warnings(index: IndexStatus) -> Iterator[str]:
    """Yields a line where the index has outgrown Milvus Lite."""
    from penstock.config import LITE_CEILING, LITE_ENTRIES

    is_lite = (index.store or "").startswith("milvus_lite")  # a real one may be `milvus v2.3.5-lite`
    if is_lite and max(index.entries.values(), default=0) >= LITE_ENTRIES:
        yield f"! {LITE_CEILING}."


def _lines(system: SystemStatus) -> Iterator[str]:
    if system.index:
        entries = ", ".join(f"{count:,} {collection}" for collection, count in system.index.entries.items())
        yield f"index: {entries} entries of {system.index.assets:,} assets, in {system.index.store}"
        yield from store_warnings(system.index)
    if system.dead_letters:
        yield dead_letters_line(system.dead_letters)
    if system.ingest:
        yield from _ingest_lines(system.ingest, with_workers=system.metrics is None)
    if system.metrics:
        from penstock.cli.metrics_summary import summary_lines

        yield from summary_lines(system.metrics)
    if disk := system.disk:
        yield f"disk: {disk.free_bytes / 1e9:.1f} GB free; ingest pauses below {disk.needed_bytes / 1e9:.1f} GB"
    for name, topic in (system.topics or {}).items():
        for lost in topic.lost:
            yield f"LOST to retention before it was read: {name} {lost}"
    for name, problem in system.problems.items():
        yield f"{name}: {problem}"


def _ingest_lines(ingest: PlaneStatus, *, with_workers: bool) -> Iterator[str]:
    """Yields the state of the ingest plane. The metrics show its workers in more detail, if there are any."""
    in_flight = f"{ingest.in_flight_batches} batches and {ingest.in_flight_bytes / 1e6:.1f} MB in flight"
    yield f"ingest: {ingest.state}, profile {ingest.profile}, {ingest.lanes} lanes, {in_flight}"
    if with_workers:
        yield f"workers: {', '.join(f'{count} {pool}' for pool, count in ingest.workers.items())}"
    yield from long_media_lines(ingest.long_media, ingest.long_documents)
    for name, reason in ingest.held.items():
        yield f"  waiting ({name}): {reason}"
    for reason in {ingest.paused, ingest.store_error, *ingest.halted.values()} - {"", *ingest.held.values()}:
        yield f"  waiting: {reason}"
