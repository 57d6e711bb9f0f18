"""What the commands on dead letters share: their options, and how a letter's parts are read and written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.common import say

if TYPE_CHECKING:
    from penstock.broker.deadletters import DeadLetterFilter
    from penstock.config import Settings
    from penstock.ingest.deadletters.resolution import Resolver

ReasonOption = Annotated[str | None, typer.Option(help="Only of this reason, such as corrupt or too_large.")]
TopicOption = Annotated[str | None, typer.Option(help="Only those that came from this topic.")]
KeyOption = Annotated[str | None, typer.Option(help="Only those with this key.")]
SinceOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only failed since; RFC 3339 or such as 15m, 2h.")
]


@contextmanager
def judge_of(settings: Settings) -> Iterator[Resolver | None]:
    """Tells what became of dead letters, by the store; None if none answers."""
    from penstock.assembly import open_store
    from penstock.errors import PenstockError
    from penstock.ingest.deadletters.resolution import Resolver

    if settings.store.uri is None:
        yield None
        return
    store = open_store(settings.store)
    try:
        try:
            store.count_assets()
        except PenstockError as error:
            say(f"What became of them is left out: {error}")
            yield None
            return
        yield Resolver(settings.kafka.topics(), settings.tenant, store.asset_rows, partial(stashed_value, settings))
    finally:
        store.close()


def stashed_value(settings: Settings, uri: str) -> bytes:
    from penstock.assembly import open_assets

    return open_assets(settings).read(uri.rpartition(":")[2])


def text_preview(key: bytes | None) -> str | None:
    return None if key is None else key.decode(errors="backslashreplace")


def time_of(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def filter_from_options(reason: str | None, topic: str | None, key: str | None, since: str | None) -> DeadLetterFilter:
    from penstock.broker.deadletters import DeadLetterFilter

    return DeadLetterFilter(_reason(reason), topic, None if key is None else key.encode(), _since_ms(since))


def _reason(text: str | None) -> Any:
    from penstock.errors import Reason, UsageError

    if text is None:
        return None
    try:
        return Reason(text)
    except ValueError as error:
        raise UsageError(f"there is no reason {text!r}; take one of {', '.join(Reason)}") from error


def _since_ms(text: str | None) -> int | None:
    """RFC 3339, or a number with s, m, h or d: so long ago."""
    from penstock.errors import UsageError

    if text is None:
        return None
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    if text[:-1].isdigit() and text[-1:] in units:
        return round((datetime.now(UTC).timestamp() - int(text[:-1]) * units[text[-1]]) * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--since {text!r} is neither RFC 3339 nor such as 15m or 2h") from error
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def position_of(text: str) -> tuple[int, int]:
    from penstock.errors import UsageError

    partition, at, offset = text.rpartition("[")[2].replace("]", "").partition("@")
    if not (at and partition.isdigit() and offset.isdigit()):
        raise UsageError(f"{text!r} is not PARTITION@OFFSET, such as 0@17; the list gives it under `at`")
    return int(partition), int(offset)
