"""Searches many values of an attribute, evaluated as Milvus Lite evaluates them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pyarrow  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from milvus_lite.schema.types import CollectionSchema, DataType, FieldSchema
from milvus_lite.search.filter.eval import python_backend
from milvus_lite.search.filter.parser import parse_expr
from milvus_lite.search.filter.semantic import compile_expr

from penstock.store.filter_semantics import literal, matches, to_expression
from penstock.store.filters import Comparison, Filter, parse_filter
from penstock.store.value_search import search_expression
from tests.store.builders import asset, entry

SCHEMA = CollectionSchema(
    fields=[
        FieldSchema(name="id", dtype=DataType.VARCHAR, is_primary=True),
        FieldSchema(name="attributes", dtype=DataType.JSON),
    ]
)
STRINGS = st.text(st.sampled_from('ab"\\\n%_é語🐢'), max_size=3)
NUMBERS = st.integers(-30, 30) | st.sampled_from([0.5, -1.5, 1e300])
VALUES = st.lists(STRINGS | NUMBERS, min_size=1, max_size=60) | st.lists(STRINGS, min_size=12, max_size=60)
ATTRIBUTES = st.fixed_dictionaries({}, optional={"a": STRINGS | NUMBERS | st.lists(NUMBERS | STRINGS, max_size=2)})


def evaluated(expression: str, attributes: list[dict[str, Any]]) -> list[bool]:
    """Returns what Lite answers for rows of these attributes."""
    rows = [{"id": str(number), "attributes": json.dumps(held)} for number, held in enumerate(attributes)]
    compiled = compile_expr(parse_expr(expression), SCHEMA, expression)
    matched: list[bool] = python_backend.evaluate_python(compiled, pyarrow.Table.from_pylist(rows)).to_pylist()
    return matched


@given(values=VALUES, attributes=st.lists(ATTRIBUTES, min_size=1, max_size=20), negated=st.booleans())
def test_a_search_finds_what_comparisons_find(
    values: list[Any], attributes: list[dict[str, Any]], *, negated: bool
) -> None:
    raw: dict[str, Any] = {"attributes.a": {"in": values}}
    where = parse_filter({"not": raw} if negated else raw)
    assert where is not None
    entries = [entry(asset("default", "k"), attributes=json.dumps(held)) for held in attributes]
    expected = [matches(where, stored) for stored in entries]
    assert evaluated(to_expression(where, search_lists=True), attributes) == expected


def test_the_number_of_comparisons_hardly_rises_with_that_of_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reads the JSON of the row."""
    counted = [0]

    def loads(text: str) -> Any:
        counted[0] += 1
        return json.loads(text)

    monkeypatch.setattr(python_backend, "json", SimpleNamespace(loads=loads, JSONDecodeError=json.JSONDecodeError))
    attributes: list[dict[str, Any]] = [{"a": f"v{number:04}"} for number in range(0, 2_000, 7)]
    attributes += [{"b": 1}, {"a": 5}, {"a": ["v1"]}] * 50
    counts = {}
    for size in (10, 1_000):
        where: Filter = Comparison("attributes.a", "in", tuple(f"v{number:04}" for number in range(size)))
        counted[0] = 0
        evaluated(to_expression(where, search_lists=True), attributes)
        counts[size] = counted[0]
    assert counts[1_000] < 2 * counts[10]


def test_values_of_several_types_are_searched_apart() -> None:
    written = search_expression("c", ["b", 2, True, "a", 1], literal)
    strings, numbers = '(c like "%" and (c == "a" or c == "b"))', '(not (c like "%") and (c == 1 or c == 2))'
    assert written == f"((exists c) and (c == true or {strings} or {numbers}))"
