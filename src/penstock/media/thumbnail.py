"""Makes small JPEGs of images, to be shown."""

from __future__ import annotations

import io

from PIL import Image

from penstock.config import ImageSettings
from penstock.media.image import decode_reduced_image
from penstock.records import FetchedMedia

_JPEG_QUALITY = 80
# Decoders of other types than JPEG hold all pixels, three bytes each, whatever the size of the result.
_MAX_PIXELS = 64_000_000


def jpeg_thumbnail(image: Image.Image, longest_px: int, *, quality: int = _JPEG_QUALITY) -> bytes:
    """Returns a JPEG of an RGB image, its longer side at most `longest_px`."""
    small = image.copy()
    small.thumbnail((longest_px, longest_px))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=quality)
    return out.getvalue()


def encoded_thumbnail(
    fetched: FetchedMedia, *, settings: ImageSettings, longest_px: int, quality: int = _JPEG_QUALITY
) -> bytes:
    """Returns a JPEG of an encoded image, its longer side at most `longest_px`; a smaller image keeps its size.

    Raises:
        BadInputError: it cannot be decoded, or has too many pixels for its type.
    """
    if fetched.mime != "image/jpeg":
        settings = settings.model_copy(update={"max_pixels": min(settings.max_pixels, _MAX_PIXELS)})
    pixels = decode_reduced_image(fetched, settings=settings, longest_px=longest_px)
    return jpeg_thumbnail(Image.fromarray(pixels), longest_px, quality=quality)
