"""`penstock deadletters replay`: sends dead letters again and reports the outcome of each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, require_kafka, require_store, topic_settings
from penstock.cli.deadletter_options import (
    KeyOption,
    ReasonOption,
    SinceOption,
    TopicOption,
    filter_from_options,
    open_resolver,
    parse_position,
    text_preview,
)
from penstock.cli.render import print_json, print_table, say, stage_progress
from penstock.observability.audit_log import record_command

if TYPE_CHECKING:
    from penstock.config import Settings
    from penstock.ingest.deadletters.replay import ReplayRequest
    from penstock.ingest.deadletters.resolution import Resolution

_MAX_SHOWN = 50
_CLOSE_TIMEOUT_S = 10.0


def replay(
    context: typer.Context,
    positions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="POSITION…", help="Positions as `penstock deadletters list` shows them, such as 0@17. Default: all."
        ),
    ] = None,
    *,
    reason: ReasonOption = None,
    topic: TopicOption = None,
    key: KeyOption = None,
    since: SinceOption = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Maximum number of dead letters to send. Default: all.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; show what would be sent.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Exit without waiting for the outcomes.")] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Maximum time to wait for the outcomes.")
    ] = 60.0,
    as_json: JsonFlag = False,
) -> None:
    """Send dead letters again after their cause is removed, and report the outcome of each.

    A replay keeps key, value, headers and version of its event: it never replaces a newer version and never restores a
    deleted asset. An event that is already resolved is not sent, so running the command again changes nothing. An event
    that failed several times is sent once.

    Exits with 1 if an event could not be sent, failed again, or was not settled in time.
    """
    from penstock.ingest.deadletters.replay import ReplayRequest
    from penstock.ingest.deadletters.resolution import ResolutionStatus

    letter_filter = filter_from_options(reason, topic, key, since)
    at = frozenset(parse_position(position) for position in positions or ())
    settings = topic_settings(context)
    require_kafka(settings)
    require_store(settings)
    request = ReplayRequest(letter_filter, at, limit, dry_run, 0.0 if no_wait else timeout)
    resolutions = _replay(settings, request, quiet=as_json)
    if not dry_run:
        replayed = sum(resolution.replayed_to is not None for resolution in resolutions)
        record_command(settings, "replay", "ok", replayed=replayed, selected=len(resolutions))
    if as_json:
        counts = Counter(resolution.status.value for resolution in resolutions)
        print_json({"counts": counts, "dead_letters": [_resolution_json(resolution) for resolution in resolutions]})
    else:
        _report(resolutions, dry_run=dry_run)
    failures = {
        ResolutionStatus.NOT_SENT,
        ResolutionStatus.FAILED_AGAIN,
        ResolutionStatus.WAITING,
        ResolutionStatus.UNCLEAR,
    }
    if any(resolution.status in failures for resolution in resolutions):
        raise typer.Exit(1)


def _replay(settings: Settings, request: ReplayRequest, *, quiet: bool) -> list[Resolution]:
    from penstock.broker.deadletters import read_dead_letters
    from penstock.broker.producer import MessageProducer
    from penstock.broker.replay_keys import ReplayKeys
    from penstock.broker.topics import group_lag
    from penstock.errors import UnavailableError
    from penstock.ingest.deadletters.replay import Replayer

    producer = MessageProducer(settings.kafka)
    try:
        with open_resolver(settings) as resolver, stage_progress(quiet=quiet) as show:
            if resolver is None:
                raise UnavailableError(
                    "the store is unavailable, so the status of the dead letters is unknown; nothing was sent"
                )
            replayer = Replayer(
                read=partial(read_dead_letters, settings.kafka),
                resolver=resolver,
                producer=producer,
                sign=ReplayKeys.of(settings).signed,
                lag=partial(group_lag, settings.kafka),
                show=show,
                clock=time.monotonic,
                sleep=time.sleep,
            )
            return replayer.replay(request)
    finally:
        producer.close(_CLOSE_TIMEOUT_S)


def _report(resolutions: Sequence[Resolution], *, dry_run: bool) -> None:
    """Prints the events that were sent, then those that could not be sent, then the others."""
    replayed = [resolution for resolution in resolutions if resolution.replayed_to is not None]
    rest = [resolution for resolution in resolutions if resolution.replayed_to is None]
    rest.sort(key=lambda resolution: resolution.status.value != "not_sent")
    rows = [_resolution_row(resolution) for resolution in (*replayed, *rest)]
    print_table(rows[:_MAX_SHOWN])
    if len(rows) > _MAX_SHOWN:
        say(f"… and {len(rows) - _MAX_SHOWN} more; --json lists all of them")
    counts = Counter(resolution.status.value.replace("_", " ") for resolution in resolutions)
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    say(f"{len(replayed)} of {len(resolutions)} dead letters replayed" + (f": {statuses}" if statuses else ""))
    if dry_run:
        say("Nothing was sent. Without --dry-run, the open ones are sent.")


def _resolution_row(resolution: Resolution) -> Mapping[str, object]:
    return {
        "at": f"{resolution.letter.partition}@{resolution.letter.offset}",
        "reason": resolution.reason,
        "origin": str(resolution.origin),
        "key": text_preview(resolution.key),
        "status": resolution.status.value.replace("_", " "),
        "detail": resolution.detail,
    }


def _resolution_json(resolution: Resolution) -> Mapping[str, object]:
    return {
        "position": f"{resolution.letter.partition}@{resolution.letter.offset}",
        "origin": str(resolution.origin),
        "key": text_preview(resolution.key),
        "reason": resolution.reason,
        "replayed_to": None if resolution.replayed_to is None else str(resolution.replayed_to),
        "status": resolution.status.value,
        "status_detail": resolution.detail,
    }
