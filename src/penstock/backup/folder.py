"""The folder at a URL that holds backups, and the media that they share.

<url>/backups/<id>/…               the parts of a backup, as Parquet
<url>/backups/<id>/manifest.json   written last: a folder without it is no backup
<url>/media/ab/ab12…               media by the hash of their bytes, of all backups

In a local folder these are this user's alone: what an index has is for those whom its labels let in.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from penstock.assets import AssetStore
from penstock.backup.manifest import DamagedBackupError, Manifest, Part, parse_manifest
from penstock.config.secrets import refuse_userinfo
from penstock.errors import ConfigError, PenstockError, UnavailableError, UsageError

_MANIFEST = "manifest.json"


class BackupFolder:
    """The backups at a URL. Safe to call from several threads.

    Args:
        url: any fsspec URL, such as `s3://bucket/backups` or a path.

    Attributes:
        url: the same.
        media: the media of all backups here.

    Raises:
        ConfigError: the URL cannot be used.

    Every method raises `UnavailableError` when the place does not answer.
    """

    def __init__(self, url: str) -> None:
        try:
            refuse_userinfo(url, "give the credentials by the environment, or by the role of the machine")
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ValueError, ImportError, TypeError) as exc:
            raise ConfigError(f"the URL of the backups cannot be used: {exc}") from exc
        self.url = url.rstrip("/")
        self._base = str(root).rstrip("/")
        self._root = f"{self._base}/backups"
        self._is_local = isinstance(self._fs, LocalFileSystem)
        self.media = AssetStore(f"{self.url}/media")

    def create(self) -> None:
        """Creates the folders at a local path, closed to other users; those that are there keep their rights."""
        if self._is_local:
            with self._translated("create the folder"):
                for folder in (self._base, self._root, f"{self._base}/media"):
                    Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)

    def ids(self) -> Sequence[str]:
        """Returns the complete backups, oldest first."""
        return [id_ for id_ in self.folders() if self._exists(f"{id_}/{_MANIFEST}")]

    def folders(self) -> Sequence[str]:
        """Returns all folders of backups, those without a manifest included, oldest first."""
        with self._translated("list"):
            try:
                listed = self._fs.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
        return sorted(
            str(info["name"]).rstrip("/").rpartition("/")[2] for info in listed if info["type"] == "directory"
        )

    def manifest(self, id_: str | None = None) -> Manifest:
        """Returns the manifest of a backup, by default of the newest.

        Raises:
            UsageError: there is no such backup.
            NewerBackupError, DamagedBackupError: as `parse_manifest` does.
        """
        if id_ is None:
            ids = self.ids()
            if not ids:
                raise UsageError(f"there is no complete backup at {self.url}: check the URL, or make one")
            id_ = ids[-1]
        data = self._read(f"{id_}/{_MANIFEST}")
        if data is None:
            raise UsageError(f"there is no complete backup {id_} at {self.url}")
        return parse_manifest(id_, data)

    def put_manifest(self, manifest: Manifest) -> None:
        """Writes the manifest, which completes a backup."""
        self._write(f"{manifest.id}/{_MANIFEST}", manifest.to_json())

    def put_part(self, id_: str, path: str, data: bytes, rows: int) -> Part:
        """Writes a part of a backup, and returns what the manifest says of it."""
        self._write(f"{id_}/{path}", data)
        return Part(path, rows, len(data), hashlib.sha256(data).hexdigest())

    def read_part(self, id_: str, part: Part) -> bytes:
        """Reads a part.

        Raises:
            DamagedBackupError: it is missing or has another hash.
        """
        data = self._read(f"{id_}/{part.path}")
        if data is None:
            raise DamagedBackupError(f"backup {id_} at {self.url} lacks its part {part.path}: take another backup")
        if len(data) != part.size or hashlib.sha256(data).hexdigest() != part.sha256:
            raise DamagedBackupError(
                f"part {part.path} of backup {id_} at {self.url} is damaged: its hash is not that of the manifest. "
                "Take another backup"
            )
        return data

    def remove(self, id_: str) -> None:
        """Removes a backup, its manifest first, so that half of one is none. Its media stay."""
        with self._translated(f"remove {id_}"):
            for path in (f"{self._root}/{id_}/{_MANIFEST}", f"{self._root}/{id_}"):
                if self._fs.exists(path):
                    self._fs.rm(path, recursive=True)

    def _exists(self, path: str) -> bool:
        with self._translated(f"look up {path}"):
            return bool(self._fs.exists(f"{self._root}/{path}"))

    def _read(self, path: str) -> bytes | None:
        with self._translated(f"read {path}"):
            try:
                return bytes(self._fs.cat_file(f"{self._root}/{path}"))
            except FileNotFoundError:
                return None

    def _write(self, path: str, data: bytes) -> None:
        full = f"{self._root}/{path}"
        with self._translated(f"write {len(data):,} bytes to {path}"):
            if self._is_local:
                _write_whole(Path(full), data)
            else:
                self._fs.pipe_file(full, data)  # an object appears complete or not at all

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        """Translates the errors of all file systems of fsspec; any other error means that the place failed."""
        try:
            yield
        except PenstockError:
            raise
        except Exception as exc:
            reason = f"{type(exc).__name__}: {exc}"
            raise UnavailableError(f"could not {doing} among the backups at {self.url}: {reason}") from exc


def _write_whole(path: Path, data: bytes) -> None:
    """Writes a file of mode 0600, which is there complete or not at all, after a crash of the machine too."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
