"""Opens the file systems of sources by their URLs, and lists what is below a folder in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import IO, Any

from penstock.config import Settings
from penstock.errors import PenstockError, UnavailableError, UsageError

_PAGE = 1_000  # the most that S3 lists in one answer
_MAGIC = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A file of a file system, or an object of a bucket.

    Attributes:
        path: within its file system.
        size: bytes.
        modified_ms: milliseconds since the epoch; None if the file system does not say.
    """

    path: str
    size: int
    modified_ms: int | None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name


class FileSystem:
    """A file system of fsspec, with its errors translated. Safe to use from several threads.

    Args:
        url: of a place in it, such as `s3://bucket/photos`.
        settings: `fetch.s3_endpoint` holds here, too.

    Raises:
        UsageError: no such kind of file system is known here.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        import fsspec

        options: dict[str, Any] = {}
        if url.startswith("s3://"):
            # More would ask for the size of each object first (HEAD), which doubles the time of small ones: 1.6 ms of
            # CPU a read instead of 0.8.
            options = {"use_listings_cache": False, "max_concurrency": 1}
            if settings.fetch.s3_endpoint is not None:
                options["endpoint_url"] = settings.fetch.s3_endpoint
        try:
            self._files, self.path = fsspec.url_to_fs(url, **options)
        except (ImportError, ValueError) as exc:
            raise UsageError(f"{url} cannot be opened: {exc}") from exc
        self._url = url
        self._is_s3 = url.startswith("s3://")

    def url_of(self, path: str) -> str:
        """Returns the URL of a path."""
        return str(self._files.unstrip_protocol(path))

    def read(self, path: str, *, start: int = 0, end: int | None = None) -> bytes:
        """Returns the bytes of a file, or those from `start` up to `end`. Raises as `files_of` does."""
        with self._translated(f"read {self.url_of(path)}"):
            data: bytes = self._files.cat_file(path, start=None if end is None else start, end=end)
            return data

    def open(self, path: str) -> IO[bytes]:
        """Returns a file that is open for reading. Raises as `files_of` does."""
        with self._translated(f"open {self.url_of(path)}"):
            file: IO[bytes] = self._files.open(path, "rb")
            return file

    def files_of(self, path: str) -> list[StoredObject]:
        """Returns the files that a path names: itself, or those that fit its pattern, sorted.

        Raises:
            UsageError: there are none.
            UnavailableError: the server does not answer.
        """
        with self._translated(f"list {self._url}"):
            paths = sorted(self._files.glob(path)) if _MAGIC & set(path) else [path]
            matches = [_stored(self._files.info(match)) for match in paths]
        if not matches:
            raise UsageError(f"there is nothing at {self._url}")
        return matches

    def only_file(self, path: str) -> StoredObject:
        """Returns the one file that a path names. Raises as `files_of` does, and UsageError if there are several."""
        matches = self.files_of(path)
        if len(matches) > 1:
            raise UsageError(f"{self._url} names {len(matches)} files; give each of them")
        return matches[0]

    def is_file(self, path: str) -> bool:
        """Returns whether a path is that of a file and not of a folder. Raises as `files_of` does."""
        with self._translated(f"look up {self._url}"):
            return not path.endswith("/") and bool(self._files.isfile(path))

    def walk(self, root: str, after: str | None = None) -> Iterator[StoredObject]:
        """Yields the files below a folder that come after a path, one page or folder in memory at a time.

        Hidden files and folders are left out. The order is always the same: of a bucket that of the keys; elsewhere the
        files of a folder come before its folders, each by their names.

        Raises:
            UsageError: there is no such folder.
            UnavailableError: the server does not answer.
        """
        root = root.rstrip("/")
        walked = self._walk_bucket(root, after) if self._is_s3 else self._walk_folders(root, root, after)
        for stored in walked:
            if not _is_hidden(stored.path[len(root) :]):
                yield stored

    def _walk_bucket(self, root: str, after: str | None) -> Iterator[StoredObject]:
        bucket, _, folder = root.partition("/")
        prefix, start = f"{folder}/" if folder else "", "" if after is None else after.partition("/")[2]
        while True:
            with self._translated(f"list {self._url}"):
                page = self._files.call_s3(
                    "list_objects_v2", Bucket=bucket, Prefix=prefix, StartAfter=start, MaxKeys=_PAGE
                )
            contents = page.get("Contents", ())
            for entry in contents:
                if not entry["Key"].endswith("/"):  # a mark of an empty folder
                    modified_ms = round(entry["LastModified"].timestamp() * 1000)
                    yield StoredObject(f"{bucket}/{entry['Key']}", int(entry["Size"]), modified_ms)
            if not page.get("IsTruncated") or not contents:
                return
            start = contents[-1]["Key"]

    def _walk_folders(self, root: str, folder: str, after: str | None) -> Iterator[StoredObject]:
        with self._translated(f"list {self.url_of(folder)}"):
            listed = sorted(self._files.ls(folder, detail=True), key=lambda entry: entry["name"])
        known = None if after is None else order_of(after, root)
        files = [entry for entry in listed if entry["type"] == "file"]
        for entry in files:
            if known is None or order_of(entry["name"], root) > known:
                yield _stored(entry)
        for entry in listed:
            path = entry["name"].rstrip("/")
            if entry["type"] != "directory" or path == folder:
                continue
            place = order_of(path, root, is_folder=True)
            if known is None or place >= known[: len(place)]:
                yield from self._walk_folders(root, path, after)

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        """Raises errors of file systems as Penstock's.

        Raises:
            UsageError: what was named is absent, or may not be read.
            UnavailableError: any other error: the server may answer later.
        """
        try:
            yield
        except PenstockError:
            raise
        except FileNotFoundError as exc:
            raise UsageError(f"could not {doing}: it does not exist") from exc
        except (PermissionError, IsADirectoryError, NotADirectoryError) as exc:
            raise UsageError(f"could not {doing}: {exc}") from exc
        except Exception as exc:  # each file system has errors of its own
            raise UnavailableError(f"could not {doing}: {type(exc).__name__}: {exc}") from exc


def order_of(path: str, root: str, *, is_folder: bool = False) -> tuple[tuple[int, str], ...]:
    """Returns what orders paths below a folder as they are walked: files first, then folders, by name."""
    parts = PurePosixPath(path[len(root) :].lstrip("/")).parts
    if is_folder:
        return tuple((1, part) for part in parts)
    return (*((1, part) for part in parts[:-1]), (0, parts[-1]))


def _is_hidden(relative: str) -> bool:
    return any(part.startswith(".") for part in relative.split("/"))


def _stored(entry: Any) -> StoredObject:
    modified = entry.get("LastModified", entry.get("mtime", entry.get("created")))
    if isinstance(modified, datetime):
        modified = modified.timestamp()
    modified_ms = round(modified * 1000) if isinstance(modified, int | float) else None
    return StoredObject(entry["name"], int(entry.get("size") or 0), modified_ms)
