"""`penstock deadletters`: lists and shows events that could not be indexed, and sends them again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, require_kafka, require_store, topic_settings
from penstock.cli.deadletter_options import (
    KeyOption,
    ReasonOption,
    SinceOption,
    TopicOption,
    filter_from_options,
    format_time,
    offloaded_value,
    open_resolver,
    parse_position,
    text_preview,
)
from penstock.cli.render import print_json, print_line, print_table, say
from penstock.cli.replay import replay

if TYPE_CHECKING:
    from penstock.broker.base import DeadLetter
    from penstock.broker.deadletters import DeadLetterFilter
    from penstock.config import Settings
    from penstock.ingest.deadletters.resolution import Resolution, Resolver

app = typer.Typer(
    help="List and show events that could not be indexed, with the step and the reason, and send them again.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


app.command("replay")(replay)


@app.command("list")
def list_(
    context: typer.Context,
    *,
    reason: ReasonOption = None,
    topic: TopicOption = None,
    key: KeyOption = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Maximum number of dead letters to list.")] = 100,
    only_open: Annotated[
        bool,
        typer.Option(
            "--open",
            help="Only events that are still unresolved, each once, by its newest dead letter. Needs the store.",
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """List dead letters, oldest first, with the present status of their events.

    The status is open; or indexed, deleted or superseded, if the asset's row in the store is at least as new as the
    event. If the store is unavailable, the status is left out.
    """
    letter_filter = filter_from_options(reason, topic, key, since)
    settings = topic_settings(context)
    require_kafka(settings)
    if only_open:
        require_store(settings)
    with open_resolver(settings) as resolver:
        rows = list(itertools.islice(_listed(settings, resolver, letter_filter, only_open=only_open), limit))
    if as_json:
        print_json([_letter_json(letter, resolution) for letter, resolution in rows])
        return
    print_table([_row(letter, resolution) for letter, resolution in rows])
    more = f", the first {limit}; --limit shows more" if len(rows) == limit else ""
    say(f"{len(rows)} dead letters{more}")


def _listed(
    settings: Settings, resolver: Resolver | None, letter_filter: DeadLetterFilter, *, only_open: bool
) -> Iterator[tuple[DeadLetter, Resolution | None]]:
    """Yields the matching dead letters without their values, with their resolutions; None without a resolver."""
    from penstock.broker.deadletters import read_dead_letters
    from penstock.ingest.deadletters.resolution import ResolutionStatus
    from penstock.ingest.deadletters.selection import read_selected, select

    read = partial(read_dead_letters, settings.kafka)
    matching = (letter for letter in read() if letter_filter.matches(letter))
    if resolver is None:
        yield from ((replace(letter, value=None), None) for letter in matching)
        return
    letters = read_selected(read, select(read, letter_filter)) if only_open else matching
    for letter, resolution in resolver.resolve_all(letters):
        if resolution.status is ResolutionStatus.OPEN or not only_open:
            yield replace(letter, value=None), resolution


@app.command("show")
def show(
    context: typer.Context,
    position: Annotated[
        str,
        typer.Argument(
            metavar="POSITION",
            help="PARTITION@OFFSET in the dead-letter topic, as `penstock deadletters list` shows it.",
        ),
    ],
    *,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Write the value of the event to FILE.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one dead letter with its headers and the present status of its event. --save writes its value to a file."""
    settings = topic_settings(context)
    partition, offset = parse_position(position)
    require_kafka(settings)
    letter = _read_letter(settings, partition, offset)
    with open_resolver(settings) as resolver:
        resolution = None if resolver is None else next(resolved for _, resolved in resolver.resolve_all([letter]))
    if as_json:
        print_json(_letter_json(letter, resolution))
    else:
        for line in _lines(letter, resolution):
            print_line(line)
    if save is not None:
        save.write_bytes(_value(settings, letter))
        say(f"{letter.value_bytes:,} bytes written to {save}")


def _lines(letter: DeadLetter, resolution: Resolution | None) -> Iterator[str]:
    """Yields the fields of a dead letter that have a value, then its headers."""
    fields = {**_letter_json(letter, resolution), "origin": str(letter.origin)}
    yield from (f"{name}: {value}" for name, value in fields.items() if name != "headers" and value not in (None, ""))
    yield from (f"  {name}: {value.decode(errors='backslashreplace')}" for name, value in letter.headers)


def _read_letter(settings: Settings, partition: int, offset: int) -> DeadLetter:
    from penstock.broker.deadletters import read_dead_letters
    from penstock.errors import UsageError

    here = range(offset, offset + 1)
    for letter in read_dead_letters(settings.kafka, lambda number: here if number == partition else range(0)):
        return letter
    raise UsageError(
        f"there is no dead letter at {partition}@{offset}; `penstock deadletters list` shows the positions"
    )


def _value(settings: Settings, letter: DeadLetter) -> bytes:
    """Returns the value of the event, from the asset store if it did not fit the topic."""
    from penstock.errors import UsageError

    if letter.offloaded_uri is not None:
        return offloaded_value(settings, letter.offloaded_uri)
    if letter.value is None:
        raise UsageError("the dead letter is a tombstone: its value is null, so there is nothing to save")
    return letter.value


def _row(letter: DeadLetter, resolution: Resolution | None) -> Mapping[str, object]:
    status = {} if resolution is None else {"status": resolution.status.value}
    return {
        "at": f"{letter.position.partition}@{letter.position.offset}",
        "failed": format_time(letter.failed_at_ms),
        **status,
        "reason": str(letter.reason),
        "step": letter.step,
        "origin": str(letter.origin),
        "key": text_preview(letter.key),
        "bytes": f"{letter.value_bytes:,}",
        "detail": letter.detail,
    }


def _letter_json(letter: DeadLetter, resolution: Resolution | None) -> Mapping[str, object]:
    return {
        "position": f"{letter.position.partition}@{letter.position.offset}",
        "origin": {
            "topic": letter.origin.topic,
            "partition": letter.origin.partition,
            "offset": letter.origin.offset,
        },
        "reason": str(letter.reason),
        "step": letter.step,
        "detail": letter.detail,
        "failed_at": format_time(letter.failed_at_ms),
        "produced_at": format_time(letter.timestamp_ms),
        "key": text_preview(letter.key),
        "value_bytes": letter.value_bytes,
        "offloaded_uri": letter.offloaded_uri,
        "headers": {name: value.decode(errors="backslashreplace") for name, value in letter.headers},
        "status": None if resolution is None else resolution.status.value,
        "status_detail": None if resolution is None else resolution.detail,
    }
