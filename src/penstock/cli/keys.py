"""`penstock keys`: creates, lists and revokes API keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.common import JsonFlag, read_settings
from penstock.cli.render import print_json, print_line, print_table, say
from penstock.errors import UsageError
from penstock.observability.audit_log import record_command

if TYPE_CHECKING:
    from penstock.auth import ApiKey, Permission

app = typer.Typer(help="Create, list and revoke API keys, in the file auth.keys_file.", no_args_is_help=True)

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_TIME_HELP = "a time with its zone (2027-01-31T00:00:00Z), or a time from now: 90d, 12h, 30m"
_READER = ["search", "ask", "feedback", "media"]


@app.command()
def create(
    context: typer.Context,
    key_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Its id in logs; random if absent.")] = None,
    *,
    tenants: Annotated[list[str], typer.Option("--tenant", help="Tenant that it may read; repeatable. '*': all.")],
    permissions: Annotated[
        list[str] | None,
        typer.Option("--permission", help="What it may do; repeatable. Default: search, ask, feedback and media."),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", help="Label of entries that it may read; repeatable. Default: tenant. '*': all."),
    ] = None,
    expires: Annotated[str | None, typer.Option("--expires", help=f"When it ends: {_TIME_HELP}.")] = None,
    not_before: Annotated[str | None, typer.Option("--starts", help="When it begins, as --expires.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Create a key and print it. It is shown this once: only its hash is kept."""
    from penstock.auth.key_changes import KeyGrant, create_key
    from penstock.records import DEFAULT_LABEL

    settings = read_settings(context)
    now = datetime.now(UTC).replace(microsecond=0)
    grant = KeyGrant(
        tenants,
        [_permission(name) for name in permissions or _READER],
        labels or [DEFAULT_LABEL],
        not_before=None if not_before is None else _time(not_before, now),
        expires=None if expires is None else _time(expires, now),
    )
    text, key = create_key(settings.keys_file, grant, now=now, key_id=key_id)
    record_command(settings, "keys create", "ok", target={"key": key.id})
    if as_json:
        print_json({"key": text, **_row(key, now)})
        return
    print_line(text)
    say(f"Key {key.id} was added to {settings.keys_file}. It is shown this once.")
    if not settings.auth.takes_keys:
        say("No request needs a key yet: auth.mode is none. Set it to keys.")


@app.command("list")
def list_(context: typer.Context, *, as_json: JsonFlag = False) -> None:
    """List the keys: what each permits, and whether it is valid now."""
    from penstock.auth.keys import read_keys

    now = datetime.now(UTC)
    rows = [_row(key, now) for key in read_keys(read_settings(context).keys_file)]
    if as_json:
        print_json(rows)
        return
    print_table([{name: _shown(value) for name, value in row.items()} for row in rows])


@app.command()
def revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Its id.")],
    *,
    as_json: JsonFlag = False,
) -> None:
    """Revoke a key, on every replica within 5 s of the change of its file."""
    from penstock.auth.key_changes import revoke_key

    settings = read_settings(context)
    key = revoke_key(settings.keys_file, key_id, now=datetime.now(UTC).replace(microsecond=0))
    record_command(settings, "keys revoke", "ok", target={"key": key.id})
    if as_json:
        print_json(_row(key, datetime.now(UTC)))
        return
    say(f"Key {key.id} is revoked in {settings.keys_file}; replicas that read this file refuse it within 5 s.")


def _permission(name: str) -> Permission:
    from penstock.auth import Permission

    if name not in list(Permission):
        raise UsageError(f"there is no permission {name!r}; there are {', '.join(Permission)}")
    return Permission(name)


def _time(text: str, now: datetime) -> datetime:
    """Returns the time of an option."""
    if relative := re.fullmatch(r"([0-9]{1,6})([mhd])", text):
        return now + timedelta(**{_UNITS[relative[2]]: int(relative[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError as exc:
        raise UsageError(f"{text!r} is no time: give {_TIME_HELP}") from exc
    if time.tzinfo is None:
        raise UsageError(f"{text!r} has no time zone: give {_TIME_HELP}")
    return time


def _row(key: ApiKey, now: datetime) -> Mapping[str, object]:
    """Returns what is shown of a key; nothing of its hash."""
    return {
        "id": key.id,
        "state": "revoked" if key.revoked else "valid" if key.is_valid(now) else _invalid(key, now),
        "tenants": list(key.tenants),
        "permissions": [permission.value for permission in key.permissions],
        "labels": list(key.labels),
        "created": key.created.isoformat(),
        "not_before": key.not_before.isoformat() if key.not_before else None,
        "expires": key.expires.isoformat() if key.expires else None,
        "revoked": key.revoked.isoformat() if key.revoked else None,
    }


def _invalid(key: ApiKey, now: datetime) -> str:
    return "not yet valid" if key.not_before is not None and now < key.not_before else "expired"


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
