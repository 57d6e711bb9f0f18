"""`penstock deadletters`: what could not be indexed, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.common import JsonFlag, connected_settings, print_json, print_table, require_kafka, say

if TYPE_CHECKING:
    from penstock.broker.base import DeadLetter
    from penstock.config import Settings

app = typer.Typer(
    help="Show events that can never be indexed, with where and why they failed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_(
    context: typer.Context,
    *,
    reason: Annotated[str | None, typer.Option(help="Only of this reason, such as corrupt or too_large.")] = None,
    topic: Annotated[str | None, typer.Option(help="Only those that came from this topic.")] = None,
    key: Annotated[str | None, typer.Option(help="Only those with this key.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only failed since; RFC 3339 or such as 15m, 2h.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most to show.")] = 100,
    as_json: JsonFlag = False,
) -> None:
    """List dead letters, oldest first."""
    from penstock.broker.deadletters import scan_dead_letters

    reason_ = _reason(reason)
    since_ms = _since_ms(since)
    settings = connected_settings(context)
    require_kafka(settings)
    key_ = None if key is None else key.encode()
    found = scan_dead_letters(settings.kafka, reason=reason_, topic=topic, key=key_, since_ms=since_ms, limit=limit)
    if as_json:
        print_json([_as_json(letter) for letter in found])
        return
    rows = [_row(letter) for letter in found]
    print_table(rows)
    say(f"{len(rows)} dead letters" + (f", the first {limit}; --limit shows more" if len(rows) == limit else ""))


@app.command("show")
def show(
    context: typer.Context,
    position: Annotated[str, typer.Argument(help="As the list gives it: PARTITION@OFFSET in the dead-letter topic.")],
    *,
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE", help="Write the original value there.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one dead letter with its headers; --save writes its value to a file."""
    settings = connected_settings(context)
    partition, offset = _position(position)
    require_kafka(settings)
    letter = _find(settings, partition, offset)
    if as_json:
        print_json(_as_json(letter))
    else:
        for name, value in _as_json(letter).items():
            if name != "headers":
                typer.echo(f"{name}: {value}")
        for name, value in letter.headers:
            typer.echo(f"  {name}: {value.decode(errors='backslashreplace')}")
    if save is not None:
        save.write_bytes(_value(settings, letter))
        say(f"{letter.value_bytes:,} bytes written to {save}")


def _find(settings: Settings, partition: int, offset: int) -> DeadLetter:
    from penstock.broker.deadletters import scan_dead_letters
    from penstock.errors import UsageError

    for letter in scan_dead_letters(settings.kafka):
        if (letter.position.partition, letter.position.offset) == (partition, offset):
            return letter
    raise UsageError(f"there is no dead letter {partition}@{offset}; `penstock deadletters list` shows those there are")


def _value(settings: Settings, letter: DeadLetter) -> bytes:
    """The original value, from the asset store if it did not fit the topic."""
    from penstock.errors import UsageError
    from penstock.store.assets import AssetStore

    if letter.stashed_uri is not None:
        return AssetStore(settings.asset_store_url).read(letter.stashed_uri.rpartition(":")[2])
    if letter.value is None:
        raise UsageError("the value is null: there is nothing to save")
    return letter.value


def _row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "at": f"{letter.position.partition}@{letter.position.offset}",
        "failed": _time(letter.failed_at_ms),
        "reason": str(letter.reason),
        "step": letter.step,
        "origin": str(letter.origin),
        "key": _text(letter.key),
        "bytes": f"{letter.value_bytes:,}",
        "detail": letter.detail,
    }


def _as_json(letter: DeadLetter) -> dict[str, Any]:
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
        "failed_at": _time(letter.failed_at_ms),
        "produced_at": _time(letter.timestamp_ms),
        "key": _text(letter.key),
        "value_bytes": letter.value_bytes,
        "stashed_uri": letter.stashed_uri,
        "headers": {name: value.decode(errors="backslashreplace") for name, value in letter.headers},
    }


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode(errors="backslashreplace")


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


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


def _position(text: str) -> tuple[int, int]:
    from penstock.errors import UsageError

    partition, at, offset = text.rpartition("[")[2].replace("]", "").partition("@")
    if not (at and partition.isdigit() and offset.isdigit()):
        raise UsageError(f"{text!r} is not PARTITION@OFFSET, such as 0@17; the list gives it under `at`")
    return int(partition), int(offset)
