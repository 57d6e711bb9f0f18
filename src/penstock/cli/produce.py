"""`penstock produce`: sends files, folders and JSONL to Kafka."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, connected_settings, require_kafka
from penstock.cli.render import print_json, say

if TYPE_CHECKING:
    from penstock.cli.sources import JsonObject, ProduceItem, ProduceOptions
    from penstock.cli.streaming import ProduceTally
    from penstock.config import Settings

_MAX_SHOWN = 50
_CLOSE_TIMEOUT_S = 10.0


def produce(
    context: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH…", help="Files, folders and .jsonl files; - for JSONL on stdin.")
    ] = None,
    *,
    tenant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Tenant that owns the assets. Default: the configured tenant.")
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="Key of a single file, instead of its path.")] = None,
    topic: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="Topic for all events, instead of detecting it from the bytes.")
    ] = None,
    attributes: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="JSON object that is added to each event's attributes, for filters."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="N", min=0.001, help="Maximum number of events per second.")
    ] = None,
    claim_check: Annotated[
        bool,
        typer.Option(
            "--claim-check", help="Send the addresses of the files instead of their bytes (see fetch.allowed_roots)."
        ),
    ] = False,
    delete: Annotated[
        str | None, typer.Option(metavar="KEY", help="Delete the asset with this key from --topic, by a tombstone.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Send files, folders and JSONL to Kafka.

    The type of a file is detected in its bytes and decides its topic. Its key is its path below the given folder, so
    sending the same folder again changes nothing, and a changed file replaces its entries. Hidden files are skipped.

    A line of JSONL is an object with exactly one of text, path (relative to the folder of the JSONL file) and uri (a
    claim check). Optional fields: key, modality or topic, title, attributes (an object), tenant, time (RFC 3339 or
    milliseconds), id. Without a key, the key is the path, the uri, the id or a hash of the text.

    Exits with 1 if an item was refused or not acknowledged, and lists these items.
    """
    from penstock.cli.sources import ProduceOptions, read_all, tombstone

    settings = connected_settings(context)
    options = ProduceOptions(tenant, key, topic, _parse_attributes(attributes), claim_check)
    _check_request(paths or [], delete, options, settings)
    require_kafka(settings)
    items: Iterable[ProduceItem] = read_all(paths or [], settings, options)
    if delete is not None and topic is not None:
        items = [tombstone(delete, topic, tenant or settings.tenant)]
    tally = _stream(items, settings, paths or [], rate, quiet=as_json)
    if as_json:
        print_json(_summary(tally))
    else:
        _report(tally)
    if not tally.complete:
        raise typer.Exit(1)


def _parse_attributes(text: str | None) -> JsonObject | None:
    from penstock.errors import UsageError

    if text is None:
        return None
    try:
        attributes = json.loads(text)
    except json.JSONDecodeError as exc:
        raise UsageError(f"--attributes is not JSON: {exc}") from exc
    if not isinstance(attributes, dict):
        raise UsageError('--attributes must be a JSON object, such as \'{"camera": "x100"}\'')
    return attributes


def _check_request(paths: Sequence[str], delete: str | None, options: ProduceOptions, settings: Settings) -> None:
    from penstock.cli.sources import STDIN, check_topic
    from penstock.errors import UsageError

    if options.topic is not None:
        check_topic(options.topic, settings)
    if delete is not None and (paths or options.topic is None):
        raise UsageError(f"--delete KEY takes no paths and needs --topic, such as --topic {settings.kafka.text_topic}")
    if delete is None and not paths:
        raise UsageError("give files, folders or .jsonl files, or - for JSONL on stdin")
    if options.key is not None and (len(paths) != 1 or paths[0] == STDIN or Path(paths[0]).is_dir()):
        raise UsageError("--key is for a single asset: give exactly one file")


def _stream(
    items: Iterable[ProduceItem], settings: Settings, paths: Sequence[str], rate: float | None, *, quiet: bool
) -> ProduceTally:
    from penstock.broker.producer import MessageProducer
    from penstock.broker.traced_producer import TracedProducer
    from penstock.cli.streaming import ProduceStream
    from penstock.observability import tracing

    tracing.connect(settings, "produce")
    producer = TracedProducer(MessageProducer(settings.kafka))
    with _progress(None if quiet else _count_files(paths)) as show:
        stream = ProduceStream(producer, rate_per_s=rate, on_change=show)
        try:
            for item in items:
                stream.send(item)
            stream.finish()
        except KeyboardInterrupt:
            say(
                f"Interrupted after {stream.tally.acknowledged} acknowledged events. Run the command again to continue."
            )
            raise
        finally:
            producer.close(_CLOSE_TIMEOUT_S)
    return stream.tally


def _count_files(paths: Sequence[str]) -> int | None:
    """Counts the files for the progress bar; returns None if JSONL is among them, whose lines are not counted."""
    from penstock.cli.sources import is_jsonl

    if any(is_jsonl(path) for path in paths):
        return None
    return sum(_files_below(path) if Path(path).is_dir() else 1 for path in paths)


def _files_below(folder: str) -> int:
    total = 0
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        total += sum(not name.startswith(".") for name in names)
    return total


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[ProduceTally], None]]:
    """Yields a function that updates a progress bar; without a terminal, nothing is shown."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("acknowledged"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[volume]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, volume="")

        def show(tally: ProduceTally) -> None:
            done = tally.acknowledged + len(tally.refused) + len(tally.failed)
            bar.update(task, completed=done, volume=f"{tally.acknowledged_bytes / 1e6:,.1f} MB")

        yield show


def _report(tally: ProduceTally) -> None:
    topics = ", ".join(f"{count} to {topic}" for topic, count in sorted(tally.by_topic.items()))
    say(f"{tally.acknowledged} events acknowledged" + (f": {topics}" if topics else ""))
    for heading, sources in (("refused", tally.refused), ("not acknowledged", tally.failed)):
        if sources:
            say(f"{len(sources)} {heading}:")
        for source in sources[:_MAX_SHOWN]:
            say(f"  {source.label}: {source.reason}")
        if len(sources) > _MAX_SHOWN:
            say(f"  … and {len(sources) - _MAX_SHOWN} more; --json lists all of them")


def _summary(tally: ProduceTally) -> Mapping[str, object]:
    return {
        "acknowledged": tally.acknowledged,
        "acknowledged_bytes": tally.acknowledged_bytes,
        "by_topic": tally.by_topic,
        "refused": [asdict(source) for source in tally.refused],
        "not_acknowledged": [asdict(source) for source in tally.failed],
    }
