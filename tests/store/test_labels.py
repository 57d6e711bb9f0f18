"""Labels of entries in every read of a store for a caller: the double, Milvus Lite and real servers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.records import Access, Channel, Collection, Entry, Field, sorted_labels
from penstock.store.access import access_expression, acl_text, allows, parse_acl
from penstock.store.base import EntryQuery, Store
from penstock.store.filters import parse_filter
from tests.store.builders import asset, asset_row, entry, vector

JOINT = Channel(Collection.IMAGE, Field.JOINT)
PASSAGE = Channel(Collection.TEXT, Field.PASSAGE)
LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)
LONGEST = "g:" + "x" * 126
ACLS: dict[str, tuple[str, ...]] = {
    "all": ("tenant",),
    "group": ("group:a_b",),
    "alike": ("group:aXb",),  # which LIKE takes `group:a_b` for
    "part": ("group:a",),
    "both": ("group:a_b", "user:a@b.example/1"),
    "longest": (LONGEST,),
    "most": sorted_labels(f"l{number:02}" for number in range(64)),
    "nobody": (),
}
CALLERS: dict[str, frozenset[str] | None] = {
    "operator": None,
    "no label": frozenset(),
    "tenant": frozenset({"tenant"}),
    "group": frozenset({"group:a_b"}),
    "part": frozenset({"group:a"}),
    "two": frozenset({"user:a@b.example/1", "tenant"}),
    "longest": frozenset({LONGEST}),
    "last": frozenset({"l63"}),
    "a wildcard": frozenset({"%", "group:%", "_", "group:a%b"}),
    "quotes": frozenset({'tenant"', '" or tenant != "', "tenant|group:a", "|"}),
    "many": frozenset(f"g{number}" for number in range(300)) | {"group:aXb"},
}


@pytest.fixture(scope="module")
def labelled(store: Store) -> list[Entry]:
    """An entry of each list of labels in each collection, and one of another tenant for each label."""
    stored = [
        replace(entry(asset("labels", key), collection=collection, text=f"heron {key}"), acl=acl)
        for collection in (Collection.IMAGE, Collection.TEXT)
        for key, acl in ACLS.items()
    ]
    others = [replace(entry(asset("labels-other", key)), acl=acl) for key, acl in ACLS.items()]
    for collection in (Collection.IMAGE, Collection.TEXT):
        store.upsert(
            collection,
            [labelled_entry for labelled_entry in (*stored, *others) if labelled_entry.collection is collection],
        )
    return stored


@pytest.mark.parametrize("caller", CALLERS)
def test_no_read_returns_an_entry_without_a_label_of_the_caller(
    store: Store, labelled: list[Entry], caller: str
) -> None:
    access = Access("labels", CALLERS[caller])
    allowed = {stored.id for stored in labelled if allows(access, stored)}
    images = {stored.id for stored in labelled if stored.collection is Collection.IMAGE}
    channels = {JOINT: vector(1), PASSAGE: vector(1), LEXICAL: "heron"}
    for channel in store.channels().intersection(channels):
        hits = store.search(EntryQuery(channel, channels[channel], access, None, 50, timeout_s=20))
        of_channel = images if channel == JOINT else {stored.id for stored in labelled} - images
        assert {hit.entry.id for hit in hits} == allowed & of_channel, channel
        where = parse_filter({"key": "all"})
        filtered = store.search(EntryQuery(channel, channels[channel], access, where, 50, timeout_s=20))
        assert {hit.entry.asset.key for hit in filtered} == ({"all"} if allows(access, labelled[0]) else set())
    ids = [stored.id for stored in labelled]
    entries = store.entries(ids, access=access, timeout_s=20)
    assert entries == {
        labelled_entry.id: replace(labelled_entry, vectors={})
        for labelled_entry in labelled
        if labelled_entry.id in allowed
    }
    assert store.vectors(JOINT, ids, access=access, timeout_s=20).keys() == allowed & images
    texts = store.texts(Collection.TEXT, access=access, after="", limit=50, timeout_s=20)
    assert {text.id for text in texts} == allowed - images
    everything = parse_filter({"part": {"gte": 0}})
    assert everything is not None
    selected = store.select(Collection.IMAGE, everything, access=access, limit=50, timeout_s=20)
    assert {labelled_entry.id for labelled_entry in selected} == allowed & images
    assert store.assets_in(Collection.IMAGE, access) == len(allowed & images)


def test_labels_come_back_as_they_were_written(store: Store, labelled: list[Entry]) -> None:
    stored = store.get(Collection.IMAGE, [labelled_entry.id for labelled_entry in labelled])
    assert {labelled_entry.asset.key: labelled_entry.acl for labelled_entry in stored} == ACLS


def test_an_entry_that_is_written_again_has_its_new_labels_alone(store: Store, tenant: str) -> None:
    first = replace(entry(asset(tenant)), acl=("group:a", "tenant"))
    store.upsert(Collection.IMAGE, [first])
    store.upsert(Collection.IMAGE, [replace(first, acl=("group:b",))])
    for label, is_readable in (("tenant", False), ("group:a", False), ("group:b", True)):
        access = Access(tenant, frozenset({label}))
        assert bool(store.entries([first.id], access=access, timeout_s=20)) is is_readable


@pytest.mark.parametrize("acl", [(), ("group:a_b", "tenant")])
def test_asset_rows_keep_labels_and_the_hash_of_the_content(store: Store, tenant: str, acl: tuple[str, ...]) -> None:
    row = replace(asset_row(asset(tenant)), acl=acl, content_hash="00ff")
    store.put_asset_rows([row])
    assert store.asset_rows([row.asset.id]) == {row.asset.id: row}


_LABELS = st.lists(st.from_regex(r"[A-Za-z0-9._:@/-]{1,6}", fullmatch=True), max_size=6).map(sorted_labels)


@given(acl=_LABELS)
def test_text_of_labels_is_read_back(acl: tuple[str, ...]) -> None:
    assert parse_acl(acl_text(acl)) == acl == parse_acl(list(acl))


def _like(text: str, pattern: str) -> bool:
    """Milvus's LIKE for patterns that begin and end with `%`; fails for one with another wildcard."""
    inner = pattern.removeprefix("%").removesuffix("%")
    assert "%" not in inner
    assert "_" not in inner
    return inner in text


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(acl=_LABELS, labels=st.frozensets(st.one_of(st.text(max_size=4), st.sampled_from(["a", "a_", "_", "%"]))))
def test_the_expression_for_text_agrees_with_the_meaning(acl: tuple[str, ...], labels: frozenset[str]) -> None:
    access = Access("t", labels)
    expression = access_expression(access, arrays=False)
    patterns = [part.split('"')[1] for part in expression.split(" like ")[1:]]
    assert any(_like(acl_text(acl), pattern) for pattern in patterns) == access.allows(acl)
