"""Signs replays, so that only who holds the key can give an event the origin and the time of another.

The signature is HMAC-SHA-256 (RFC 2104) over the record's topic and partition, the origin, its timestamp, the key, the
hash of the value, and the producer's headers, in the header `penstock-origin-mac`. Headers of a trace are left out:
they change on the way. The offset is not covered: a signed replay that is sent a second time has the same origin, and
so changes nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from penstock.broker import headers as names
from penstock.broker.base import Message
from penstock.config import Settings
from penstock.config.replay import ReplaySettings
from penstock.config.secrets import FOLDER
from penstock.errors import BadInputError, ConfigError, Reason
from penstock.records import Position, Record

logger = logging.getLogger(__name__)

MIN_KEY_BYTES = 16
_KEY_FILE = "replay.made"  # beside the files of secrets that are set
_TRACE_HEADERS = frozenset(("traceparent", "tracestate"))


@dataclass(slots=True)
class _KnownKeys:
    """The keys of the last successful reading, and whether reading them fails at present."""

    keys: Sequence[bytes] = ()
    failing: bool = False


@dataclass(frozen=True, slots=True)
class ReplayKeys:
    """The keys of replays: the first signs, each of them is accepted. Without any, no replay is believed.

    Picklable where the keys are in files, which are read again for each replay. While a file cannot be read, the last
    keys count: otherwise the replays that arrive in that moment would be refused permanently.

    Attributes:
        settings: the keys, and whether every origin is believed, also without a signature.
        kept: the file of the key that stands for `replay.key`, if that is not set.
    """

    settings: ReplaySettings = field(default=ReplaySettings(), repr=False)
    kept: Path | None = None
    _known: _KnownKeys = field(default_factory=_KnownKeys, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.settings, self.kept)  # keys that were read stay in the process

    @classmethod
    def of(cls, settings: Settings, *, create: bool = True) -> Self:
        """Returns the keys of the settings; without `replay.key` the one that is kept in the data folder.

        Args:
            settings: with `replay` and `data_dir`.
            create: makes the key of the data folder if it is missing.

        Raises:
            ConfigError: a key is too short or cannot be read, or the data folder cannot be written.
        """
        kept = None if settings.replay.has_secret("key") else settings.data_dir / FOLDER / _KEY_FILE
        if kept is not None and create:
            _make_key(kept)
        keys = cls(settings.replay, kept)
        keys.keys()  # a fault shows at the start
        return keys

    def keys(self) -> Sequence[bytes]:
        """Returns the present keys; the last ones while they cannot be read.

        Raises:
            ConfigError: one is too short, or cannot be read, and none was read before.
        """
        known = self._known
        try:
            keys = self._read_keys()
            if not keys and known.keys:
                raise ConfigError(f"{self.kept or 'the file of replay.key'} has no key any more")
        except ConfigError as exc:
            if not known.keys:
                raise
            if not known.failing:
                logger.warning("the keys of replays cannot be read, and the last ones count: %s", exc)
            known.failing = True
            return known.keys
        known.keys, known.failing = keys, False
        return keys

    def fingerprint(self) -> str:
        """Returns the SHA-256 of the key that signs; empty without one. Raises as `keys`."""
        keys = self.keys()
        return hashlib.sha256(keys[0]).hexdigest() if keys else ""

    def _read_keys(self) -> Sequence[bytes]:
        first = _read(self.kept) if self.kept is not None else self.settings.secret("key")
        keys = [key.encode() for key in (first, self.settings.secret("previous_key")) if key]
        if any(len(key) < MIN_KEY_BYTES for key in keys):
            raise ConfigError(f"replay.key and replay.previous_key need at least {MIN_KEY_BYTES} bytes each")
        return keys

    def origin_of(self, record: Record) -> tuple[Position, int]:
        """Returns the event's origin and Kafka's timestamp (ms) there: the record's own, unless it is a replay.

        Raises:
            BadInputError: `MALFORMED`, the headers are not those of a replay; `FORBIDDEN`, its signature is missing or
                wrong.
        """
        origin, timestamp_ms = names.origin_of(record)
        if origin != record.position and not self.settings.allow_unsigned:
            self._check(record, origin, timestamp_ms)
        return origin, timestamp_ms

    def first_seen(self, record: Record) -> tuple[Position, int]:
        """Returns the same of a record that may be malformed or forged, which is named by its own position then."""
        try:
            return self.origin_of(record)
        except BadInputError:
            return record.position, record.timestamp_ms

    def signed(self, message: Message) -> Message:
        """Returns a replay with its signature.

        Args:
            message: with its partition, and with the origin and its timestamp in the headers.

        Raises:
            ConfigError: there is no key.
        """
        keys = self.keys()
        if not keys:
            raise ConfigError("replays are signed, but there is no key: set replay.key, also for the ingest plane")
        if message.partition is None:
            raise ValueError("a replay goes to the partition of its origin")
        place = Position(message.topic, message.partition, 0)
        record = Record(place, message.key, message.value, message.headers, 0)
        added = {name: value for name, value in message.headers if name.startswith(names.PREFIX)}
        origin, timestamp_ms = names.parse_origin(added[names.ORIGIN]), int(added[names.ORIGIN_TIMESTAMP])
        mac = _mac(keys[0], record, origin, timestamp_ms).hex().encode()
        return replace(message, headers=(*message.headers, (names.ORIGIN_MAC, mac)))

    def is_signed(self, record: Record, origin: Position, timestamp_ms: int) -> bool:
        """Returns whether a record has a valid signature of this origin, also where unsigned ones are believed."""
        mac = _mac_of(record)
        keys = self.keys() if mac else ()
        return any(hmac.compare_digest(_mac(key, record, origin, timestamp_ms).hex().encode(), mac) for key in keys)

    def _check(self, record: Record, origin: Position, timestamp_ms: int) -> None:
        if self.is_signed(record, origin, timestamp_ms):
            return
        mac = _mac_of(record)
        fault = "is not signed" if not mac else "has a signature that fits none of the keys of replays"
        raise BadInputError(
            Reason.FORBIDDEN,
            f"{names.ORIGIN} says the event was first in {origin}, but the record {fault}. Only `penstock replay` may "
            "send one, with the replay.key of the ingest plane.",
        )


NO_KEYS = ReplayKeys()
"""Believes no replay."""


def _mac_of(record: Record) -> bytes:
    """Returns the signature that a record has; empty if it has none."""
    return next((value for name, value in record.headers if name == names.ORIGIN_MAC), b"")


def _mac(key: bytes, record: Record, origin: Position, timestamp_ms: int) -> bytes:
    """Returns the HMAC over all parts, each with its length before it, so that no two messages look alike."""
    own = sorted(
        (name, value)
        for name, value in record.headers
        if not name.startswith(names.PREFIX) and name.lower() not in _TRACE_HEADERS
    )
    position = record.position
    parts: list[bytes | None] = [
        position.topic.encode(),
        str(position.partition).encode(),
        names.format_origin(origin),
        str(timestamp_ms).encode(),
        record.key,
        None if record.value is None else hashlib.sha256(record.value).digest(),
        *(part for name, value in own for part in (name.encode(), value)),
    ]
    digest = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")
    return digest.digest()


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return ""
    except OSError as exc:
        raise ConfigError(f"the key of replays in {file} cannot be read: {exc.strerror}. Set replay.key") from exc


def _make_key(file: Path) -> None:
    """Makes a key in a file, unless it is there.

    Two processes may do so concurrently: the link of the second one fails, and it takes the key of the first.
    """
    if file.exists():
        return
    temporary = file.with_name(f"{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            opened.write(secrets.token_urlsafe(32))
        with contextlib.suppress(FileExistsError):
            os.link(temporary, file)
        temporary.unlink()
    except OSError as exc:
        raise ConfigError(f"the key of replays cannot be made in {file}: {exc.strerror}. Set replay.key") from exc
