"""Parsing of filters, and what they mean to the double."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import QueryError
from penstock.store.filter_semantics import literal, matches, to_expression
from penstock.store.filters import (
    MAX_COMPARISONS,
    MAX_DEPTH,
    MAX_VALUES,
    Combination,
    Comparison,
    check_addresses,
    parse_filter,
)
from tests.store.builders import asset, entry


def test_an_empty_filter_is_none() -> None:
    assert parse_filter({}) is None


def test_names_of_one_object_and_operators_of_one_name_are_joined_by_and() -> None:
    assert parse_filter({"mime": "image/png", "part": {"gte": 1, "lt": 5}}) == Combination(
        "and",
        (
            Comparison("mime", "eq", "image/png"),
            Combination("and", (Comparison("part", "gte", 1), Comparison("part", "lt", 5))),
        ),
    )


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        ("2026-01-01T00:00:00Z", 1_767_225_600_000),
        ("2026-01-01T01:30:00.123+01:30", 1_767_225_600_123),
        (1_767_225_600_000, 1_767_225_600_000),
        ("1969-12-31T23:59:59.999Z", -1),
    ],
)
def test_times_are_rfc_3339_or_milliseconds(written: object, milliseconds: int) -> None:
    assert parse_filter({"event_time": {"gt": written}}) == Comparison("event_time", "gt", milliseconds)


def test_a_whole_float_is_taken_for_a_whole_number() -> None:
    assert parse_filter({"part": 3.0}) == Comparison("part", "eq", 3)


@pytest.mark.parametrize(
    "condition",
    [
        {"uri": {"gte": "s3://"}},
        {"uri": {"lt": "asset:b"}},
        {"uri": {"ne": "asset:b"}},
        {"uri": "https://files.internal/a.png"},
        {"uri": {"in": ["asset:b", "s3://media/a.png"]}},
        {"not": {"or": [{"mime": "image/png"}, {"uri": {"gt": "http"}}]}},
    ],
)
def test_a_caller_compares_no_addresses_that_readers_do_not_get(condition: dict[str, Any]) -> None:
    parsed = parse_filter(condition)
    assert parsed is not None
    with pytest.raises(QueryError, match="stored media") as caught:
        check_addresses(parsed)
    assert caught.value.field == "/filter"


def test_a_caller_compares_addresses_of_stored_media() -> None:
    for condition in ({"uri": "asset:b"}, {"uri": {"in": ["asset:b", "asset:c"]}}, {"not": {"uri": "asset:b"}}):
        parsed = parse_filter(condition)
        assert parsed is not None
        check_addresses(parsed)


def nested(levels: int) -> dict[str, Any]:
    return {"not": nested(levels - 1)} if levels > 1 else {"part": 1}


WRONG: list[tuple[Any, str, str]] = [
    ({"nope": 1}, "/filter/nope", "title, uri, mime"),
    ({"tenant": "other"}, "/filter/tenant", "unknown field"),
    ({"mime": {"like": "image/%"}}, "/filter/mime/like", "eq, ne, in"),
    ({"mime": 5}, "/filter/mime", "a string"),
    ({"mime": None}, "/filter/mime", "a string"),
    ({"mime": {}}, "/filter/mime", "no operator"),
    ({"mime": ["a"]}, "/filter/mime", "a string"),
    ({"mime": {"in": []}}, "/filter/mime/in", "not empty"),
    ({"mime": {"in": "image/png"}}, "/filter/mime/in", "a list"),
    ({"mime": {"in": ["a", 5]}}, "/filter/mime/in/1", "a string"),
    ({"part": "1"}, "/filter/part", "a whole number"),
    ({"part": 1.5}, "/filter/part", "a whole number"),
    ({"part": True}, "/filter/part", "a whole number"),
    ({"part": 2**63}, "/filter/part", "a whole number"),
    ({"part": float("nan")}, "/filter/part", "a whole number"),
    ({"event_time": "2026-01-01T00:00:00"}, "/filter/event_time", "with its offset"),
    ({"event_time": "yesterday"}, "/filter/event_time", "RFC 3339"),
    ({"attributes.x": None}, "/filter/attributes.x", "a string, a number"),
    ({"attributes.x": {"gt": True}}, "/filter/attributes.x/gt", "no order"),
    ({"attributes.x": float("inf")}, "/filter/attributes.x", "a number"),
    ({"attributes.x": "\ud800"}, "/filter/attributes.x", "a string"),
    ({"attributes.": 1}, "/filter/attributes.", "names no attribute"),
    ({'attributes.a"]': 1}, '/filter/attributes.a"]', "names no attribute"),
    ({"attributes.a\\": 1}, "/filter/attributes.a\\", "names no attribute"),
    ({"title": {"contains": "a"}}, "/filter/title/contains", "never a list"),
    ({"attributes.a": {"contains": ["a"]}}, "/filter/attributes.a/contains", "a string, a number"),
    ({"attributes.a": {"contains_any": "a"}}, "/filter/attributes.a/contains_any", "a list"),
    ({"attributes.a": {"contains_all": []}}, "/filter/attributes.a/contains_all", "not empty"),
    ({"attributes.a": {"lacks": "a"}}, "/filter/attributes.a/lacks", "unknown operator"),
    ({"attributes": 1}, "/filter/attributes", "unknown field"),
    ({"and": []}, "/filter/and", "not empty"),
    ({"or": {"mime": "a"}}, "/filter/or", "a list"),
    ({"or": [{"mime": "a"}, {}]}, "/filter/or/1", "at least one name"),
    ({"not": []}, "/filter/not", "an object"),
    ({"a/b~c": 1}, "/filter/a~1b~0c", "unknown field"),
    (["mime"], "/filter", "an object"),
    (nested(MAX_DEPTH + 1), "/filter" + "/not" * MAX_DEPTH, "deeper"),
    ({"or": [{"part": n} for n in range(MAX_COMPARISONS + 1)]}, "/filter", "comparisons"),
    ({"part": {"in": list(range(MAX_VALUES + 1))}}, "/filter", "values"),
    ({"title": "x" * 5_000}, "/filter/title", "longer"),
]


@pytest.mark.parametrize(("raw", "field", "message"), WRONG, ids=[str(field)[:40] for _, field, _ in WRONG])
def test_an_error_names_the_field_and_the_allowed_values(raw: Any, field: str, message: str) -> None:
    with pytest.raises(QueryError) as refused:
        parse_filter(raw)
    assert refused.value.field == field
    assert refused.value.status == 400
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_filter_of_the_maximum_depth_is_parsed() -> None:
    assert parse_filter(nested(MAX_DEPTH)) is not None


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ('a"b', '"a\\"b"'),
        ("a'b", '"a\'b"'),
        ("a\\", '"a\\\\"'),
        ('\\" or 1 == 1', '"\\\\\\" or 1 == 1"'),
        ("a\nb\r\tc", '"a\\nb\\r\\tc"'),
        ("ü🐢\u2028", '"ü🐢\u2028"'),
        (True, "true"),
        (-5, "-5"),
        (1.5e300, "1.5e+300"),
        (("a", 1), '["a", 1]'),
    ],
)
def test_values_are_escaped(value: Any, written: str) -> None:
    assert literal(value) == written


def test_a_value_cannot_leave_its_string() -> None:
    condition = parse_filter({"title": '" or tenant != "'})
    assert condition is not None
    assert to_expression(condition) == 'title == "\\" or tenant != \\""'


def test_not_is_pushed_down_to_the_comparisons() -> None:
    condition = parse_filter({"not": {"or": [{"attributes.a": 1}, {"not": {"part": {"gt": 2}}}]}})
    assert condition is not None
    assert to_expression(condition) == '(((exists attributes["a"]) and attributes["a"] != 1) and part > 2)'


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"attributes.n": 1}, True),
        ({"attributes.n": 1.0}, True),
        ({"attributes.n": True}, False),
        ({"attributes.t": 1}, False),
        ({"attributes.t": {"ne": 1}}, True),
        ({"attributes.null": {"ne": 1}}, False),
        ({"attributes.list": {"ne": 1}}, True),
        ({"not": {"attributes.s": {"gt": 1}}}, False),
        ({"attributes.s": {"gt": "a"}}, True),
        ({"attributes.d.e": "f"}, True),
        ({"attributes.d.e.f": {"ne": 1}}, False),
        ({"attributes.list": {"contains": 1}}, True),
        ({"attributes.list": {"contains": True}}, False),
        ({"attributes.list": {"contains_any": ["a", 1.0]}}, True),
        ({"attributes.list": {"contains_all": ["a", 1]}}, False),
        ({"attributes.s": {"contains": "b"}}, False),
        ({"not": {"attributes.s": {"contains": "b"}}}, True),
        ({"not": {"attributes.null": {"contains": "b"}}}, False),
    ],
)
def test_attributes_match_by_value_and_type(where: dict[str, Any], expected: bool) -> None:
    stored = '{"n": 1, "t": true, "null": null, "list": [1], "s": "b", "d.e": "f"}'
    condition = parse_filter(where)
    assert condition is not None
    assert matches(condition, entry(asset(), attributes=stored)) is expected
