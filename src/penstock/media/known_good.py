"""The smallest media of each modality that every healthy worker accepts.

They show whether a worker, rather than an event, is at fault.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from penstock.records import Modality

# Written by `python -m tools.reference_models.known_good`: a few words, and the same beside two images.
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
    """Returns the media of a modality."""
    if modality in _SMALL:
        return _SMALL[modality]
    return (AUDIO if modality is Modality.AUDIO else VIDEO).read_bytes()
