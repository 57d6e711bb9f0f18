"""API keys: `pk_<id>_<secret>`, whose hashes lie in a file that every replica reads again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from penstock.auth.principal import Permission, Principal
from penstock.errors import ConfigError, UnavailableError, first_line
from penstock.records import DEFAULT_LABEL

logger = logging.getLogger(__name__)

ALL = "*"
"""In place of the names of tenants or labels: all of them, for keys of operators."""
PREFIX = "pk_"
KEY_PATTERN = re.compile(r"pk_([a-z0-9][a-z0-9-]{0,31})_([A-Za-z0-9_-]{43})")
# A revocation has to hold within 5 s on every replica; a stat takes some microseconds.
CHECK_EVERY_S = 1.0
# An editor may write the file in several steps. Later no key is valid: what cannot be read may be a revocation.
GRACE_S = 3.0
# Compared with where no key has the id, so that such a request takes as long as others.
_NO_HASH = "0" * 64

KeyId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:@/-]{1,128}$")]


class ApiKey(BaseModel):
    """An API key as the file keeps it: what it permits, and the hash of its text.

    Attributes:
        id: names the key in logs and commands.
        sha256: of the whole text of the key, hexadecimal.
        tenants: that it may read; `*`: all.
        permissions: what it may do.
        labels: of the entries that it may read; `*`: all.
        created, not_before, expires, revoked: times; it is valid from `not_before` until `expires` unless revoked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: KeyId
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    tenants: tuple[str, ...]
    permissions: tuple[Permission, ...]
    labels: tuple[Label | Literal["*"], ...] = (DEFAULT_LABEL,)
    created: AwareDatetime
    not_before: AwareDatetime | None = None
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Returns whether requests may use the key at a time."""
        if self.revoked is not None or (self.not_before is not None and now < self.not_before):
            return False
        return self.expires is None or now < self.expires

    def principal(self) -> Principal:
        """Returns the caller that the key proves."""
        return Principal(
            subject=f"key:{self.id}",
            tenants=None if ALL in self.tenants else frozenset(self.tenants),
            permissions=frozenset(self.permissions),
            labels=None if ALL in self.labels else frozenset(self.labels),
            key_id=self.id,
        )


class _KeyDocument(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[ApiKey, ...] = Field(())


@dataclass(frozen=True, slots=True)
class _Read:
    """The keys by id, and the state of the file that they are of."""

    keys: Mapping[str, ApiKey]
    stamp: tuple[int, int, int]


def new_key(key_id: str) -> str:
    """Returns the text of a new key, with 256 random bits."""
    return f"{PREFIX}{key_id}_{secrets.token_urlsafe(32)}"


def key_hash(text: str) -> str:
    """Returns the hash of a key. A fast one is enough: there are 2²⁵⁶ keys to try."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Returns the keys of a file.

    Raises:
        ConfigError: the file is absent or not one of keys. The message has none of its content.
    """
    try:
        keys = _KeyDocument.model_validate_json(path.read_bytes()).keys
    except FileNotFoundError as exc:
        raise ConfigError(f"there is no file of API keys at {path}: create one with `penstock keys create`") from exc
    except OSError as exc:
        raise ConfigError(f"the file of API keys {path} cannot be read: {exc.strerror}") from exc
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise ConfigError(f"the file of API keys {path} is invalid: {place}: {first['msg']}") from exc
    if len({key.id for key in keys}) != len(keys):
        raise ConfigError(f"the file of API keys {path} has two keys of one id")
    return keys


def write_keys(path: Path, keys: tuple[ApiKey, ...]) -> None:
    """Replaces the keys of a file, for its owner alone to read. Other processes see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    document = _KeyDocument(keys=keys).model_dump(mode="json", exclude_none=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(document, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class KeyFile:
    """The API keys of a file, as they are now. Safe to use from several threads.

    Args:
        path: of the file.
        clock: seconds, monotonic.
        wall_s: seconds since 1970.

    Raises:
        ConfigError: the file is absent or invalid at the start.
    """

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.monotonic, wall_s: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._clock = clock
        self._wall_s = wall_s
        self._lock = threading.Lock()
        self._read = self._from_file()
        self._checked_s = clock()
        self._unreadable_s: float | None = None

    def principal(self, text: str) -> Principal | None:
        """Returns the caller that a key proves; None: it is no key, or not valid now.

        Raises:
            UnavailableError: the file has been unreadable for some seconds.
        """
        keys = self._current()
        parts = KEY_PATTERN.fullmatch(text)
        key = None if parts is None else keys.get(parts[1])
        same = hmac.compare_digest(key_hash(text), _NO_HASH if key is None else key.sha256)
        if key is None or not same or not key.is_valid(datetime.fromtimestamp(self._wall_s(), UTC)):
            return None
        return key.principal()

    def _current(self) -> Mapping[str, ApiKey]:
        with self._lock:
            now_s = self._clock()
            if now_s - self._checked_s >= CHECK_EVERY_S:
                self._checked_s = now_s
                self._refresh(now_s)
            if self._unreadable_s is not None and now_s - self._unreadable_s >= GRACE_S:
                raise UnavailableError("API keys cannot be checked now; the log of the query plane says why")
            return self._read.keys

    def _refresh(self, now_s: float) -> None:
        """Reads the file if it has changed. One that cannot be read is tried again with the next check."""
        try:
            if _stamp(self._path) != self._read.stamp or self._unreadable_s is not None:
                self._read = self._from_file()
                logger.info("%d API keys were read from %s", len(self._read.keys), self._path)
            self._unreadable_s = None
        except (ConfigError, OSError) as exc:
            if self._unreadable_s is None:
                self._unreadable_s = now_s
                logger.error("no API key is accepted until the file can be read: %s", first_line(exc))

    def _from_file(self) -> _Read:
        stamp = _stamp(self._path) if self._path.exists() else (0, 0, 0)  # before the read: a later change shows
        return _Read({key.id: key for key in read_keys(self._path)}, stamp)


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino
