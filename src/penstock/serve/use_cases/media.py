"""Reads stored media by the hash of their content, whole or in ranges."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from cachetools import LRUCache

from penstock.assets import MissingAssetError
from penstock.errors import QueryError
from penstock.media.sniff import UNKNOWN, sniff
from penstock.query.executor import BoundedExecutor
from penstock.serve.use_cases.byte_budget import ByteBudget
from penstock.serve.use_cases.partial_bytes import PartialBytes, TooManyReadsError

_T = TypeVar("_T")

_SHA256 = re.compile(r"[0-9a-f]{64}")
# Media up to this size are read whole, and their hash is verified. Larger ones would be hashed for each of the ranges
# that a player requests.
VERIFIED_BYTES = 4 * 1024 * 1024
# An object store needs some 15 ms for a piece, so that a client gets up to 60 MB/s.
PIECE_BYTES = 1024 * 1024
# Ray Serve takes an answer from a replica as fast as it is produced and keeps what the client has not read, so that
# pieces bound nothing. Players that ask for "the rest" get this much of it, and ask again (RFC 9110, 15.3.7).
MAX_RANGE_BYTES = 4 * 1024 * 1024
# Of whole answers that are larger: as much as the largest media by the default `fetch.max_bytes`.
_MAX_WHOLE_BYTES = 256 * 1024 * 1024
# An MP4 is recognised within three blocks, a file with hundreds of chapters before its tracks within twenty.
_MAX_SNIFFED_BLOCKS = 64
_CACHED_TYPES = 10_000


class AssetReader(Protocol):
    """A store of media by hash, such as `assets.AssetStore`.

    Its methods raise MissingAssetError if the media are absent, UnavailableError if the store is down.
    """

    def read(self, sha256: str) -> bytes:
        """Returns all bytes, whose hash was verified."""

    def read_range(self, sha256: str, start: int, end: int) -> bytes:
        """Returns the bytes from `start` to before `end`."""

    def size(self, sha256: str) -> int:
        """Returns the number of bytes."""


@dataclass(frozen=True, slots=True)
class MediaDescription:
    """Media in the store: their hash, their size in bytes and the type that their bytes show."""

    sha256: str
    size: int
    mime: str


class MediaService:
    """The use case behind `/v1/media/{sha256}`.

    The media of all tenants share one store. Whether a caller may read media is decided before: by a signed link, or by
    entries of its that refer to them (`MediaReferences`).

    Args:
        assets: the store of the media.
        executor: runs its calls, among those of the searches.
        timeout_s: maximum duration of a read, seconds.
        max_whole_bytes: of large whole answers that their clients have not received yet.

    Attributes:
        whole_answers: counts them.

    Every method raises:
        QueryError: 404, the media are absent or the name is not a hash.
        UnavailableError: the asset store does not answer.
    """

    def __init__(
        self,
        assets: AssetReader,
        executor: BoundedExecutor,
        *,
        timeout_s: float,
        max_whole_bytes: int = _MAX_WHOLE_BYTES,
    ) -> None:
        self.whole_answers = ByteBudget(max_whole_bytes, patience_s=timeout_s)
        self._assets = assets
        self._executor = executor
        self._timeout_s = timeout_s
        self._types: LRUCache[tuple[str, int], str] = LRUCache(_CACHED_TYPES)

    async def read(self, sha256: str) -> bytes:
        """Returns all bytes of media, which have to fit in memory."""
        return await self._run(sha256, lambda: self._assets.read(sha256))

    async def describe(self, sha256: str) -> MediaDescription:
        """Returns size and type of media, which are there now. The type is read once, from as few bytes as show it."""
        size = await self._run(sha256, lambda: self._assets.size(sha256))
        if (mime := self._types.get((sha256, size))) is None:
            mime = await self._run(sha256, lambda: self._sniff(sha256, size))
            self._types[sha256, size] = mime
        return MediaDescription(sha256, size, mime)

    async def pieces(self, media: MediaDescription, start: int, end: int) -> AsyncIterator[bytes]:
        """Yields the bytes from `start` to before `end`, at most 1 MiB at a time; small media in one piece."""
        if media.size <= VERIFIED_BYTES:
            yield (await self.read(media.sha256))[start:end]
            return
        for at in range(start, end, PIECE_BYTES):
            yield await self._read_range(media.sha256, at, min(at + PIECE_BYTES, end))

    async def _read_range(self, sha256: str, start: int, end: int) -> bytes:
        return await self._run(sha256, lambda: self._assets.read_range(sha256, start, end))

    def _sniff(self, sha256: str, size: int) -> str:
        if size <= VERIFIED_BYTES:
            return sniff(self._assets.read(sha256), declared=None).mime
        data = PartialBytes(
            size, lambda start, end: self._assets.read_range(sha256, start, end), max_blocks=_MAX_SNIFFED_BLOCKS
        )
        try:
            return sniff(data, declared=None).mime
        except TooManyReadsError:
            return UNKNOWN

    async def _run(self, sha256: str, work: Callable[[], _T]) -> _T:
        if not _SHA256.fullmatch(sha256):
            raise misnamed_media()
        try:
            return await self._executor.run(work, timeout_s=self._timeout_s)
        except MissingAssetError as exc:
            raise absent_media(sha256) from exc


def absent_media(sha256: str) -> QueryError:
    """Returns the error of media that are not there, or that no entry of the caller refers to. It never says which."""
    if not _SHA256.fullmatch(sha256):
        return misnamed_media()
    return QueryError(f"media {sha256} are not in the asset store; they may have been deleted", status=404)


def misnamed_media() -> QueryError:
    """Returns the error of a name that is no hash."""
    return QueryError("media are named by 64 hexadecimal digits in lower case", status=404)
