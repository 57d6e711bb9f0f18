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


def query_image_decoder(spec: ImageSpec, settings: ImageSettings) -> Callable[[bytes, ImageRegion | None], UInt8]:
    """Returns a function from an encoded image and a region of it, or None, to uint8[size_px, size_px, 3], RGB.

    It raises `QueryError`.
    """

    def decode(data: bytes, region: ImageRegion | None) -> UInt8:
        try:
            return decode_image(_as_media(data), spec=spec, settings=settings, region=region)
        except BadInputError as exc:
            status = 413 if exc.reason is Reason.TOO_LARGE else 422
            raise QueryError(f"the image cannot be decoded: {exc}", status=status, field="/image") from exc

    return decode


def _as_media(data: bytes) -> FetchedMedia:
    """Returns the input of the decoder, with an empty event: a query comes from no topic."""
    nowhere = Position("", 0, 0)
    event = Event(AssetRef("", "", ""), nowhere, nowhere, 0, Modality.IMAGE, payload=None)
    return FetchedMedia(event, data, sniff(data, declared=None).mime, hashlib.sha256(data).hexdigest(), uri="")
