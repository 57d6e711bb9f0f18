"""Reads the images that a vision model sees with its prompt: those of the question, images and frames of hits.

An image is sent as a JPEG of its own, scaled, without its metadata, such as the place where it was taken; never as an
address. What has no image, or whose image is late or broken, is there by its words alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from penstock.config import GenerateSettings, ImageSettings
from penstock.errors import PenstockError
from penstock.media.thumbnail import encoded_thumbnail
from penstock.query.executor import BoundedExecutor
from penstock.query.generate.types import Source
from penstock.query.parts.images import EntryImage
from penstock.query.understand.image import as_media
from penstock.records import VISUAL_COLLECTIONS, Entry

logger = logging.getLogger(__name__)


class EntryImages(Protocol):
    """Reads images of entries, as `query.parts.images.EntryImageReader` does. Safe to call from several threads."""

    def read(self, entry: Entry, timeout_s: float) -> EntryImage:
        """Returns the encoded image of an entry.

        Raises:
            PenstockError: it has none, or it cannot be read now.
        """


class PromptImages:
    """Adds images to the sources of prompts.

    Args:
        entries: reads the images of entries.
        executor: runs these calls.
        settings: of the generator.
        limits: of images.
    """

    def __init__(
        self, entries: EntryImages, executor: BoundedExecutor, settings: GenerateSettings, limits: ImageSettings
    ) -> None:
        self._entries = entries
        self._executor = executor
        self._settings = settings
        self._limits = limits

    async def add(
        self, sources: Sequence[Source], images: Sequence[bytes], *, timeout_s: float
    ) -> tuple[tuple[Source, ...], tuple[bytes, ...]]:
        """Returns the sources, the first of them with their images, and the images of the question, all as JPEGs.

        Nothing is read for a model that sees no images. Never more than `generate.max_images` are returned.

        Args:
            sources: of the prompt, the best first.
            images: encoded images of the question.
            timeout_s: for all of them.
        """
        if not self._settings.vision:
            return tuple(sources), ()
        deadline_s = self._executor.clock() + timeout_s
        room = self._settings.max_images
        questions = await asyncio.gather(*(self._scaled(image, deadline_s) for image in images[:room]))
        kept = tuple(image for image in questions if image is not None)
        shown = [source for source in sources if _entry_of(source) is not None][: room - len(kept)]
        jpegs = await asyncio.gather(*(self._read(source, deadline_s) for source in shown))
        by_number = {source.number: jpeg for source, jpeg in zip(shown, jpegs, strict=True)}
        return tuple(replace(source, image=by_number.get(source.number)) for source in sources), kept

    async def _scaled(self, image: bytes, deadline_s: float) -> bytes | None:
        try:
            return await self._executor.call(lambda _: self._jpeg(image), deadline_s=deadline_s)
        except (PenstockError, TimeoutError) as exc:
            logger.info("an image of a question is not sent to the generator: %s", exc)
            return None

    async def _read(self, source: Source, deadline_s: float) -> bytes | None:
        entry = _entry_of(source)
        assert entry is not None

        def read(timeout_s: float) -> bytes:
            return self._jpeg(self._entries.read(entry, timeout_s).data)

        try:
            return await self._executor.call(read, deadline_s=deadline_s)
        except (PenstockError, TimeoutError) as exc:
            logger.info("the image of entry %s is not sent to the generator: %s", entry.id, exc)
            return None

    def _jpeg(self, data: bytes) -> bytes:
        side, quality = self._settings.image_side, self._settings.image_quality
        return scaled_jpeg(data, side=side, quality=quality, limits=self._limits)


def scaled_jpeg(data: bytes, *, side: int, quality: int, limits: ImageSettings) -> bytes:
    """Returns an image as a JPEG without metadata, upright, scaled down.

    Args:
        data: the encoded image.
        side: the longest side of the JPEG, pixels; a smaller image keeps its size.
        quality: of the JPEG, 1 to 95.
        limits: of images.

    Raises:
        BadInputError: it is no image that can be decoded, or too large.
    """
    return encoded_thumbnail(as_media(data), settings=limits, longest_px=side, quality=quality)


def _entry_of(source: Source) -> Entry | None:
    """Returns the entry of a source that has an image: of a moment its best frame."""
    hit = source.hit
    entry = hit.entry if hit.moment is None else hit.moment.frame
    return entry if entry is not None and entry.collection in VISUAL_COLLECTIONS else None
