"""The interfaces of encoders, tokenizers and speech models. Imports no torch: decode workers and the store read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from penstock.records import Encoded, EncoderInput, Float32, ImageText, Transcript, UInt8

Runtime: TypeAlias = Literal["torch", "numpy"]
"""Names the library that computes a model."""


@dataclass(frozen=True, slots=True)
class Space:
    """A vector space. Only vectors of one space can be compared; two channels of one space count once in fusion.

    Attributes:
        id: equal for two encoders that share a space.
        dim: length of its vectors.
    """

    id: str
    dim: int


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """The preprocessing that an image encoder expects, in open_clip's terms. The decode workers carry it out.

    Attributes:
        size_px: height and width of the result.
        resize_mode: `shortest` (shorter side to size, then centre crop), `longest` (longer side, then pad), `squash`.
        interpolation: `bicubic` or `bilinear`, with antialiasing as Pillow does.
        fill: grey value 0 to 255 of the padding for `longest`.
        mean, std: per channel, of pixels in 0…1; applied on the encoder's device.
    """

    size_px: int
    resize_mode: Literal["shortest", "longest", "squash"]
    interpolation: Literal["bicubic", "bilinear"]
    fill: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Identifies an encoder. A collection records it, and a start with another encoder is refused.

    Attributes:
        model: the model's name with its pretrained tag.
        weights: hash of its weights, 16 hexadecimal digits.
        preprocessing: hash of what happens before the model (size, interpolation, mean, std, tokens), 16 digits.
    """

    model: str
    weights: str
    preprocessing: str


class Encoder(Protocol):
    """One loaded encoder. Not thread-safe: a worker owns one and calls it from one thread at a time."""

    @property
    def name(self) -> str:
        """Returns the role in the profile: `passage.text`, `joint.text` or `joint.image`."""

    @property
    def space(self) -> Space:
        """Returns the space of its vectors."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Returns what identifies the model and its preprocessing."""

    def encode(self, batch: EncoderInput) -> Encoded:
        """Encodes every item that can be encoded.

        Splits the batch in halves on out-of-memory, and on any other failure until the failing item is alone; that one
        comes back in `failed`. Items whose key was encoded before come from the cache.

        Raises:
            OverloadedError: the device is full even for one item; the batch is worth trying again.
            WorkerBrokenError: the device is gone, or a known-good item fails too: only a new process can help.
        """


class TokenEncoder(Protocol):
    """A sentence encoder that also gives the vectors of a text's tokens, for late interaction."""

    def encode_tokens(self, batch: EncoderInput) -> tuple[Float32 | None, ...]:
        """Returns the token vectors of each text, float32[tokens, dim], L2-normalised, in the order of the text.

        Special tokens and the tokens of a prompt are left out, so that a text without words has no vectors. Texts are
        truncated as for `encode`. None stands for a text on which the encoder fails alone.

        Raises:
            OverloadedError, WorkerBrokenError: as `Encoder.encode`.
        """


class Transcriber(Protocol):
    """One loaded speech model. Not thread-safe: a worker owns one and calls it from one thread at a time."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Returns what identifies the model."""

    @property
    def max_windows(self) -> int:
        """Returns the number of windows that make one batch of the model."""

    @property
    def chunk_s(self) -> float:
        """Returns the seconds that one call for long media should take, unless the settings give another value."""

    def transcribe(self, windows: Sequence[Float32]) -> tuple[Transcript, ...]:
        """Returns the transcript of each window, in order. A window that fails alone has the reason in `failed`.

        Args:
            windows: float32[n] each, 16 kHz mono, at most 30 s.

        Raises:
            OverloadedError, WorkerBrokenError: as `Encoder.encode`.
        """


class ImageToText(Protocol):
    """One loaded model that gives an image's words: those written in it, or a caption.

    Not thread-safe: a worker owns one and calls it from one thread at a time.
    """

    @property
    def fingerprint(self) -> Fingerprint:
        """Returns what identifies the model."""

    @property
    def max_images(self) -> int:
        """Returns the number of images that make one batch of the model."""

    def texts(self, images: Sequence[UInt8]) -> tuple[ImageText, ...]:
        """Returns the words of each image, in order. An image that fails alone has the reason in `failed`.

        Args:
            images: uint8[height, width, 3] each, RGB.

        Raises:
            OverloadedError, WorkerBrokenError: as `Encoder.encode`.
        """


class Tokenizer(Protocol):
    """Counts tokens as the sentence encoder does, without its weights."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Returns the tokens of each text, of any length, without the special ones. No text is truncated."""
