"""The asset store: inline media, kept by the hash of their bytes, so that a result can always be shown and played.

Any fsspec URL serves: a local folder, `s3://bucket/media`, `memory://` for tests. The media with hash `ab12…` lie in
`<root>/ab/ab12…`. What no asset row and no dead letter refers to any more is removed by `sweep`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from penstock.errors import ConfigError, PenstockError, PermanentError, UnavailableError

logger = logging.getLogger(__name__)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]{32}\.(?:tmp|swept)")
_FAN_OUT = re.compile(r"[0-9a-f]{2}")

REFRESH_AFTER_S = 3_600.0
"""Object stores cannot touch, so that a second `put` rewrites media older than this, seconds; younger ones are left."""


class MissingAssetError(PermanentError):
    """No media of that hash are in the store: never put, or swept."""


class StoredMedia(NamedTuple):
    """One of the media in the store: its hash, its size in bytes, when it was last put, seconds since the epoch."""

    sha256: str
    size: int
    modified_s: float


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What a sweep did: media looked at, removed and kept because of their age alone; bytes that were freed."""

    seen: int
    removed: int
    removed_bytes: int
    too_young: int


def asset_uri(sha256: str) -> str:
    """`asset:<sha256>`: the address of media in the asset store."""
    return f"asset:{sha256}"


def sha256_of(uri: str) -> str | None:
    """The hash in an `asset:` address; None for any other address."""
    scheme, _, name = uri.partition(":")
    return name if scheme == "asset" and _SHA256.fullmatch(name) else None


class AssetStore:
    """Media by the SHA-256 of their bytes. Safe to call from several threads and processes at once.

    On a local folder media that are new are written where they belong. While that is done, and after a crash, a full
    disk or a loss of power (nothing is synced), the file there is short: it counts as missing for `read`, which looks
    at the hash, and the next `put` of the same bytes moves a whole one over it.

    Args:
        url: root of the store, any fsspec URL. A local folder is created when first written to.

    Attributes:
        local: whether it is a folder of this machine.

    Raises:
        ConfigError: fsspec has no file system for the URL.

    Every method raises `UnavailableError` when the store does not answer.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ValueError, ImportError, TypeError) as exc:
            raise ConfigError(f"the asset store's address {url!r} cannot be used: {exc}. See assets.url.") from exc
        self._root = str(root).rstrip("/")
        self.local = isinstance(self._fs, LocalFileSystem)

    # ---- media ----

    def put(self, data: bytes) -> str:
        """Keeps the bytes and returns their SHA-256, hexadecimal. What is there already is only made young again."""
        sha256 = hashlib.sha256(data).hexdigest()
        with self._translated(f"keeping {len(data):,} bytes as {asset_uri(sha256)}"):
            self._keep(self._path(sha256), data)
        return sha256

    def read(self, sha256: str) -> bytes:
        """All bytes. Raises `MissingAssetError` if there are none of that hash, or not all of them."""
        with self._translated(f"reading {asset_uri(sha256)}"):
            data = bytes(self._fs.cat_file(self._path(sha256)))
        if hashlib.sha256(data).hexdigest() != sha256:
            raise MissingAssetError(f"{asset_uri(sha256)} is not whole in the asset store {self.url}")
        return data

    def open(self, sha256: str) -> BinaryIO:
        """A seekable stream, for media that are served in ranges. Raises `MissingAssetError` likewise."""
        with self._translated(f"opening {asset_uri(sha256)}"):
            return cast(BinaryIO, self._fs.open(self._path(sha256), "rb"))

    def size(self, sha256: str) -> int:
        """Size in bytes. Raises `MissingAssetError` likewise."""
        with self._translated(f"asking for the size of {asset_uri(sha256)}"):
            return int(self._fs.size(self._path(sha256)))

    def exists(self, sha256: str) -> bool:
        with self._translated(f"looking for {asset_uri(sha256)}"):
            return bool(self._fs.exists(self._path(sha256)))

    def delete(self, sha256: str) -> None:
        """Removes the media; no error if there are none."""
        with self._translated(f"removing {asset_uri(sha256)}"):
            self._remove(self._path(sha256))

    def list(self) -> Iterator[StoredMedia]:
        """All media, in bounded memory: one fan-out folder (a 256th of the store) at a time, in no stated order."""
        for info in self._files():
            name = _name(info)
            if _SHA256.fullmatch(name):
                yield StoredMedia(name, int(info["size"] or 0), self._modified_s(info))

    # ---- sweeping ----

    def sweep(self, referred: Iterable[str], *, grace_s: float, now_s: float) -> SweepReport:
        """Removes media that nothing refers to and that were last put more than `grace_s` ago.

        New media are put before the row that refers to them is written, so that a sweep cannot know them by their row:
        their age protects them, and a `put` of old media makes them young. The grace period must be longer than the
        way of an event from fetch to write, however long a store was away meanwhile. A `put` in the very moment of
        removal is safe on a local folder (see `_remove_unless_refreshed`); an object store leaves a window of
        milliseconds there, since it cannot remove on a condition.

        Args:
            referred: hashes that asset rows and dead letters refer to, in any order, repeats allowed. Read to its end
                before anything is removed; 16 bytes of each are kept, so ten million take about 1 GB.
            grace_s: age under which nothing is removed, seconds.
            now_s: the present, seconds since the epoch, by the clock that dates the store's files.
        """
        kept = {bytes.fromhex(sha256)[:16] for sha256 in referred}
        youngest_s = now_s - grace_s - (0.0 if self.local else REFRESH_AFTER_S)
        seen = removed = removed_bytes = too_young = 0
        for stored in self.list():
            seen += 1
            if bytes.fromhex(stored.sha256)[:16] in kept:
                continue
            if stored.modified_s > youngest_s:
                too_young += 1
            elif self._remove_unless_refreshed(stored, youngest_s):
                removed += 1
                removed_bytes += stored.size
        self._remove_leftovers(youngest_s)
        logger.info("swept %s: %d of %d media removed, %d bytes", self.url, removed, seen, removed_bytes)
        return SweepReport(seen, removed, removed_bytes, too_young)

    def _remove_unless_refreshed(self, stored: StoredMedia, youngest_s: float) -> bool:
        """Removes one of the media, unless a `put` made it young since it was listed.

        On a local folder the file is moved away first and its age looked at then: a `put` that came before the move
        is seen there, and the file moved back; one that comes after finds no file and writes it anew.
        """
        path = self._path(stored.sha256)
        with self._translated(f"removing {asset_uri(stored.sha256)}"):
            if not self.local:
                if self._modified_s(self._fs.info(path)) > youngest_s:
                    return False
                self._remove(path)
                return True
            aside = self._temporary(stored.sha256, "swept")
            try:
                aside_path = Path(path).rename(aside)
            except FileNotFoundError:  # somebody else removed it
                return False
            if aside_path.stat().st_mtime > youngest_s:
                aside_path.replace(path)
                return False
            aside_path.unlink()
            return True

    def _remove_leftovers(self, youngest_s: float) -> None:
        """Temporary files of writers that died; a living one finishes within the grace period."""
        for info in self._files():
            if _TEMPORARY.fullmatch(_name(info)) and self._modified_s(info) <= youngest_s:
                with self._translated(f"removing the leftover {info['name']}"):
                    self._remove(str(info["name"]))

    # ---- files ----

    def _path(self, sha256: str) -> str:
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"not a SHA-256 in hexadecimal digits: {sha256!r}")
        return f"{self._root}/{sha256[:2]}/{sha256}"

    def _temporary(self, sha256: str, suffix: str) -> str:
        return f"{self._root}/{sha256[:2]}/.{sha256}.{uuid.uuid4().hex}.{suffix}"

    def _keep(self, path: str, data: bytes) -> None:
        if self.local and _created(path, data):  # first, since most are new: no other look at the folder
            return
        if not self._refreshed(path, len(data)):
            self._replace(path, data)

    def _refreshed(self, path: str, size: int) -> bool:
        """Whether the media are there whole, and young from now on."""
        try:
            if self.local:
                if os.stat(path).st_size != size:  # noqa: PTH116  # cut short, or another's that is being written
                    return False
                os.utime(path)  # after the look at its size, so that a sweep in between is noticed here
                return True
            info = self._fs.info(path)
        except FileNotFoundError:
            return False
        young = datetime.now(UTC).timestamp() - self._modified_s(info) < REFRESH_AFTER_S
        return young and int(info["size"]) == size

    def _replace(self, path: str, data: bytes) -> None:
        if not self.local:
            self._fs.pipe_file(path, data)  # an object appears whole or not at all
            return
        temporary = self._temporary(path.rpartition("/")[2], "tmp")
        try:
            _created(temporary, data)
            os.replace(temporary, path)  # noqa: PTH105
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _remove(self, path: str) -> None:
        try:
            self._fs.rm_file(path)
        except FileNotFoundError:
            return

    def _files(self) -> Iterator[dict[str, Any]]:
        for folder in self._listed(self._root):
            if folder["type"] == "directory" and _FAN_OUT.fullmatch(_name(folder)):
                for info in self._listed(str(folder["name"])):
                    if info["type"] == "file":
                        yield info

    def _listed(self, path: str) -> Iterable[dict[str, Any]]:
        with self._translated(f"listing {path}"):
            try:
                return cast(Iterable[dict[str, Any]], self._fs.ls(path, detail=True))
            except FileNotFoundError:
                return ()

    def _modified_s(self, info: dict[str, Any]) -> float:
        """Seconds since the epoch; fsspec's file systems name the same thing differently."""
        found = next((info[key] for key in ("mtime", "LastModified", "last_modified", "created") if key in info), None)
        modified = self._fs.modified(info["name"]) if found is None else found
        return modified.timestamp() if isinstance(modified, datetime) else float(modified)

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        """One error for the many of fsspec's file systems: whatever it is, the store did not do what was asked."""
        try:
            yield
        except (PenstockError, ValueError):
            raise
        except FileNotFoundError as exc:
            raise MissingAssetError(f"{doing}: it is not in the asset store {self.url}") from exc
        except Exception as exc:
            reason = f"{type(exc).__name__}: {exc}"
            raise UnavailableError(f"{doing} in the asset store {self.url} failed: {reason}. See assets.url.") from exc


def _created(path: str, data: bytes) -> bool:
    """Writes a new file, and makes its folder where it is the first in it; False if one of that name is there.

    Without pathlib and unbuffered: paths and file objects of Python cost as much as making the file of small media.
    """
    try:
        file = _new(path)
    except FileNotFoundError:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = _new(path)
    if file is None:
        return False
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(file, left) :]
    except BaseException:
        os.ftruncate(file, 0)  # of a disk that is full; not removed, as another's whole file may be there by now
        raise
    finally:
        os.close(file)
    return True


def _new(path: str) -> int | None:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return None


def _name(info: dict[str, Any]) -> str:
    return str(info["name"]).rstrip("/").rpartition("/")[2]
