"""Options of the `penstock deadletters` commands, and the conversion of their texts and of dead letters' fields."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.render import say

if TYPE_CHECKING:
    from penstock.broker.deadletters import DeadLetterFilter
    from penstock.config import Settings
    from penstock.errors import Reason
    from penstock.ingest.deadletters.resolution import Resolver

ReasonOption = Annotated[
    str | None, typer.Option(metavar="REASON", help="Only dead letters with this reason, such as corrupt or too_large.")
]
TopicOption = Annotated[str | None, typer.Option(metavar="TOPIC", help="Only dead letters of events from this topic.")]
KeyOption = Annotated[str | None, typer.Option(metavar="KEY", help="Only dead letters with this key.")]
SinceOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="Only events that failed after this time: RFC 3339, or an age such as 15m or 2h."
    ),
]

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@contextmanager
def open_resolver(settings: Settings) -> Iterator[Resolver | None]:
    """Yields a resolver that reads the store; None, with a message, if the store is not configured or unavailable."""
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
        except PenstockError as exc:
            say(f"The status of the dead letters is left out: {exc}")
            yield None
            return
        yield Resolver.of(settings, store.asset_rows, partial(offloaded_value, settings))
    finally:
        store.close()


def offloaded_value(settings: Settings, uri: str) -> bytes:
    """Reads a value that was too large for the dead-letter topic from the asset store."""
    from penstock.assembly import open_assets

    return open_assets(settings).read(uri.rpartition(":")[2])


def text_preview(key: bytes | None) -> str | None:
    """Returns a key as text; bytes that are not UTF-8 are shown as escapes."""
    return None if key is None else key.decode(errors="backslashreplace")


def format_time(milliseconds: int) -> str:
    """Returns milliseconds since the epoch in RFC 3339, in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def filter_from_options(reason: str | None, topic: str | None, key: str | None, since: str | None) -> DeadLetterFilter:
    """Returns the filter for the texts of the options.

    Raises:
        UsageError: the reason is unknown, or the time is in neither format.
    """
    from penstock.broker.deadletters import DeadLetterFilter

    return DeadLetterFilter(_reason(reason), topic, None if key is None else key.encode(), _since_ms(since))


def _reason(text: str | None) -> Reason | None:
    from penstock.errors import Reason, UsageError

    if text is None:
        return None
    try:
        return Reason(text)
    except ValueError as exc:
        raise UsageError(f"--reason {text!r} is unknown; use one of {', '.join(Reason)}") from exc


def _since_ms(text: str | None) -> int | None:
    """Parses RFC 3339, or an age: a number with s, m, h or d."""
    from penstock.errors import UsageError

    if text is None:
        return None
    if text[:-1].isdigit() and text[-1:] in _UNITS_S:
        return round((datetime.now(UTC).timestamp() - int(text[:-1]) * _UNITS_S[text[-1]]) * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise UsageError(f"--since {text!r} is neither RFC 3339 nor an age such as 15m or 2h") from exc
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def parse_position(text: str) -> tuple[int, int]:
    """Returns partition and offset of `PARTITION@OFFSET`.

    Raises:
        UsageError: the text is not in this format.
    """
    from penstock.errors import UsageError

    partition, at, offset = text.rpartition("[")[2].replace("]", "").partition("@")
    if not (at and partition.isdigit() and offset.isdigit()):
        raise UsageError(
            f"{text!r} is not PARTITION@OFFSET, such as 0@17; `penstock deadletters list` shows it in the column `at`"
        )
    return int(partition), int(offset)
