"""Creates and revokes API keys in their file, one process at a time."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from penstock.auth.keys import ApiKey, key_hash, new_key, read_keys, write_keys
from penstock.auth.principal import Permission
from penstock.errors import ConfigError, UsageError

# Without letters and digits that are taken for each other, since people read an id aloud.
_ID_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_ID_LENGTH = 10


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """Holds what a new key permits.

    Attributes:
        tenants, permissions, labels: as of `ApiKey`.
        not_before, expires: when it is valid; None: immediately, and without an end.
    """

    tenants: Sequence[str]
    permissions: Sequence[Permission]
    labels: Sequence[str]
    not_before: datetime | None = None
    expires: datetime | None = None


def create_key(path: Path, grant: KeyGrant, *, now: datetime, key_id: str | None = None) -> tuple[str, ApiKey]:
    """Adds a key to a file, created if absent, and returns its text, which is kept nowhere.

    Args:
        path: of the file.
        grant: what the key permits.
        now: the time.
        key_id: its id; None: a random one.

    Raises:
        UsageError: the id is taken or malformed, a label is, or the key would never be valid.
        ConfigError: the file cannot be read or written.
    """
    key_id = key_id or "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
    text = new_key(key_id)
    key = _checked(key_id, text, grant, now)

    def added(keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        if any(known.id == key_id for known in keys):
            raise UsageError(f"there is a key {key_id} already: ids are never used again, so choose another one")
        return (*keys, key)

    change_keys(path, added, may_create=True)
    return text, key


def revoke_key(path: Path, key_id: str, *, now: datetime) -> ApiKey:
    """Revokes a key, which stays in the file, so that its id is not used again. Idempotent.

    Raises:
        UsageError: there is no such key.
        ConfigError: the file cannot be read or written.
    """
    revoked: list[ApiKey] = []

    def changed(keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        keys = tuple(
            key.model_copy(update={"revoked": key.revoked or now}) if key.id == key_id else key for key in keys
        )
        revoked.extend(key for key in keys if key.id == key_id)
        if not revoked:
            raise UsageError(f"there is no key {key_id}: `penstock keys list` shows all")
        return keys

    change_keys(path, changed, may_create=False)
    return revoked[0]


def _checked(key_id: str, text: str, grant: KeyGrant, now: datetime) -> ApiKey:
    start = grant.not_before or now
    if grant.expires is not None and grant.expires <= max(start, now):
        raise UsageError(f"the key would expire at {grant.expires.isoformat()}, before it is valid")
    if not all(tenant.strip() for tenant in grant.tenants):
        raise UsageError("a tenant has no name")
    try:
        return ApiKey(
            id=key_id,
            sha256=key_hash(text),
            tenants=tuple(grant.tenants),
            permissions=tuple(grant.permissions),
            labels=tuple(grant.labels),
            created=now,
            not_before=grant.not_before,
            expires=grant.expires,
        )
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        raise UsageError(f"{first['loc'][0]}: {first['msg']}, got {first['input']!r}") from exc


def change_keys(path: Path, change: Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]], *, may_create: bool) -> None:
    """Replaces the keys of a file while no other process does.

    Args:
        path: of the file.
        change: returns the new keys by the present ones. What it raises leaves the file as it is.
        may_create: whether the file may be absent.

    Raises:
        ConfigError: the file cannot be read or written.
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise ConfigError(f"the file of API keys {path} cannot be changed: {exc.strerror}") from exc
    with os.fdopen(descriptor) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        keys = change(() if may_create and not path.exists() else read_keys(path))
        try:
            write_keys(path, keys)
        except OSError as exc:
            raise ConfigError(f"the file of API keys {path} cannot be written: {exc.strerror}") from exc
