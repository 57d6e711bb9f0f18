"""Tests of fewer bits: what is kept of a vector, and in how many bytes."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.train.compression.codes import (
    BIT,
    BIT_RESCORED,
    CODES,
    FP32,
    INT8,
    RESCORED,
    BitCode,
    Int8Code,
    bytes_per_vector,
    scores_by,
)
from penstock.train.compression.reductions import normalised

RNG = np.random.default_rng(0)
DOCUMENTS = normalised(RNG.normal(size=(300, 40)).astype(np.float32))
QUERIES = normalised(DOCUMENTS[:20] + 0.1 * RNG.normal(size=(20, 40)).astype(np.float32))


def test_one_byte_keeps_each_value_within_half_a_step() -> None:
    code = Int8Code.of(DOCUMENTS)
    assert code.codes.dtype == np.uint8
    assert (np.abs(code.restored() - DOCUMENTS) <= code.step / 2 + 1e-6).all()


def test_a_constant_dimension_is_restored_as_it_is() -> None:
    constant = np.full((3, 2), 0.5, dtype=np.float32)
    np.testing.assert_array_equal(Int8Code.of(constant).restored(), constant)


def test_one_bit_keeps_the_side_of_the_mean() -> None:
    code = BitCode.of(DOCUMENTS)
    assert code.bits.nbytes == len(DOCUMENTS) * 5
    np.testing.assert_array_equal(code.restored() > 0, DOCUMENTS.mean(axis=0) < DOCUMENTS)


def test_bytes_of_a_vector_follow_its_bits() -> None:
    assert {code: bytes_per_vector(code, 384) for code in CODES} == {FP32: 1536, INT8: 384, BIT: 48, BIT_RESCORED: 432}
    assert bytes_per_vector(BIT, 12) == 2


def test_fewer_bits_find_less_and_rescoring_finds_it_again() -> None:
    best = np.argmax(QUERIES @ DOCUMENTS.T, axis=1)
    recalled = {}
    for code in CODES:
        places = np.argsort(-scores_by(code, DOCUMENTS)(QUERIES), axis=1)[:, :10]
        exact = np.argsort(-(QUERIES @ DOCUMENTS.T), axis=1)[:, :10]
        recalled[code] = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(places, exact, strict=True)])
        assert (places[:, 0] == best).mean() > 0.9, code
    assert recalled[FP32] == 1.0
    assert recalled[INT8] > 0.95
    assert recalled[BIT] < recalled[BIT_RESCORED] <= recalled[INT8]


@pytest.mark.parametrize("count", [5, RESCORED])
def test_where_all_are_rescored_the_scores_are_those_of_int8(count: int) -> None:
    few = DOCUMENTS[:count]
    np.testing.assert_array_equal(scores_by(BIT_RESCORED, few)(QUERIES), scores_by(INT8, few)(QUERIES))
