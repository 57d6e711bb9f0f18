"""Makes the API key of the user who runs `penstock up`, which commands on the same data folder send."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from penstock.auth import ApiKey, Permission
from penstock.auth.key_changes import change_keys
from penstock.auth.keys import ALL, key_hash, new_key, read_keys
from penstock.config import Settings, local_key_file
from penstock.errors import ConfigError

KEY_ID = "local"


def with_local_key(settings: Settings) -> Settings:
    """Returns the settings of the planes, with the file of the local key where requests need one.

    The key may do everything in all tenants. It is made at the first start, readable by its user alone. One that was
    revoked stays so; one that the keys' file does not know, such as after a restored backup, is replaced.

    Raises:
        ConfigError: a file cannot be written, or the keys' file is invalid.
    """
    if not settings.auth.takes_keys or settings.auth.keys_file is not None or settings.has_secret("api_key"):
        return settings
    key_file, keys_file = local_key_file(settings.data_dir), settings.keys_file
    if not _is_known(key_file, read_keys(keys_file) if keys_file.exists() else ()):
        change_keys(keys_file, partial(_with_new_key, key_file), may_create=True)
    return settings.model_copy(update={"api_key_file": key_file})


def _with_new_key(key_file: Path, keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
    """Returns the keys with a new local one, whose text is kept in a file; unless another process was first."""
    if _is_known(key_file, keys):
        return keys
    text = new_key(KEY_ID)
    key = ApiKey(
        id=KEY_ID,
        sha256=key_hash(text),
        tenants=(ALL,),
        labels=(ALL,),
        permissions=(Permission.ADMIN,),
        created=datetime.now(UTC),
    )
    _write(key_file, text)
    return (*(other for other in keys if other.id != KEY_ID), key)


def _is_known(key_file: Path, keys: tuple[ApiKey, ...]) -> bool:
    try:
        digest = key_hash(key_file.read_text().strip())
    except (OSError, UnicodeDecodeError):
        return False
    return any(key.sha256 == digest for key in keys)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
        temporary.replace(path)
    except OSError as exc:
        raise ConfigError(f"the API key of this user cannot be kept in {path}: {exc.strerror}") from exc
