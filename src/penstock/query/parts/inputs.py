"""The inputs of the vectors of a query: for an encoder, from the store, or composed of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from penstock.records import Field, Float32, ImageRegion

COMPOSED = "composed"
"""The name that stands for the encoder of vectors with which no calibration and no statistics compare."""


@dataclass(frozen=True, slots=True)
class TextInput:
    """Text to embed.

    Attributes:
        encoder: named as in `EncoderInput.encoder`.
        text: of the question, or a part of it.
        searched: the field that the vector is compared with, for which an adapter may map it; None: as it is encoded.
    """

    encoder: str
    text: str
    searched: Field | None = None


@dataclass(frozen=True, slots=True)
class ImageInput:
    """An encoded image to embed, or a region of it. `encoder` is named as in `EncoderInput.encoder`.

    Attributes:
        pointer: the part of the request that it is, as `QueryError.field`.
    """

    encoder: str
    image: bytes = field(repr=False, hash=False)  # hashing 20 MB takes 10 ms, and one search has two images at most
    region: ImageRegion | None = None
    pointer: str = "/image"


@dataclass(frozen=True, slots=True)
class StoredInput:
    """The vector that the store has of an entry.

    Attributes:
        encoder: the encoder with whose vectors its scores compare; `COMPOSED` if there is none.
        space: the id of its space.
        entry_id: of the entry.
        vector: float32[dim], L2-normalised.
    """

    encoder: str
    space: str
    entry_id: str
    vector: Float32 = field(repr=False, compare=False)


SingleInput: TypeAlias = TextInput | ImageInput | StoredInput


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a composed vector: the normalised mean of its members, times a weight.

    Attributes:
        weight: negative for what is subtracted.
        members: at least one.
    """

    weight: float
    members: tuple[SingleInput, ...]


@dataclass(frozen=True, slots=True)
class ComposedInput:
    """The normalised sum of terms in one space."""

    terms: tuple[Term, ...]

    @property
    def encoder(self) -> str:
        """Returns `COMPOSED`: several encoders may have a share in it."""
        return COMPOSED

    def members(self) -> Iterator[SingleInput]:
        """Yields the members of all terms."""
        return (member for term in self.terms for member in term.members)


EmbeddingInput: TypeAlias = SingleInput | ComposedInput
