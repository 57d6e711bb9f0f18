"""Stores vectors in fewer bits: one byte or one bit a dimension, as indexes of the store do.

    fp32             4 bytes a dimension
    int8             1 byte: 256 steps between the least and the largest value of each dimension (as SQ8)
    1 bit            the sign of the difference from the mean (as RaBitQ without its correction)
    1 bit, rescored  the best by bits, in the order of their int8 values: 9 bits a dimension

Questions stay in fp32 throughout: they are not stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from penstock.records import Float32, UInt8

# Entries that are read again after the bits have chosen them: four times the ten that are shown.
RESCORED = 40
FP32, INT8, BIT, BIT_RESCORED = "fp32", "int8", "1 bit", "1 bit, rescored"


@dataclass(frozen=True, slots=True, eq=False)
class Int8Code:
    """Vectors in one byte a dimension.

    Attributes:
        codes: uint8[n, dim].
        least, step: float32[dim], of each dimension.
    """

    codes: UInt8
    least: Float32
    step: Float32

    @classmethod
    def of(cls, vectors: Float32) -> Int8Code:
        """Returns the codes of float32[n, dim]."""
        least, largest = vectors.min(axis=0), vectors.max(axis=0)
        step = np.where(largest > least, (largest - least) / 255, 1).astype(np.float32)
        return cls(np.round((vectors - least) / step).astype(np.uint8), least, step)

    def restored(self) -> Float32:
        """Returns the vectors that the codes stand for: float32[n, dim]."""
        return np.asarray(self.codes * self.step + self.least, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class BitCode:
    """Vectors in one bit a dimension.

    Attributes:
        bits: uint8[n, dim / 8], packed.
        dim: of the vectors.
    """

    bits: UInt8
    dim: int

    @classmethod
    def of(cls, vectors: Float32) -> BitCode:
        """Returns the bits of float32[n, dim]: whether each value is above the mean of its dimension."""
        return cls(np.packbits(vectors > vectors.mean(axis=0), axis=1), vectors.shape[1])

    def restored(self) -> Float32:
        """Returns the signs that the bits stand for: float32[n, dim], 1 or -1."""
        return np.unpackbits(self.bits, axis=1, count=self.dim).astype(np.float32) * 2 - 1


def bytes_per_vector(code: str, dim: int) -> int:
    """Returns the bytes that a code keeps of a vector, without those of an index."""
    bits = {FP32: 32, INT8: 8, BIT: 1, BIT_RESCORED: 9}[code]
    return -(-dim * bits // 8)


def scores_by(code: str, documents: Float32) -> Callable[[Float32], Float32]:
    """Returns a function from queries, float32[q, dim], to their scores of all documents, float32[q, n].

    Args:
        code: one of `CODES`.
        documents: float32[n, dim], L2-normalised.
    """
    return CODES[code](documents)


def _fp32(documents: Float32) -> Callable[[Float32], Float32]:
    return lambda queries: queries @ documents.T


def _int8(documents: Float32) -> Callable[[Float32], Float32]:
    restored = Int8Code.of(documents).restored()
    return lambda queries: queries @ restored.T


def _bit(documents: Float32) -> Callable[[Float32], Float32]:
    signs = BitCode.of(documents).restored()
    return lambda queries: queries @ signs.T


def _bit_rescored(documents: Float32) -> Callable[[Float32], Float32]:
    by_bit, by_int8 = _bit(documents), _int8(documents)

    def scores(queries: Float32) -> Float32:
        coarse = by_bit(queries)
        if coarse.shape[1] <= RESCORED:
            return by_int8(queries)
        chosen = np.argpartition(-coarse, RESCORED, axis=1)[:, :RESCORED]
        rescored = np.full_like(coarse, -np.inf)
        np.put_along_axis(rescored, chosen, np.take_along_axis(by_int8(queries), chosen, axis=1), axis=1)
        return rescored

    return scores


CODES: Mapping[str, Callable[[Float32], Callable[[Float32], Float32]]] = {
    FP32: _fp32,
    INT8: _int8,
    BIT: _bit,
    BIT_RESCORED: _bit_rescored,
}
