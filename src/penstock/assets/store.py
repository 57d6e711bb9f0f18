"""The asset store keeps media under the hash of their bytes, so that results can be shown and played.

Any fsspec URL will do: a local folder, `s3://bucket/media`, `memory://` for tests.

    <root>/ab/ab12…         the media with hash ab12…
    <root>/trash/ab/ab12…   the same, once the sweep has removed them; dated by that
    <root>/OWNER            the index that refers to them
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from penstock.errors import ConfigError, PenstockError, PermanentError, UnavailableError

logger = logging.getLogger(__name__)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]{32}\.(?:tmp|swept)")
_OWNER = "OWNER"
_FAN_OUT = re.compile(r"[0-9a-f]{2}")

# An object store cannot touch a file, so that a repeated `put` rewrites media older than this, seconds, and no others.
REFRESH_AFTER_S = 3_600.0


class MissingAssetError(PermanentError):
    """The store has no media of this hash: they were never put, or swept."""


class StoredMedia(NamedTuple):
    """A file in the store: its hash, its size in bytes, and its latest `put`, seconds since the epoch."""

    sha256: str
    size: int
    modified_s: float


def asset_uri(sha256: str) -> str:
    """Returns the address of media in the asset store, `asset:<sha256>`."""
    return f"asset:{sha256}"


def sha256_of(uri: str) -> str | None:
    """Returns the hash in an `asset:` address; None for any other address."""
    scheme, _, name = uri.partition(":")
    return name if scheme == "asset" and _SHA256.fullmatch(name) else None


class AssetStore:
    """Media by the SHA-256 of their bytes. Safe to call concurrently from several threads and processes.

    Over the limit because media, their trash and the owner are files of one folder.

    In a local folder new media are written directly to their final path. During the write, and after a crash, a full
    disk or a power failure (nothing is synced), the file is incomplete. `read` verifies the hash and treats it as
    missing, and the next `put` of the same bytes replaces it.

    Args:
        url: root of the store, any fsspec URL. A local folder is created at the first write.

    Attributes:
        is_local: whether it is a folder of this machine.
        local_folder: this folder; None if it is elsewhere.

    Raises:
        ConfigError: fsspec does not support the URL.

    Every method raises `UnavailableError` when the store does not answer.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ValueError, ImportError, TypeError) as exc:
            raise ConfigError(f"the asset store's URL {url!r} cannot be used: {exc}. Correct assets.url.") from exc
        self._root = str(root).rstrip("/")
        self._trash = f"{self._root}/trash"
        self.is_local = isinstance(self._fs, LocalFileSystem)
        self.local_folder = Path(self._root) if self.is_local else None

    # --- media -------------------------------------------------------------------------------------------------------

    def put(self, data: bytes) -> str:
        """Stores the bytes and returns their SHA-256, hexadecimal. If they are there already, only resets their age."""
        sha256 = hashlib.sha256(data).hexdigest()
        with self._translated(f"writing {len(data):,} bytes as {asset_uri(sha256)}"):
            self._keep(self._path(sha256), data)
        return sha256

    def put_chunks(self, sha256: str, chunks: Iterable[bytes]) -> None:
        """Stores media too large for memory under their hash; they appear once they are complete.

        Raises:
            MissingAssetError: the chunks are not the media of this hash.
        """
        path, digest = self._path(sha256), hashlib.sha256()
        temporary = _temporary(path, "tmp")
        with self._translated(f"writing {asset_uri(sha256)}"):
            if self.is_local:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            try:
                with self._fs.open(temporary, "wb") as file:
                    for chunk in chunks:
                        digest.update(chunk)
                        file.write(chunk)
                if digest.hexdigest() != sha256:
                    raise MissingAssetError(f"what was read as {asset_uri(sha256)} has another hash")
                self._fs.mv(temporary, path)
            except BaseException:
                self._remove(temporary)
                raise

    def read(self, sha256: str) -> bytes:
        """Reads all bytes. Raises `MissingAssetError` if the media are absent or incomplete."""
        with self._translated(f"reading {asset_uri(sha256)}"):
            data = bytes(self._fs.cat_file(self._path(sha256)))
        if hashlib.sha256(data).hexdigest() != sha256:
            raise MissingAssetError(f"{asset_uri(sha256)} is incomplete in the asset store {self.url}")
        return data

    def read_range(self, sha256: str, start: int, end: int) -> bytes:
        """Reads the bytes from `start` to before `end`, of media too large for memory. Their hash is not verified.

        Raises:
            MissingAssetError: the media are absent, or end before `end`.
        """
        with self._translated(f"reading bytes {start:,} to {end:,} of {asset_uri(sha256)}"):
            data = bytes(self._fs.cat_file(self._path(sha256), start=start, end=end)) if end > start else b""
        if len(data) != end - start:
            raise MissingAssetError(f"{asset_uri(sha256)} ends before byte {end:,} in the asset store {self.url}")
        return data

    def size(self, sha256: str) -> int:
        """Returns the size in bytes. Raises `MissingAssetError` if the media are absent."""
        with self._translated(f"reading the size of {asset_uri(sha256)}"):
            return int(self._fs.size(self._path(sha256)))

    def exists(self, sha256: str) -> bool:
        """Returns whether there is a file of this hash, complete or not."""
        with self._translated(f"looking up {asset_uri(sha256)}"):
            return bool(self._fs.exists(self._path(sha256)))

    def delete(self, sha256: str) -> None:
        """Removes the media; no error if there are none."""
        with self._translated(f"removing {asset_uri(sha256)}"):
            self._remove(self._path(sha256))

    def list(self) -> Iterator[StoredMedia]:
        """Yields all files in no stated order. Memory is bounded: it lists one fan-out folder (1/256) at a time."""
        for info in self._files(self._root):
            name = _name(info)
            if _SHA256.fullmatch(name):
                yield StoredMedia(name, int(info["size"] or 0), self._modified_s(info))

    # --- trash and owner ---------------------------------------------------------------------------------------------

    def list_trash(self) -> Iterator[StoredMedia]:
        """Yields the media in the trash; `modified_s` is the time at which they came there."""
        for info in self._files(self._trash):
            name = _name(info)
            if _SHA256.fullmatch(name):
                yield StoredMedia(name, int(info["size"] or 0), self._modified_s(info))

    def move_to_trash(self, sha256: str, youngest_s: float) -> bool:
        """Moves media to the trash, unless a `put` has reset their age since they were listed.

        In a local folder the file is moved away first and its age checked then. A `put` before the move is noticed, and
        the file moved back; a `put` after the move finds no file and writes it again. An object store cannot move on a
        condition, which leaves a window of milliseconds.

        Args:
            sha256: of the media.
            youngest_s: younger ones stay, seconds since the epoch.
        """
        path, aside = self._path(sha256), self._trash_path(sha256)
        with self._translated(f"removing {asset_uri(sha256)}"):
            if not self.is_local:
                if self._modified_s(self._fs.info(path)) > youngest_s:
                    return False
                self._fs.mv(path, aside)
                return True
            Path(aside).parent.mkdir(parents=True, exist_ok=True)
            try:
                aside_path = Path(path).replace(aside)
            except FileNotFoundError:  # removed by another process
                return False
            if aside_path.stat().st_mtime > youngest_s:
                aside_path.replace(path)
                return False
            os.utime(aside)
            return True

    def restore(self, sha256: str) -> bool:
        """Moves media from the trash back, where none have been put again; returns whether it did."""
        path, aside = self._path(sha256), self._trash_path(sha256)
        with self._translated(f"putting {asset_uri(sha256)} back"):
            if self._fs.exists(path):
                return False
            self._fs.mv(aside, path)
            return True

    def purge(self, sha256: str) -> None:
        """Removes media from the trash permanently; no error if there are none."""
        with self._translated(f"removing {asset_uri(sha256)}"):
            self._remove(self._trash_path(sha256))

    def remove_leftovers(self, youngest_s: float) -> None:
        """Removes temporary files of writers that died; a living one finishes within the grace period."""
        for info in self._files(self._root):
            if _TEMPORARY.fullmatch(_name(info)) and self._modified_s(info) <= youngest_s:
                with self._translated(f"removing the leftover {info['name']}"):
                    self._remove(str(info["name"]))

    def owner(self) -> str | None:
        """Returns the index that refers to these media; None before its first sweep."""
        with self._translated("reading the owner"):
            try:
                return bytes(self._fs.cat_file(f"{self._root}/{_OWNER}")).decode().strip() or None
            except FileNotFoundError:
                return None

    def set_owner(self, owner: str) -> None:
        """Writes the owner, if it is another one."""
        if self.owner() == owner:
            return
        with self._translated("writing the owner"):
            if self.local_folder is not None:
                self.local_folder.mkdir(parents=True, exist_ok=True)
            self._fs.pipe_file(f"{self._root}/{_OWNER}", owner.encode())

    # --- notes ------------------------------------------------------------------------------------------------------

    def note(self, name: str) -> bytes | None:
        """Returns a note that a task keeps beside the media; None if there is none."""
        with self._translated(f"reading the note {name}"):
            try:
                return bytes(self._fs.cat_file(f"{self._root}/{name}"))
            except FileNotFoundError:
                return None

    def put_note(self, name: str, data: bytes) -> None:
        """Writes a note, in place of an older one."""
        with self._translated(f"writing the note {name}"):
            if self.local_folder is not None:
                self.local_folder.mkdir(parents=True, exist_ok=True)
            self._replace(f"{self._root}/{name}", data)

    def notes(self, folder: str) -> Sequence[str]:
        """Returns the names of the notes in a folder, without those that are being written; none if it is absent."""
        names = (_name(info) for info in self._listed(f"{self._root}/{folder}") if info["type"] == "file")
        return [name for name in names if not name.startswith(".")]

    def drop_note(self, name: str) -> None:
        """Removes a note; no error if there is none."""
        with self._translated(f"removing the note {name}"):
            self._remove(f"{self._root}/{name}")

    # --- files -------------------------------------------------------------------------------------------------------

    def _path(self, sha256: str) -> str:
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"not a SHA-256 in hexadecimal digits: {sha256!r}")
        return f"{self._root}/{sha256[:2]}/{sha256}"

    def _trash_path(self, sha256: str) -> str:
        return f"{self._trash}{self._path(sha256).removeprefix(self._root)}"

    def _keep(self, path: str, data: bytes) -> None:
        if self.is_local and _created(path, data):  # first, since most are new: saves another access
            return
        if not self._refreshed(path, len(data)):
            self._replace(path, data)

    def _refreshed(self, path: str, size: int) -> bool:
        """Resets the age of the file if it is complete, and returns whether it is."""
        try:
            if self.is_local:
                if os.stat(path).st_size != size:  # noqa: PTH116  # incomplete, or still being written
                    return False
                os.utime(path)  # after the check of its size, so that a sweep in between is noticed
                return True
            info = self._fs.info(path)
        except FileNotFoundError:
            return False
        young = datetime.now(UTC).timestamp() - self._modified_s(info) < REFRESH_AFTER_S
        return young and int(info["size"]) == size

    def _replace(self, path: str, data: bytes) -> None:
        if not self.is_local:
            self._fs.pipe_file(path, data)  # an object appears complete or not at all
            return
        temporary = _temporary(path, "tmp")
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

    def _files(self, root: str) -> Iterator[dict[str, Any]]:
        for folder in self._listed(root):
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
        """Returns seconds since the epoch; the file systems of fsspec name the field differently."""
        time = next((info[key] for key in ("mtime", "LastModified", "last_modified", "created") if key in info), None)
        modified = self._fs.modified(info["name"]) if time is None else time
        return modified.timestamp() if isinstance(modified, datetime) else float(modified)

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        """Translates the errors of all file systems of fsspec; any other error means that the store failed."""
        try:
            yield
        except (PenstockError, ValueError):
            raise
        except FileNotFoundError as exc:
            raise MissingAssetError(f"{doing}: it is not in the asset store {self.url}") from exc
        except Exception as exc:
            reason = f"{type(exc).__name__}: {exc}"
            raise UnavailableError(f"{doing} in the asset store {self.url} failed: {reason}. See assets.url.") from exc


def _temporary(path: str, suffix: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{uuid.uuid4().hex}.{suffix}"


def _created(path: str, data: bytes) -> bool:
    """Writes a new file, with its folder if needed; returns False if the file exists.

    Uses no pathlib and no buffer: for small media, Python's path and file objects cost as much as creating the file.
    """
    try:
        file = _open_new(path)
    except FileNotFoundError:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = _open_new(path)
    if file is None:
        return False
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(file, left) :]
    except BaseException:
        os.ftruncate(file, 0)  # the disk may be full; not removed, as another process may have put a complete file
        raise
    finally:
        os.close(file)
    return True


def _open_new(path: str) -> int | None:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return None


def _name(info: dict[str, Any]) -> str:
    return str(info["name"]).rstrip("/").rpartition("/")[2]
