"""The models, as data, that read and describe images and encode sounds. A profile has each of them or not."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.encoders.base import Space
from penstock.encoders.weights import Source

OCR = "ocr"
CAPTION = "caption"
IMAGE_TEXT_ROLES = (OCR, CAPTION)  # the models that give an image's words
SOUND_AUDIO = "sound.audio"
SOUND_TEXT = "sound.text"


@dataclass(frozen=True, slots=True)
class OcrSpec:
    """A detector and a recogniser of PP-OCR in ONNX format, which read the words in images.

    Attributes:
        name: of both together.
        detector, recogniser: sources of the two files.
    """

    name: str
    detector: Source
    recogniser: Source


@dataclass(frozen=True, slots=True)
class CaptionSpec:
    """An image-to-text model of transformers, such as BLIP, which describes an image in a sentence.

    Attributes:
        name: `organisation/name`.
        source: of the weights.
        max_tokens: of a caption.
    """

    name: str
    source: Source
    max_tokens: int


@dataclass(frozen=True, slots=True)
class SoundSpec:
    """A CLAP of transformers, which brings sounds and texts into one space.

    Attributes:
        name: `organisation/name`.
        source: of the weights.
        space: of its vectors.
        slug: short name for physical collections.
        window_ms, hop_ms: length of the windows that audio is cut into, and the distance of their starts, milliseconds.
    """

    name: str
    source: Source
    space: Space
    slug: str
    window_ms: int
    hop_ms: int
