"""`penstock deadletters`: what could not be indexed, and why; and to send it again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.common import JsonFlag, connected_settings, print_json, print_table, require_kafka, require_store, say
from penstock.cli.deadletter_options import (
    KeyOption,
    ReasonOption,
    SinceOption,
    TopicOption,
    filter_from_options,
    judge_of,
    position_of,
    stashed_value,
    text_preview,
    time_of,
)
from penstock.cli.replay import replay

if TYPE_CHECKING:
    from penstock.broker.base import DeadLetter
    from penstock.broker.deadletters import DeadLetterFilter
    from penstock.config import Settings
    from penstock.ingest.deadletters.resolution import Resolution, Resolver

app = typer.Typer(
    help="Show events that could not be indexed, with where and why they failed, and send them again.",
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
    limit: Annotated[int, typer.Option(min=1, help="Most to show.")] = 100,
    only_open: Annotated[
        bool, typer.Option("--open", help="Only what is not resolved since; each event once, by its newest.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """List dead letters, oldest first, and what became of each since.

    `now` is open, or indexed, deleted, superseded where the asset's row tells so. Without a store it is left out.
    """
    wanted = filter_from_options(reason, topic, key, since)
    settings = connected_settings(context)
    require_kafka(settings)
    if only_open:
        require_store(settings)
    with judge_of(settings) as judge:
        found = list(itertools.islice(_listed(settings, judge, wanted, only_open=only_open), limit))
    if as_json:
        print_json([_as_json(letter, standing) for letter, standing in found])
        return
    print_table([_row(letter, standing) for letter, standing in found])
    more = f", the first {limit}; --limit shows more" if len(found) == limit else ""
    say(f"{len(found)} dead letters{more}")


def _listed(
    settings: Settings, judge: Resolver | None, wanted: DeadLetterFilter, *, only_open: bool
) -> Iterator[tuple[DeadLetter, Resolution | None]]:
    """Those to show, without their values, each with how it stands; None if no store tells."""
    from penstock.broker.deadletters import read_dead_letters
    from penstock.ingest.deadletters.resolution import ResolutionStatus
    from penstock.ingest.deadletters.selection import read_selected, select

    read = partial(read_dead_letters, settings.kafka)
    if judge is None:
        yield from ((replace(letter, value=None), None) for letter in read() if wanted.matches(letter))
        return
    letters = read_selected(read, select(read, wanted)) if only_open else (one for one in read() if wanted.matches(one))
    for letter, standing in judge.resolve_all(letters):
        if standing.status is ResolutionStatus.OPEN or not only_open:
            yield replace(letter, value=None), standing


@app.command("show")
def show(
    context: typer.Context,
    position: Annotated[str, typer.Argument(help="As the list gives it: PARTITION@OFFSET in the dead-letter topic.")],
    *,
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE", help="Write the original value there.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one dead letter with its headers, and what became of it; --save writes its value to a file."""
    settings = connected_settings(context)
    partition, offset = position_of(position)
    require_kafka(settings)
    letter = _find(settings, partition, offset)
    with judge_of(settings) as judge:
        standing = None if judge is None else next(standing for _, standing in judge.resolve_all([letter]))
    if as_json:
        print_json(_as_json(letter, standing))
    else:
        for line in _lines(letter, standing):
            typer.echo(line)
    if save is not None:
        save.write_bytes(_value(settings, letter))
        say(f"{letter.value_bytes:,} bytes written to {save}")


def _lines(letter: DeadLetter, standing: Resolution | None) -> Iterator[str]:
    """A dead letter for people: what there is to say of it, then its headers."""
    told = _as_json(letter, standing) | {"origin": str(letter.origin)}
    yield from (f"{name}: {value}" for name, value in told.items() if name != "headers" and value not in (None, ""))
    yield from (f"  {name}: {value.decode(errors='backslashreplace')}" for name, value in letter.headers)


def _find(settings: Settings, partition: int, offset: int) -> DeadLetter:
    from penstock.broker.deadletters import read_dead_letters
    from penstock.errors import UsageError

    here = range(offset, offset + 1)
    for letter in read_dead_letters(settings.kafka, lambda number: here if number == partition else range(0)):
        return letter
    raise UsageError(f"there is no dead letter {partition}@{offset}; `penstock deadletters list` shows those there are")


def _value(settings: Settings, letter: DeadLetter) -> bytes:
    """The original value, from the asset store if it did not fit the topic."""
    from penstock.errors import UsageError

    if letter.offloaded_uri is not None:
        return stashed_value(settings, letter.offloaded_uri)
    if letter.value is None:
        raise UsageError("the value is null: there is nothing to save")
    return letter.value


def _row(letter: DeadLetter, standing: Resolution | None) -> dict[str, Any]:
    now = {} if standing is None else {"now": standing.status.value}
    return {
        "at": f"{letter.position.partition}@{letter.position.offset}",
        "failed": time_of(letter.failed_at_ms),
        **now,
        "reason": str(letter.reason),
        "step": letter.step,
        "origin": str(letter.origin),
        "key": text_preview(letter.key),
        "bytes": f"{letter.value_bytes:,}",
        "detail": letter.detail,
    }


def _as_json(letter: DeadLetter, standing: Resolution | None = None) -> dict[str, Any]:
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
        "failed_at": time_of(letter.failed_at_ms),
        "produced_at": time_of(letter.timestamp_ms),
        "key": text_preview(letter.key),
        "value_bytes": letter.value_bytes,
        "offloaded_uri": letter.offloaded_uri,
        "headers": {name: value.decode(errors="backslashreplace") for name, value in letter.headers},
        "now": None if standing is None else standing.status.value,
        "now_detail": None if standing is None else standing.detail,
    }
