"""A picture to search by, brought to the encoder's size as the ingest plane does it with those that are indexed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from penstock.config import ImageSettings
from penstock.encoders.base import ImageSpec
from penstock.errors import BadInputError, QueryError, Reason
from penstock.media.image import decode_image
from penstock.media.sniff import sniff
from penstock.records import AssetRef, Event, FetchedMedia, Modality, Position, UInt8


def query_image_decoder(spec: ImageSpec, settings: ImageSettings) -> Callable[[bytes], UInt8]:
    """A function from the bytes of a picture to uint8[size_px, size_px, 3], RGB; it raises `QueryError`."""

    def decode(data: bytes) -> UInt8:
        try:
            return decode_image(_fetched(data), spec=spec, settings=settings)
        except BadInputError as exc:
            status = 413 if exc.reason is Reason.TOO_LARGE else 422
            raise QueryError(f"the picture cannot be searched by: {exc}", status=status, field="/image") from exc

    return decode


def _fetched(data: bytes) -> FetchedMedia:
    """The form that the decoder takes. The event is a blank: a question comes from no topic."""
    nowhere = Position("", 0, 0)
    event = Event(AssetRef("", "", ""), nowhere, nowhere, 0, Modality.IMAGE, payload=None)
    return FetchedMedia(event, data, sniff(data, declared=None).mime, hashlib.sha256(data).hexdigest(), uri="")
