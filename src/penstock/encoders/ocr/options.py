"""The limits of reading words in images. Imports no model library: decode workers and settings use it too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OcrOptions:
    """The limits of reading.

    Attributes:
        glance_px: longer side of the copy in which the detector looks for any text first.
        min_confidence: mean probability of a line's characters below which it is dropped.
        max_image_s: time for one image; what was read by then is kept.
    """

    glance_px: int = 416
    min_confidence: float = 0.6
    max_image_s: float = 5.0
