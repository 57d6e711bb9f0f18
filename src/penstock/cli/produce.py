"""`penstock produce`: streams files, folders and JSONL into Kafka."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.common import JsonFlag, connected_settings, print_json, require_kafka, say

if TYPE_CHECKING:
    from penstock.cli.sources import ProduceItem, ProduceOptions
    from penstock.cli.streaming import ProduceTally
    from penstock.config import Settings

_SHOWN = 50
_CLOSE_S = 10.0


def produce(
    context: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH…", help="Files, folders, .jsonl files; - for JSONL on stdin.")
    ] = None,
    *,
    tenant: Annotated[str | None, typer.Option(help="Whose they are; default: the settings' tenant.")] = None,
    key: Annotated[str | None, typer.Option(help="Key of a single file, instead of its path.")] = None,
    topic: Annotated[str | None, typer.Option(help="Send everything to this topic, whatever it is.")] = None,
    attributes: Annotated[
        str | None, typer.Option(metavar="JSON", help="A JSON object, added to each event; filters find it.")
    ] = None,
    rate: Annotated[float | None, typer.Option(metavar="N", min=0.001, help="Events a second, at most.")] = None,
    claim_check: Annotated[
        bool,
        typer.Option("--claim-check", help="Send the files' addresses, not their bytes (see fetch.allowed_roots)."),
    ] = False,
    delete: Annotated[
        str | None, typer.Option(metavar="KEY", help="Delete this asset of --topic instead: sends a tombstone.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Stream files, folders and JSONL into Kafka.

    What a file is, is found in its bytes and decides its topic. Its key is its path below the given folder, so the same
    folder again changes nothing, and a changed file replaces its entries. Hidden files are skipped.

    A line of JSONL is an object with exactly one of text, path (from the file's folder) and uri (a claim check), and,
    if you like: key, modality or topic, title, attributes (an object), tenant, time (RFC 3339 or ms), id. Without a
    key, path, uri, id or a hash of the text is the key.

    Exits with 1 if anything was refused or not acknowledged, and lists it.
    """
    from penstock.cli.sources import ProduceOptions, read_all, tombstone

    settings = connected_settings(context)
    wishes = ProduceOptions(tenant, key, topic, _parse_attributes(attributes), claim_check)
    _check_request(paths or [], delete, wishes, settings)
    require_kafka(settings)
    items: Iterable[ProduceItem]
    if delete is not None:
        assert topic is not None
        items = [tombstone(delete, topic, tenant or settings.tenant)]
    else:
        items = read_all(paths or [], settings, wishes)
    tally = _stream(items, settings, paths or [], rate, quiet=as_json)
    if as_json:
        print_json(_summary(tally))
    else:
        _report(tally)
    if not tally.complete:
        raise typer.Exit(1)


def _parse_attributes(text: str | None) -> dict[str, Any] | None:
    from penstock.errors import UsageError

    if text is None:
        return None
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"--attributes is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UsageError('--attributes must be a JSON object, such as \'{"camera": "x100"}\'')
    return found


def _check_request(paths: list[str], delete: str | None, wishes: ProduceOptions, settings: Settings) -> None:
    from penstock.cli.sources import STDIN, check_topic
    from penstock.errors import UsageError

    if wishes.topic is not None:
        check_topic(wishes.topic, settings)
    if delete is not None and (paths or wishes.topic is None):
        raise UsageError("--delete KEY takes no paths and needs --topic, such as --topic " + settings.kafka.text_topic)
    if delete is None and not paths:
        raise UsageError("name files, folders, .jsonl files, or - for JSONL on stdin")
    if wishes.key is not None and (len(paths) != 1 or paths[0] == STDIN or Path(paths[0]).is_dir()):
        raise UsageError("--key names one asset, so give exactly one file")


def _stream(
    items: Iterable[ProduceItem], settings: Settings, paths: list[str], rate: float | None, *, quiet: bool
) -> ProduceTally:
    from penstock.broker.producer import MessageProducer
    from penstock.cli.streaming import ProduceStream

    producer = MessageProducer(settings.kafka)
    with _progress(None if quiet else _count_files(paths)) as show:
        stream = ProduceStream(producer, rate_per_s=rate, on_change=show)
        try:
            for item in items:
                stream.send(item)
            stream.finish()
        except KeyboardInterrupt:
            say(f"Interrupted: {stream.tally.acknowledged} events were acknowledged before. Run it again to go on.")
            raise
        finally:
            producer.close(_CLOSE_S)
    return stream.tally


def _count_files(paths: list[str]) -> int | None:
    """How many files there are, for the progress bar; None where lines of JSONL are among them."""
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
    """A progress bar on a terminal; nothing elsewhere."""
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
    for heading, listed in (("refused", tally.refused), ("not acknowledged", tally.failed)):
        if listed:
            say(f"{len(listed)} {heading}:")
        for item in listed[:_SHOWN]:
            say(f"  {item.label}: {item.why}")
        if len(listed) > _SHOWN:
            say(f"  … and {len(listed) - _SHOWN} more; --json lists them all")


def _summary(tally: ProduceTally) -> dict[str, Any]:
    return {
        "acknowledged": tally.acknowledged,
        "acknowledged_bytes": tally.acknowledged_bytes,
        "by_topic": tally.by_topic,
        "refused": [asdict(item) for item in tally.refused],
        "not_acknowledged": [asdict(item) for item in tally.failed],
    }
