"""Properties of sums and differences of vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from penstock.errors import QueryError
from penstock.query.parts.vectors import compose_vectors
from penstock.records import Float32
from tests.query.parts.catalog import unit

finite = st.floats(-1, 1, width=32)
vectors = arrays(np.float32, 6, elements=finite).filter(lambda v: bool(np.linalg.norm(v) > 0.1)).map(unit)
weights = st.floats(0.01, 100)


@given(vectors, weights, weights)
def test_a_vector_added_to_itself_is_itself(vector: Float32, first: float, second: float) -> None:
    composed = compose_vectors([(first, [vector]), (second, [vector, vector])])
    np.testing.assert_allclose(composed, vector, atol=1e-6)


@given(st.lists(st.tuples(weights, vectors), min_size=1, max_size=4), weights)
def test_the_result_is_normalised_and_weights_count_in_proportion(
    terms: list[tuple[float, Float32]], factor: float
) -> None:
    try:
        composed = compose_vectors([(weight, [vector]) for weight, vector in terms])
    except QueryError:
        return
    assert composed.dtype == np.float32
    assert np.linalg.norm(composed) == pytest.approx(1, abs=1e-5)
    scaled = compose_vectors([(factor * weight, [vector]) for weight, vector in terms])
    np.testing.assert_allclose(scaled, composed, atol=1e-5)


@given(vectors, vectors, st.floats(0.05, 1))
def test_what_is_subtracted_becomes_less_like_the_result(liked: Float32, avoided: Float32, weight: float) -> None:
    try:
        composed = compose_vectors([(1.0, [liked]), (-weight, [avoided])])
    except QueryError:
        assert liked @ avoided > 0.99
        return
    assert composed @ avoided <= liked @ avoided + 1e-5


def test_parts_that_cancel_out_are_an_error() -> None:
    vector = unit(np.arange(1, 5, dtype=np.float32))
    with pytest.raises(QueryError, match="cancel out") as caught:
        compose_vectors([(0.5, [vector]), (-0.5, [vector])])
    assert (caught.value.status, caught.value.field) == (400, "/not")
