"""Copies media between an asset store and the media of backups, by their hash, and only those that are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from penstock.assets import AssetStore, MissingAssetError, StoredMedia

T = TypeVar("T")

# Requests to object stores take 10 to 50 ms each, most of it waiting.
_THREADS = 8
_AT_A_TIME = 256
_WHOLE_BYTES = 8 * 1024 * 1024  # media up to this size are copied whole; 64 MB in all threads
_CHUNK_BYTES = 4 * 1024 * 1024


def short(sha256: str) -> bytes:
    """Returns half of a hash, by which millions are compared in memory."""
    return bytes.fromhex(sha256)[:16]


@dataclass(slots=True)
class MediaCopy:
    """The result of a copy.

    Attributes:
        present: media that the destination has now.
        size: their bytes.
        copied: those that it lacked.
        copied_bytes: of these.
        missing: names of media that the source lacks, the first ones.
        missing_count: of all of them.
    """

    present: int = 0
    size: int = 0
    copied: int = 0
    copied_bytes: int = 0
    missing: list[str] = field(default_factory=list)
    missing_count: int = 0


MAX_NAMED = 100


class MediaCopier:
    """Copies media from one store to another.

    Args:
        source, destination: the stores.
        on_progress: called with the number of media that are done.
    """

    def __init__(self, source: AssetStore, destination: AssetStore, on_progress: Callable[[int], None]) -> None:
        self._source = source
        self._destination = destination
        self._on_progress = on_progress
        self._known = {short(stored.sha256): stored.size for stored in destination.list()}
        self.result = MediaCopy()

    def copy_referenced(self, referenced: set[bytes]) -> Iterator[StoredMedia]:
        """Copies those media of the source whose `short` hash is among these; yields what the destination has then.

        What remains in `referenced` afterwards the source does not have.
        """
        requested = (stored for stored in self._source.list() if short(stored.sha256) in referenced)
        for stored in self.copy(requested):
            referenced.discard(short(stored.sha256))
            yield stored
        self.result.missing_count = len(referenced)
        self.result.missing = [key.hex() for key in islice(referenced, MAX_NAMED)]

    def copy(self, media: Iterable[StoredMedia]) -> Iterator[StoredMedia]:
        """Copies these media, and yields those that the destination has then; the others count as missing."""
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="media-copy") as pool:
            for group in _groups(media, _AT_A_TIME):
                for stored, copied in zip(group, pool.map(self._copy, group), strict=True):
                    yield from self._counted(stored, copied)
                self._on_progress(self.result.present)

    def _counted(self, stored: StoredMedia, copied: bool | None) -> Iterator[StoredMedia]:
        result = self.result
        if copied is None:
            result.missing_count += 1
            if len(result.missing) < MAX_NAMED:
                result.missing.append(stored.sha256)
            return
        result.present += 1
        result.size += stored.size
        result.copied += copied
        result.copied_bytes += stored.size * copied
        yield stored

    def _copy(self, stored: StoredMedia) -> bool | None:
        """Copies one file; returns False if it was there already, and None if the source has it no more."""
        if self._known.get(short(stored.sha256)) == stored.size:
            return False
        try:
            if stored.size <= _WHOLE_BYTES:
                self._destination.put(self._source.read(stored.sha256))
            else:
                self._destination.put_chunks(stored.sha256, self._chunks(stored))
        except MissingAssetError:
            return None
        return True

    def _chunks(self, stored: StoredMedia) -> Iterator[bytes]:
        for start in range(0, stored.size, _CHUNK_BYTES):
            yield self._source.read_range(stored.sha256, start, min(start + _CHUNK_BYTES, stored.size))


def _groups(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group
