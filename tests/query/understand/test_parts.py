"""Tests the parts of a request, and their weights."""

from __future__ import annotations

import math

import pytest

from penstock.config import QuerySettings
from penstock.errors import QueryError
from penstock.query.parts.base import PartsRequest, QueryPart, QueryParts
from penstock.query.types import Query, SearchRequest
from penstock.query.understand.parts import MAX_ENTRIES, MAX_NOT_TEXTS
from penstock.query.understand.validate import validate
from penstock.records import ImageRegion

X, Y = "x" * 32, "y" * 32


def checked(text: str | None = None, image: bytes | None = None, audio: bytes | None = None, **parts: object) -> Query:
    request = SearchRequest(text=text, image=image, audio=audio, parts=PartsRequest(**parts))  # type: ignore[arg-type]
    return validate(request, QuerySettings())


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"like": []}, "/like"),
        ({"like": [str(n) for n in range(MAX_ENTRIES + 1)]}, "/like"),
        ({"not_texts": ["a"]}, "/not"),
        ({"not_like": [X]}, "/not"),
        ({"text": "a", "not_texts": []}, "/not/text"),
        ({"text": "a", "not_texts": ["b", " "]}, "/not/text/1"),
        ({"text": "a", "not_texts": ["b"] * (MAX_NOT_TEXTS + 1)}, "/not/text"),
        ({"text": "a", "not_like": []}, "/not/like"),
        ({"like": [X], "not_like": [Y, X]}, "/not/like/1"),
        ({"frame": " "}, "/frame/id"),
        ({"text": "a", "region": ImageRegion(0, 0, 1, 1)}, "/region"),
        ({"image": b"i", "frame": X, "region": ImageRegion(0, 0, 1, 1)}, "/region"),
        ({"image": b"i", "region": ImageRegion(-0.1, 0, 1, 1)}, "/region/x"),
        ({"image": b"i", "region": ImageRegion(0, 1, 0.5, 0.5)}, "/region/y"),
        ({"image": b"i", "region": ImageRegion(0, 0, 0, 1)}, "/region/w"),
        ({"image": b"i", "region": ImageRegion(0, 0, 1, 1.5)}, "/region/h"),
        ({"image": b"i", "region": ImageRegion(0.6, 0, 0.5, 1)}, "/region/w"),
        ({"image": b"i", "region": ImageRegion(math.nan, 0, 0.5, 1)}, "/region/x"),
        ({"image": b"i", "region": ImageRegion(0, 0, math.nan, 1)}, "/region/w"),
        ({"text": "a", "compose": {"smell": 1}}, "/compose"),
        ({"text": "a", "compose": {"image": 1}}, "/compose/image"),
        ({"text": "a", "compose": {"audio": 1}}, "/compose/audio"),
        ({"audio": b"a", "compose": {"text": 1}}, "/compose/text"),
        ({"text": "a", "audio": b"a", "compose": {"text": 1, "audio": 1}}, "/compose/audio"),
        ({"text": "a", "compose": {"text": -1}}, "/compose/text"),
        ({"text": "a", "compose": {"text": math.inf}}, "/compose/text"),
        ({"text": "a", "compose": {"text": math.nan}}, "/compose/text"),
        ({"text": "a", "image": b"i", "compose": {"text": 0, "image": 0}}, "/compose"),
        ({"text": "a", "not_texts": ["b"], "compose": {"text": 0}}, "/compose"),
    ],
)
def test_an_invalid_part_is_rejected_and_its_field_is_named(parts: dict[str, object], field: str) -> None:
    with pytest.raises(QueryError) as caught:
        checked(**parts)  # type: ignore[arg-type]
    assert (caught.value.status, caught.value.field) == (400, field)


def test_parts_are_kept_without_repetitions() -> None:
    query = checked("a", like=[Y, X, Y], not_texts=["b  c", "b c"], compose={"like": 2, "text": 0.5})
    assert query.parts == QueryParts(
        like=(Y, X), not_texts=("b c",), weights={QueryPart.LIKE: 2, QueryPart.TEXT: 0.5}, demanded=True
    )
    assert (query.parts.entry_ids, query.parts.excluded) == ((Y, X), {X, Y})


def test_a_part_of_weight_0_is_left_out() -> None:
    query = checked("a", b"i", like=[X], not_like=[Y], region=ImageRegion(0, 0, 0.5, 1), compose={"image": 0, "not": 0})
    assert (query.text, query.image) == ("a", None)
    assert query.parts == QueryParts(like=(X,), demanded=True)
    spoken = checked(None, b"i", b"audio", compose={"audio": 0})
    assert (spoken.audio, spoken.image) == (None, b"i")


def test_the_whole_image_is_no_region() -> None:
    assert checked(image=b"i", region=ImageRegion(0, 0, 1, 1)).parts.region is None
    assert checked(image=b"i", region=ImageRegion(0.1, 0, 0.9, 1)).parts.region == ImageRegion(0.1, 0, 0.9, 1)
    checked(image=b"i", region=ImageRegion(0.7, 0, 0.1 + 0.2, 1))  # above 1 by rounding
