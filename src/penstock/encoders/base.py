"""What an encoder is, and what a profile says of it. No torch here: decode workers and the store read this too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from penstock.records import Encoded, EncoderInput, Float32


@dataclass(frozen=True, slots=True)
class Space:
    """A vector space. Vectors are comparable only within one; two channels of one space count once in fusion.

    Attributes:
        id: the same for two encoders that share a space.
        dim: length of its vectors.
    """

    id: str
    dim: int


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """How a picture is brought to an encoder's size, as open_clip names it: what the decode pool has to do.

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
    """What a collection records of the encoder that filled it; another one is refused at start.

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
        """`passage.text`, `joint.text` or `joint.image`: the role in the profile."""

    @property
    def space(self) -> Space: ...

    @property
    def fingerprint(self) -> Fingerprint: ...

    def encode(self, batch: EncoderInput) -> Encoded:
        """Vectors for every item that can be encoded.

        Splits the batch in halves on out-of-memory, and on any other failure until the failing item is alone; that one
        comes back in `failed`. Items whose key was encoded before come from the cache.

        Raises:
            OverloadedError: the device is full even for one item; the batch is worth trying again.
            WorkerBrokenError: the device is gone, or a known-good item fails too: only a new process can help.
        """


class Tokenizer(Protocol):
    """Counts as the sentence encoder does, without its weights."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without the special ones. At any length: nothing is cut off."""


def query_vector(encoded: Encoded) -> Float32:
    """float32[dim] of an input with one item. Raises ValueError if it failed."""
    if encoded.failed:
        raise ValueError(encoded.failed[0][1])
    vector: Float32 = encoded.vectors[0]
    return vector
