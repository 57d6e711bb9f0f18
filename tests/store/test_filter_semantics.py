"""The double's `matches` and a server's answer to `to_expression` agree, on filters and attributes made at random."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from penstock.records import Channel, Collection, Field
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
}
ORDERED = st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte"])


def comparisons(name: str, values: st.SearchStrategy[Any], operators: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    single = st.builds(lambda operator, value: {name: {operator: value}}, operators, values)
    several = st.builds(lambda chosen: {name: {"in": chosen}}, st.lists(values, min_size=1, max_size=3))
    return single | several


LEAVES = st.one_of(
    comparisons("title", STRINGS, ORDERED),
    comparisons("start_ms", INTEGERS, ORDERED),
    comparisons("attributes.a", PATHS["a"], ORDERED),
    comparisons("attributes.b", PATHS["b"], st.sampled_from(["eq", "ne"])),
    comparisons("attributes.deep.é key/~", PATHS["deep.é key/~"], ORDERED),
    comparisons("attributes.missing", STRINGS, ORDERED),
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda each: {"not": each}, inner),
        st.builds(lambda each: {"and": each}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda each: {"or": each}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=5,
)


@st.composite
def attributes(draw: st.DrawFn) -> str:
    found: dict[str, Any] = {}
    for path, values in PATHS.items():
        if draw(st.booleans()):
            at = found
            *outer, last = path.split(".")
            for each in outer:
                at = at.setdefault(each, {})
            at[last] = draw(values)
    return json.dumps(found)


ROWS = st.lists(st.tuples(STRINGS, INTEGERS, attributes()), min_size=12, max_size=12)


@pytest.mark.services
def test_the_double_matches_what_the_server_finds(connect: Callable[[], MilvusStore], tenant: str) -> None:
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
            expected = {each.asset.key for each in entries if matches(where, each)}
            found = store.search(JOINT, vector(1), tenant=tenant, where=where, limit=20, timeout_s=20)
            assert {each.entry.asset.key for each in found} == expected, raw

    agree()
