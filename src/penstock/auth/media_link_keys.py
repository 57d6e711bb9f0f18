"""Reads the keys that sign links to media, and makes one where the settings have none."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from penstock.auth.media_links import MediaLinks
from penstock.config import MediaLinkSettings, Settings
from penstock.errors import ConfigError

logger = logging.getLogger(__name__)

_KEPT = "media-links.key"  # in the data folder
_MIN_CHARS = 32
_REREAD_S = 1.0  # an answer has dozens of links
GRACE_S = 10.0
"""For as long a file that is being replaced keeps the keys before it."""


def open_media_links(settings: Settings) -> MediaLinks:
    """Returns what signs links to media by the settings.

    Raises:
        ConfigError: a key cannot be read, or is too short.
    """
    links = settings.media_links
    kept = None if links.has_secret("key") else kept_key(settings.data_dir)
    if kept is not None and settings.ray_address is not None:
        logger.warning(
            "links to media are signed by a key in %s, which other nodes do not have: set media_links.key_file",
            settings.data_dir,
        )
    keys = LinkKeys(links, kept, time.monotonic)
    keys()
    return MediaLinks(keys, lifetime_s=links.lifetime_s, bound=links.bound)


class LinkKeys:
    """The present key and the one before it, read again a second after they were. Safe to use from several threads.

    Keys that cannot be read, such as those of a half-written file, are for some seconds the ones before.

    Args:
        settings: of the links.
        kept: the key of the data folder, where the settings have none.
        clock: monotonic seconds.
    """

    def __init__(self, settings: MediaLinkSettings, kept: bytes | None, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._kept = kept
        self._clock = clock
        self._keys: Sequence[bytes] = ()
        self._tried_s = self._read_s = clock()

    def __call__(self) -> Sequence[bytes]:
        """Returns the keys, the present one first.

        Raises:
            ConfigError: as `open_media_links`, at the start or some seconds after the keys could be read last.
        """
        now_s = self._clock()
        if not self._keys or now_s - self._tried_s >= _REREAD_S:
            self._refresh(now_s)
        return self._keys

    def _refresh(self, now_s: float) -> None:
        try:
            self._keys, self._read_s = self._read(), now_s
        except ConfigError as exc:
            if not self._keys or now_s - self._read_s >= GRACE_S:
                raise
            logger.error("links to media are signed by the former keys until these can be read: %s", exc)
        self._tried_s = now_s

    def _read(self) -> Sequence[bytes]:
        present = self._kept or self._secret("key")
        before = self._secret("previous_key") if self._settings.has_secret("previous_key") else None
        return (present,) if before is None else (present, before)

    def _secret(self, name: str) -> bytes:
        key = self._settings.secret(name)
        if len(key) < _MIN_CHARS:
            raise ConfigError(
                f"media_links.{name} has fewer than {_MIN_CHARS} characters: make one by a random generator"
            )
        return key.encode()


def kept_key(folder: Path) -> bytes:
    """Returns the key that a data folder keeps; made on first use, readable by this user alone.

    Raises:
        ConfigError: it cannot be read or made.
    """
    path = folder / _KEPT
    try:
        if not path.exists():
            _make(path)
        return path.read_bytes().strip()
    except OSError as exc:
        raise ConfigError(
            f"the key of links to media cannot be kept in {path}: {exc}. Set media_links.key_file"
        ) from exc


def _make(path: Path) -> None:
    """Makes a key. That of the first process is kept if two do so together."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as sink:
        sink.write(secrets.token_urlsafe(32))
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
