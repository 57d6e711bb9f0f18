"""Decodes the image of a query as the ingest plane decodes the images that it indexes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from penstock.config import ImageSettings
from penstock.encoders.base import ImageSpec
from penstock.errors import BadInputError, QueryError, Reason
from penstock.media.image import decode_image
from penstock.media.sniff import sniff
from penstock.records import AssetRef, Event, FetchedMedia, ImageRegion, Modality, Position, UInt8

# Even a progressive JPEG of 62 million pixels, all coefficients of which are kept, takes less than 400 MB.
_JPEG_FACTOR = 2.5


def query_image_decoder(
    spec: ImageSpec, settings: ImageSettings, *, max_pixels: int | None = None
) -> Callable[[bytes, ImageRegion | None], UInt8]:
    """Returns a function from an encoded image and a region of it, or None, to uint8[size_px, size_px, 3], RGB.

    It raises `QueryError`.

    Args:
        spec: what the encoder takes.
        settings: limits of all images.
        max_pixels: of an image that is searched by (`query.max_image_pixels`); None: those of all images.
    """

    def limited(mime: str) -> ImageSettings:
        allowed = settings.max_pixels
        if max_pixels is not None:
            allowed = min(allowed, int(max_pixels * _JPEG_FACTOR) if mime == "image/jpeg" else max_pixels)
        return settings.model_copy(update={"max_pixels": allowed})

    def decode(data: bytes, region: ImageRegion | None) -> UInt8:
        media = as_media(data)
        try:
            return decode_image(media, spec=spec, settings=limited(media.mime), region=region)
        except BadInputError as exc:
            status = 413 if exc.reason is Reason.TOO_LARGE else 422
            raise QueryError(f"the image cannot be decoded: {exc}", status=status, field="/image") from exc

    return decode


def as_media(data: bytes) -> FetchedMedia:
    """Returns the input of the decoder, with an empty event: a query comes from no topic, nor does a thumbnail."""
    nowhere = Position("", 0, 0)
    event = Event(AssetRef("", "", ""), nowhere, nowhere, 0, Modality.IMAGE, payload=None)
    return FetchedMedia(event, data, sniff(data, declared=None).mime, hashlib.sha256(data).hexdigest(), uri="")
