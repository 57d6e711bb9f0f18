"""`penstock status`: where everything stands."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.common import JsonFlag, connected_settings, require_kafka, require_store, stopped_by_signals
from penstock.cli.render import clear_screen, print_json, print_table

if TYPE_CHECKING:
    from penstock.cli.scrape import Scrape
    from penstock.config import Settings

_WATCH_S = 2.0
_RATES_OVER_S = 1.0
_STALE_AFTER_MS = 10_000  # the ingest plane writes each second
_LONG_MEDIA_SHOWN = 5
_DEAD_LETTERS_READ = 5_000  # beyond, the reasons of the first so many are told, and that it is the first


def status(
    context: typer.Context,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds, until Ctrl-C.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show lag, counts, batches, freshness, latencies by step and channel, the canary, dead letters, disk, addresses.

    Exits with 3 if Kafka, Milvus, the ingest plane, the query plane or the metrics' endpoint does not answer.
    """
    settings = connected_settings(context)
    require_kafka(settings)
    require_store(settings)
    if not watch:
        gathered = gather(settings)
        print_json(gathered) if as_json else show(gathered)
        raise typer.Exit(3 if gathered["problems"] else 0)
    with stopped_by_signals() as stop:
        while not stop.is_set():
            gathered = gather(settings)
            if not as_json:
                clear_screen()
            print_json(gathered) if as_json else show(gathered)
            stop.wait(_WATCH_S)


def gather(settings: Settings) -> dict[str, Any]:
    """All of it. What does not answer is left out, and named under `problems`."""
    from penstock.cli.scrape import metrics_url
    from penstock.client import query_url

    problems: dict[str, str] = {}
    began = _or_problem("metrics", _scraped, settings, problems)
    parts: Mapping[str, Callable[[Settings], Any]] = {
        "topics": _topics,
        "dead_letters": _dead_letters,
        "ingest": _ingest,
        "search": _search,
        "disk": _disk,
    }
    addresses = {
        "kafka": settings.kafka.bootstrap_servers,
        "milvus": settings.store.uri,
        "ray": settings.ray_address,
        "search": query_url(settings),
        "metrics": metrics_url(settings) if settings.metrics.enabled else None,
        "data_dir": str(settings.data_dir),
    }
    found = {name: _or_problem(name, part, settings, problems) for name, part in parts.items()}
    found["index"] = _told_by(found["search"]) or _or_problem("index", _index, settings, problems)
    found["metrics"] = began and _or_problem("metrics", partial(_metrics, began), settings, problems)
    return {"profile": settings.profile, "addresses": addresses, **found, "problems": problems}


def _told_by(search: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The index as the query plane counts it, which is quicker than to ask the store from here."""
    if search is None or search["assets"] is None:
        return None
    return {name: search[name] for name in ("store", "entries", "assets")}


def _or_problem(name: str, part: Callable[[Settings], Any], settings: Settings, problems: dict[str, str]) -> Any:
    from penstock.errors import PenstockError

    try:
        return part(settings)
    except PenstockError as error:
        problems[name] = str(error)
        return None


# --- what is gathered ------------------------------------------------------------------------------------------------


def _topics(settings: Settings) -> dict[str, Any]:
    """By topic: what the group still has to settle, and what the topic holds."""
    from penstock.broker.topics import group_lag

    names = {settings.kafka.topic_of(modality): modality for modality in settings.ingest.modalities}
    topics: dict[str, Any] = {
        topic: {"modality": str(modality), "partitions": 0, "lag": 0, "records": 0, "lost": []}
        for topic, modality in names.items()
    }
    for one in group_lag(settings.kafka, list(names)):
        topic = topics[one.partition.topic]
        topic["partitions"] += 1
        topic["lag"] += one.lag
        topic["records"] += one.log_end - one.log_start
        if one.lost is not None:
            topic["lost"].append(str(one.lost))
    return topics


def _dead_letters(settings: Settings) -> dict[str, Any]:
    from penstock.broker.deadletters import scan_dead_letters
    from penstock.broker.topics import group_lag

    held = sum(one.log_end - one.log_start for one in group_lag(settings.kafka, [settings.kafka.dead_letter_topic]))
    letters = scan_dead_letters(settings.kafka, limit=_DEAD_LETTERS_READ) if held else ()
    by_reason = Counter(str(letter.reason) for letter in letters)
    return {"total": held, "by_reason": by_reason, "counted_by_reason": by_reason.total()}


def _index(settings: Settings) -> dict[str, Any]:
    from penstock.assembly import open_store
    from penstock.records import COLLECTIONS_OF

    store = open_store(settings.store)
    try:
        collections = {found for modality in settings.ingest.modalities for found in COLLECTIONS_OF[modality]}
        entries = {str(collection): store.count(collection) for collection in sorted(collections)}
        return {"store": store.capabilities.product, "entries": entries, "assets": store.count_assets()}
    finally:
        store.close()


def _ingest(settings: Settings) -> dict[str, Any]:
    from penstock.config import start_hint
    from penstock.errors import UnavailableError
    from penstock.ingest.status import PlaneState, read_status

    status = read_status(settings.data_dir)
    if status is None:
        raise UnavailableError(f"no ingest plane has run on {settings.data_dir}. {start_hint(settings)}")
    age_ms = time.time_ns() // 1_000_000 - status.updated_ms
    if age_ms > _STALE_AFTER_MS or status.state is PlaneState.STOPPED:
        last = f"the last one was {status.state} {age_ms // 1000} s ago"
        raise UnavailableError(f"no ingest plane runs: {last}. {start_hint(settings)}")
    return asdict(status)


def _search(settings: Settings) -> dict[str, Any]:
    from penstock.client import get_status, query_url

    return {**get_status(query_url(settings), settings)}


def _disk(settings: Settings) -> dict[str, Any]:
    usage = shutil.disk_usage(settings.data_dir)
    return {"free_bytes": usage.free, "total_bytes": usage.total, "needed_bytes": settings.ingest.min_free_disk_bytes}


def _scraped(settings: Settings) -> Scrape | None:
    from penstock.cli.scrape import metrics_url, scrape

    return scrape(metrics_url(settings)) if settings.metrics.enabled else None


def _metrics(began: Scrape, settings: Settings) -> dict[str, Any]:
    """What was measured: rates over the time that the rest took to gather, a second at least."""
    from penstock.cli.metrics_summary import summarize
    from penstock.cli.scrape import metrics_url, scrape

    time.sleep(max(0.0, began.at_s + _RATES_OVER_S - time.monotonic()))
    return summarize(began, scrape(metrics_url(settings)))


# --- for people ------------------------------------------------------------------------------------------------------


def show(gathered: Mapping[str, Any]) -> None:
    """Tables for people, and the problems below."""
    print_table([{"service": name, "address": address or ""} for name, address in gathered["addresses"].items()])
    typer.echo("")
    print_table(list(_topic_rows(gathered)))
    typer.echo("")
    for line in _lines(gathered):
        typer.echo(line)


def _topic_rows(gathered: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Few enough columns that none is cut in a terminal of 80."""
    ingest = gathered["ingest"] or {}
    for topic, figures in (gathered["topics"] or {}).items():
        modality = figures["modality"]
        outcomes = ingest.get("outcomes", {}).get(modality, {})
        fresh = ingest.get("freshness", {}).get(modality)
        yield {
            "topic": topic,
            "records": figures["records"],
            "lag": figures["lag"],
            "indexed since start": outcomes.get("indexed", 0),
            "deleted / superseded": f"{outcomes.get('deleted', 0)} / {outcomes.get('superseded', 0)}",
            "dead letters": outcomes.get("dead_lettered", 0),
            "fresh p50 / p95, s": f"{fresh['p50_s']:.2f} / {fresh['p95_s']:.2f}" if fresh else "",
        }


def _long_media(indexed_s: Mapping[str, float]) -> Iterator[str]:
    """Media that are being indexed slice by slice, those that are furthest first; not a line for each of a thousand."""
    furthest = sorted(indexed_s.items(), key=lambda one: -one[1])
    for asset, seconds in furthest[:_LONG_MEDIA_SHOWN]:
        yield f"  under way: {asset}, {int(seconds) // 60}:{int(seconds) % 60:02} of it indexed"
    if len(furthest) > _LONG_MEDIA_SHOWN:
        yield f"  under way: {len(furthest) - _LONG_MEDIA_SHOWN} more"


def _letters_line(letters: Mapping[str, Any]) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(letters["by_reason"].items()))
    counted = letters["counted_by_reason"]
    some = f"of the first {counted:,}: " if _DEAD_LETTERS_READ <= counted < letters["total"] else ""
    return f"dead letters: {letters['total']:,}" + (f" ({some}{reasons})" if reasons else "")


def _lines(gathered: Mapping[str, Any]) -> Iterator[str]:
    index, letters, ingest, disk = (gathered[name] for name in ("index", "dead_letters", "ingest", "disk"))
    if index:
        entries = ", ".join(f"{count:,} {collection}" for collection, count in index["entries"].items())
        yield f"index: {entries} entries of {index['assets']:,} assets, in {index['store']}"
    if letters:
        yield _letters_line(letters)
    if ingest:
        in_flight = f"{ingest['in_flight_batches']} batches and {ingest['in_flight_bytes'] / 1e6:.1f} MB in flight"
        yield f"ingest: {ingest['state']}, profile {ingest['profile']}, {ingest['lanes']} lanes, {in_flight}"
        if not gathered["metrics"]:  # which tell more of them
            yield f"workers: {', '.join(f'{count} {pool}' for pool, count in ingest['workers'].items())}"
        yield from _long_media(ingest.get("long_media", {}))
        for held_up in (ingest["paused"], ingest["store_error"], *ingest["halted"].values()):
            if held_up:
                yield f"  held up: {held_up}"
    if gathered["metrics"]:
        from penstock.cli.metrics_summary import lines

        yield from lines(gathered["metrics"])
    if disk:
        yield f"disk: {disk['free_bytes'] / 1e9:.1f} GB free; ingest pauses below {disk['needed_bytes'] / 1e9:.1f} GB"
    for topic, figures in (gathered["topics"] or {}).items():
        for lost in figures["lost"]:
            yield f"LOST to retention before it was read: {topic} {lost}"
    for name, problem in gathered["problems"].items():
        yield f"{name}: {problem}"
