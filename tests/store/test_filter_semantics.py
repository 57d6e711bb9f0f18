"""Compares the double's `matches` with a server's answer to `to_expression`, on random filters and attributes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from penstock.records import Access, Channel, Collection, Field
from penstock.store.base import EntryQuery
from penstock.store.filter_semantics import matches
from penstock.store.filters import parse_filter
from penstock.store.milvus.store import MilvusStore
from tests.store.builders import asset, entry, spec, vector

JOINT = Channel(Collection.IMAGE, Field.JOINT)
# Quotes, escapes, controls, letters of two to four bytes: few, so that values meet.
STRINGS = st.text(st.sampled_from("ab\"'\\\n\r\t\x00\x01%_é語🐢\u2028"), max_size=3)
INTEGERS = st.integers(-3, 3)
NUMBERS = INTEGERS | st.sampled_from([0.5, -1.5, 1e300, 1e-7])
# No path holds both booleans and numbers: the one difference that is known, in Lite.
PATHS: dict[str, st.SearchStrategy[Any]] = {
    "a": STRINGS | NUMBERS,
    "b": st.booleans() | STRINGS,
    "deep.é key/~": NUMBERS | STRINGS,
    "list": st.lists(STRINGS | INTEGERS, max_size=3),
}
SIZES = st.sampled_from([3, 3, 30])  # the longer ones are searched
ORDERED = st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte"])


def comparisons(name: str, values: st.SearchStrategy[Any], operators: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    single = st.builds(lambda operator, value: {name: {operator: value}}, operators, values)
    several = st.builds(
        lambda chosen: {name: {"in": chosen}}, SIZES.flatmap(lambda size: st.lists(values, min_size=1, max_size=size))
    )
    return single | several


def lists(name: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    single = st.builds(lambda value: {name: {"contains": value}}, values)
    operators = st.sampled_from(["contains_any", "contains_all"])
    several = st.builds(
        lambda operator, chosen: {name: {operator: chosen}}, operators, st.lists(values, min_size=1, max_size=3)
    )
    return single | several


LEAVES = st.one_of(
    comparisons("title", STRINGS, ORDERED),
    comparisons("start_ms", INTEGERS, ORDERED),
    comparisons("attributes.a", PATHS["a"], ORDERED),
    comparisons("attributes.b", PATHS["b"], st.sampled_from(["eq", "ne"])),
    comparisons("attributes.deep.é key/~", PATHS["deep.é key/~"], ORDERED),
    lists("attributes.list", STRINGS | INTEGERS),
    comparisons("attributes.list", STRINGS | INTEGERS, st.just("ne")),
    lists("attributes.a", STRINGS),
    comparisons("attributes.missing", STRINGS, ORDERED),
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda inside: {"not": inside}, inner),
        st.builds(lambda inside: {"and": inside}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda inside: {"or": inside}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=5,
)


@st.composite
def attributes(draw: st.DrawFn) -> str:
    drawn: dict[str, Any] = {}
    for path, values in PATHS.items():
        if draw(st.booleans()):
            drawn[path] = draw(values)
    return json.dumps(drawn)


ROWS = st.lists(st.tuples(STRINGS, INTEGERS, attributes()), min_size=12, max_size=12)


@pytest.mark.services
@pytest.mark.slow_on_standalone
def test_the_double_matches_the_entries_that_the_server_returns(
    connect: Callable[[], MilvusStore], tenant: str
) -> None:
    store = connect()
    store.ensure(spec())

    @settings(
        max_examples=20,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    @given(drawn=ROWS, wheres=st.lists(FILTERS, min_size=4, max_size=4))
    def agree(drawn: list[tuple[str, int, str]], wheres: list[dict[str, Any]]) -> None:
        entries = [
            entry(asset(tenant, str(n)), title=title, start_ms=start, attributes=text)
            for n, (title, start, text) in enumerate(drawn)
        ]
        store.upsert(Collection.IMAGE, entries)
        for raw in wheres:
            where = parse_filter(raw)
            assert where is not None
            expected = {stored.asset.key for stored in entries if matches(where, stored)}
            hits = store.search(EntryQuery(JOINT, vector(1), Access.to_all_of(tenant), where, limit=20, timeout_s=20))
            assert {hit.entry.asset.key for hit in hits} == expected, raw

    agree()
