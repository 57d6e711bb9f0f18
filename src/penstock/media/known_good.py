"""For each modality the smallest media that every healthy worker takes; they tell poison from broken workers."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from penstock.records import Modality

# Made by `python -m tools.reference_models.known_good`: a few words, and the same beside two pictures.
AUDIO = Path(__file__).with_name("known_good.ogg")
VIDEO = Path(__file__).with_name("known_good.mp4")

_SMALL: Mapping[Modality, bytes] = {
    Modality.TEXT: b"Water is wet.",
    # A PNG of one grey pixel.
    Modality.IMAGE: base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
    ),
}


def sample(modality: Modality) -> bytes:
    """The media of a modality."""
    if modality in _SMALL:
        return _SMALL[modality]
    return (AUDIO if modality is Modality.AUDIO else VIDEO).read_bytes()
