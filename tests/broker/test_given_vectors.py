"""Tests the vectors that come with events: on the wire, and what of them is refused."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from penstock.broker.given_vectors import MAX_DIM, given_vector, parse_vectors, vectors_json
from penstock.broker.wire import encode_event, parse_record
from penstock.config import MIB
from penstock.errors import BadInputError, UsageError
from penstock.records import Event, GivenVector, Inline, Modality, Position, Record

ENCODER = "clip/0123/4567"


def test_a_vector_comes_back_as_it_was_sent() -> None:
    vector = given_vector(ENCODER, [0.25, -1.0, 3.0])
    assert vector == GivenVector(ENCODER, np.array([0.25, -1.0, 3.0], "<f4").tobytes())
    assert parse_vectors(vectors_json([vector])) == (vector,)


@pytest.mark.parametrize("structured", [False, True])
def test_an_event_carries_its_vectors(structured: bool) -> None:
    vector = given_vector(ENCODER, [1.0, 2.0])
    sent = encode_event(
        topic="media.text", key="k", payload=Inline(b"x"), source="test", vectors=(vector,), structured=structured
    )
    record = Record(Position("media.text", 0, 0), sent.key, sent.value, sent.headers, 0)
    parsed = parse_record(record, modality=Modality.TEXT, default_tenant="t", max_inline_bytes=MIB)
    assert isinstance(parsed, Event)
    assert parsed.vectors == (vector,)


@pytest.mark.parametrize("values", [[], ["a"], [float("nan")], [1e39], [10**400], [[1.0]], [1.0] * (MAX_DIM + 1), None])
def test_what_is_no_vector_is_not_sent(values: list[float]) -> None:
    with pytest.raises(UsageError, match="vector"):
        given_vector(ENCODER, values)


@pytest.mark.parametrize(
    "data",
    [7, "no base64!", "", base64.b64encode(b"abc").decode(), base64.b64encode(np.float32([np.inf]).tobytes()).decode()],
)
def test_a_vector_that_cannot_be_read_is_malformed(data: object) -> None:
    with pytest.raises(BadInputError, match="vector"):
        parse_vectors(json.dumps({ENCODER: data}))


def test_an_event_has_few_vectors() -> None:
    with pytest.raises(BadInputError, match="at most"):
        parse_vectors(json.dumps({str(number): "AAAA" for number in range(5)}))
