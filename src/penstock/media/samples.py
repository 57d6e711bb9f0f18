"""For each modality the smallest media that every healthy worker takes; they tell poison from broken workers."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from penstock.records import Modality

SAMPLES: Mapping[Modality, bytes] = {
    Modality.TEXT: b"Water is wet.",
    # A PNG of one grey pixel.
    Modality.IMAGE: base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
    ),
}
