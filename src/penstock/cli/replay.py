"""`penstock deadletters replay`: sends dead letters again, and says what became of each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
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
    text_preview,
)

if TYPE_CHECKING:
    from penstock.config import Settings
    from penstock.ingest.deadletters.replay import ReplayRequest
    from penstock.ingest.deadletters.resolution import Resolution

_SHOWN = 50
_CLOSE_S = 10.0


def replay(
    context: typer.Context,
    positions: Annotated[
        list[str] | None, typer.Argument(metavar="POSITION…", help="Dead letters as the list gives them; default: all.")
    ] = None,
    *,
    reason: ReasonOption = None,
    topic: TopicOption = None,
    key: KeyOption = None,
    since: SinceOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most to send.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing, say what would be sent.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for what becomes of them.")] = False,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="How long to wait for that.")] = 60.0,
    as_json: JsonFlag = False,
) -> None:
    """Send dead letters again, once what was wrong is put right, and say what became of each.

    A replay keeps key, value and headers, and counts as what it first was: it never replaces a newer version and never
    brings a deleted asset back. What is resolved already is not sent, so running it again changes nothing. An event
    that failed several times is sent once.

    Exits with 1 if anything could not be sent, failed again or was not settled in time.
    """
    from penstock.ingest.deadletters.replay import ReplayRequest
    from penstock.ingest.deadletters.resolution import ResolutionStatus

    wanted = filter_from_options(reason, topic, key, since)
    at = frozenset(position_of(position) for position in positions or ())
    settings = connected_settings(context)
    require_kafka(settings)
    require_store(settings)
    request = ReplayRequest(wanted, at, limit, dry_run, 0.0 if no_wait else timeout)
    standings = _replay(settings, request, quiet=as_json)
    if as_json:
        counts = Counter(one.status.value for one in standings)
        print_json({"fates": counts, "letters": [_standing_json(one) for one in standings]})
    else:
        _report(standings, dry_run=dry_run)
    if any(
        one.status
        in (
            ResolutionStatus.NOT_SENT,
            ResolutionStatus.FAILED_AGAIN,
            ResolutionStatus.WAITING,
            ResolutionStatus.UNCLEAR,
        )
        for one in standings
    ):
        raise typer.Exit(1)


def _replay(settings: Settings, request: ReplayRequest, *, quiet: bool) -> list[Resolution]:
    from penstock.broker.deadletters import read_dead_letters
    from penstock.broker.producer import MessageProducer
    from penstock.broker.topics import group_lag
    from penstock.errors import UnavailableError
    from penstock.ingest.deadletters.replay import Replayer

    producer = MessageProducer(settings.kafka)
    try:
        with judge_of(settings) as judge, _progress(quiet=quiet) as show:
            if judge is None:
                raise UnavailableError(
                    "without the store nobody can tell what became of a dead letter; nothing was sent"
                )
            replayer = Replayer(
                read=partial(read_dead_letters, settings.kafka),
                resolver=judge,
                producer=producer,
                lag=partial(group_lag, settings.kafka),
                show=show,
                clock=time.monotonic,
                sleep=time.sleep,
            )
            return replayer.replay(request)
    finally:
        producer.close(_CLOSE_S)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar for what is being done, on a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        yield show


def _report(standings: Sequence[Resolution], *, dry_run: bool) -> None:
    """What was tried comes first: it is what one waited for."""
    tried = [one for one in standings if one.replayed_to is not None]
    rest = [one for one in standings if one.replayed_to is None]
    shown = sorted(rest, key=lambda one: one.status.value != "not_sent")
    rows = [_standing_row(one) for one in (*tried, *shown)]
    print_table(rows[:_SHOWN])
    if len(rows) > _SHOWN:
        say(f"… and {len(rows) - _SHOWN} more; --json lists them all")
    counts = Counter(one.status.value.replace("_", " ") for one in standings)
    told = ", ".join(f"{count} {fate}" for fate, count in sorted(counts.items()))
    say(f"{len(tried)} replayed, of {len(standings)} looked at" + (f": {told}" if told else ""))
    if dry_run:
        say("Nothing was sent; without --dry-run, those that are open are")


def _standing_row(one: Resolution) -> dict[str, Any]:
    return {
        "at": f"{one.letter.partition}@{one.letter.offset}",
        "reason": one.reason,
        "origin": str(one.origin),
        "key": text_preview(one.key),
        "now": one.status.value.replace("_", " "),
        "detail": one.detail,
    }


def _standing_json(one: Resolution) -> dict[str, Any]:
    return {
        "position": f"{one.letter.partition}@{one.letter.offset}",
        "origin": str(one.origin),
        "key": text_preview(one.key),
        "reason": one.reason,
        "replayed_to": None if one.replayed_to is None else str(one.replayed_to),
        "now": one.status.value,
        "now_detail": one.detail,
    }
