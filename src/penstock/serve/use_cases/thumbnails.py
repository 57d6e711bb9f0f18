"""Makes small JPEGs of entries: of images, frames and pages, and of speech and sounds in a video."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field

from cachetools import LRUCache

from penstock.assets import sha256_of
from penstock.config import ImageSettings
from penstock.errors import BadInputError, QueryError
from penstock.media.thumbnail import encoded_thumbnail
from penstock.query.executor import BoundedExecutor
from penstock.query.parts.images import EntryImageReader
from penstock.query.understand.image import as_media
from penstock.records import VISUAL_COLLECTIONS, Access, Collection, Entry
from penstock.serve.use_cases.entry_lookup import EntryLookup

# Few widths, so that pages of different layouts share what is cached. Frames are stored with video.thumbnail_px, pages
# of documents with 800.
WIDTHS_PX = (80, 160, 320, 480, 640, 800)
_CACHE_BYTES = 32 * 1024 * 1024  # some 2,000 thumbnails of 320 px
# A JPEG of 12 megapixels and 4 MB takes 50 to 100 ms of CPU: a page of twenty new ones is complete within a second.
_THREADS = 2
_QUEUE_SIZE = 128
_RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small JPEG, and a name of its content."""

    data: bytes = field(repr=False)
    etag: str


class ThumbnailService:
    """The use case behind `/v1/entries/{id}/thumbnail`. Belongs to one event loop.

    Args:
        entries: reads the entries.
        images: reads their images.
        settings: limits of images.
        timeout_s: maximum duration of a read or of scaling, seconds.
    """

    def __init__(
        self,
        entries: EntryLookup,
        images: EntryImageReader,
        settings: ImageSettings,
        *,
        timeout_s: float,
    ) -> None:
        self._entries = entries
        self._images = images
        self._settings = settings
        self._timeout_s = timeout_s
        self._cache: LRUCache[tuple[str, int, int], Thumbnail] = LRUCache(
            _CACHE_BYTES, getsizeof=lambda thumbnail: len(thumbnail.data)
        )
        self._scaling = BoundedExecutor(
            threads=_THREADS,
            queue_size=_QUEUE_SIZE,
            clock=time.monotonic,
            calls="thumbnails",
            retry_after_s=_RETRY_AFTER_S,
        )

    def close(self) -> None:
        """Makes no more thumbnails."""
        self._scaling.close()

    async def read(self, entry_id: str, *, access: Access, width_px: int) -> Thumbnail:
        """Returns the thumbnail of an entry, its longer side at most the next larger of `WIDTHS_PX`.

        Raises:
            QueryError: 404, there is no such entry that the access allows, or it has no image that can be shown.
            UnavailableError: the store or the asset store does not answer.
            OverloadedError: too many thumbnails are being made.
        """
        entry = await self._pictured(entry_id, access)
        longest_px = next((width for width in WIDTHS_PX if width >= width_px), WIDTHS_PX[-1])
        source = entry.thumbnail or entry.uri
        # The content under a hash never changes; what is at another address may, with the entry.
        version = 0 if sha256_of(source) else entry.indexed_at_ms
        key = (source, version, longest_px)
        if (cached := self._cache.get(key)) is not None:
            return cached
        data = await self._scaling.run(lambda: self._scaled(entry, longest_px), timeout_s=self._timeout_s)
        thumbnail = Thumbnail(data, f'"{hashlib.sha256(data).hexdigest()[:32]}"')
        if len(data) <= _CACHE_BYTES:
            self._cache[key] = thumbnail
        return thumbnail

    async def _pictured(self, entry_id: str, access: Access) -> Entry:
        """Returns the entry with the image: itself, or the frame of its time."""
        entry = await self._entries.entry(entry_id, access)
        if entry.collection in VISUAL_COLLECTIONS or entry.thumbnail:
            return entry
        is_audible = entry.collection in (Collection.SPEECH, Collection.SOUND)
        frame = await self._entries.frame_at(entry, access) if is_audible else None
        if frame is None:
            raise QueryError(f"entry {entry_id} has no image", status=404)
        return frame

    def _scaled(self, entry: Entry, longest_px: int) -> bytes:
        try:
            image = self._images.read(entry, self._timeout_s)
            return encoded_thumbnail(as_media(image.data), settings=self._settings, longest_px=longest_px)
        except (QueryError, BadInputError) as exc:
            raise QueryError(f"the image of entry {entry.id} cannot be shown: {exc}", status=404) from exc
