"""Tests that every store passes: the double, Milvus Lite's server and a real Milvus with two shards."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from penstock.errors import PermanentError
from penstock.records import (
    Access,
    AssetRef,
    Channel,
    Checkpoint,
    Collection,
    Entry,
    Field,
    MediaPosition,
    Outcome,
    ScoredEntry,
    Version,
)
from penstock.store.base import AssetState, EntryKey, EntryQuery, EntryText, Store
from penstock.store.filters import parse_filter
from tests.store.builders import asset, asset_row, entry, spec, vector
from tests.store.scans import all_asset_rows

JOINT = Channel(Collection.IMAGE, Field.JOINT)
PASSAGE = Channel(Collection.TEXT, Field.PASSAGE)
LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)


def search(store: Store, tenant: str, *, where: dict[str, object] | None = None, limit: int = 10) -> list[ScoredEntry]:
    condition = parse_filter(where) if where else None
    return list(store.search(EntryQuery(JOINT, vector(1), Access.to_all_of(tenant), condition, limit, timeout_s=20)))


def scalars(stored: Entry) -> Entry:
    return replace(stored, vectors={})


def test_an_entry_comes_back_as_it_was_written(store: Store, tenant: str) -> None:
    written = entry(
        asset(tenant, key='a "quoted"\\key\n'),
        part=0,
        title="A title — ünïcödé 🐢",
        text="words",
        attributes='{"camera": "x100", "nested": {"deep": [1, 2]}, "ratio": 1.5, "ok": true}',
        joint=vector(1, 2, 3),
    )
    store.upsert(Collection.IMAGE, [written])
    (stored,) = store.get(Collection.IMAGE, [written.id])
    assert scalars(stored) == replace(scalars(written), attributes_json=stored.attributes_json)
    assert json.loads(stored.attributes_json) == json.loads(written.attributes_json)
    np.testing.assert_allclose(stored.vectors[Field.JOINT], written.vectors[Field.JOINT], atol=1e-6)


def test_an_audible_collection_that_does_not_exist_is_an_empty_one(store: Store, tenant: str) -> None:
    assert Channel(Collection.SOUND, Field.JOINT) not in store.channels()
    assert store.count(Collection.SOUND) == 0
    assert store.entry_ids(Collection.SOUND, [asset(tenant).id]) == {}
    assert list(store.get(Collection.SOUND, [entry(asset(tenant)).id])) == []
    assert [key for keys in store.scan_entry_keys(Collection.SOUND) for key in keys] == []


def test_get_leaves_out_what_is_absent(store: Store, tenant: str) -> None:
    written = entry(asset(tenant))
    store.upsert(Collection.IMAGE, [written])
    assert [stored.id for stored in store.get(Collection.IMAGE, ["0" * 32, written.id])] == [written.id]


def test_the_same_entry_twice_is_one_row(store: Store, tenant: str) -> None:
    before = store.count(Collection.IMAGE)
    for _ in range(2):
        store.upsert(Collection.IMAGE, [entry(asset(tenant))])
    assert store.count(Collection.IMAGE) == before + 1
    assert len(search(store, tenant)) == 1


def test_an_asset_counts_once_in_a_collection_and_those_of_other_tenants_do_not(store: Store, tenant: str) -> None:
    assert store.assets_in(Collection.IMAGE, Access.to_all_of(tenant)) == 0
    several = [entry(asset(tenant, "a"), part=part) for part in range(3)]
    store.upsert(Collection.IMAGE, [*several, entry(asset(tenant, "b")), entry(asset(f"{tenant}-other"))])
    assert store.assets_in(Collection.IMAGE, Access.to_all_of(tenant)) == 2
    store.delete(Collection.IMAGE, [part.id for part in several])
    assert store.assets_in(Collection.IMAGE, Access.to_all_of(tenant)) == 1


def test_upsert_replaces_scalars_and_vectors(store: Store, tenant: str) -> None:
    store.upsert(Collection.IMAGE, [entry(asset(tenant), title="old", joint=vector(1))])
    store.upsert(Collection.IMAGE, [entry(asset(tenant), title="new", joint=vector(0, 1))])
    (hit,) = search(store, tenant)
    assert hit.entry.title == "new"
    assert hit.score == pytest.approx(0.0, abs=1e-5)


def test_two_entries_of_one_id_in_one_call_are_refused(store: Store, tenant: str) -> None:
    with pytest.raises(PermanentError, match="same id"):
        store.upsert(Collection.IMAGE, [entry(asset(tenant)), entry(asset(tenant), title="other")])


def test_a_vector_of_another_length_is_refused(store: Store, tenant: str) -> None:
    with pytest.raises(PermanentError, match="shape"):
        store.upsert(Collection.IMAGE, [entry(asset(tenant), joint=np.ones(3, dtype=np.float32))])


def test_writing_nothing_does_nothing(store: Store) -> None:
    store.upsert(Collection.IMAGE, [])
    store.delete(Collection.IMAGE, [])
    store.put_asset_rows([])
    assert store.entry_ids(Collection.IMAGE, []) == {}
    assert store.asset_rows([]) == {}
    assert list(store.get(Collection.IMAGE, [])) == []


def test_delete_removes_by_id_and_absent_ids_are_no_error(store: Store, tenant: str) -> None:
    kept, deleted = (entry(asset(tenant, key)) for key in "ab")
    store.upsert(Collection.IMAGE, [kept, deleted])
    store.delete(Collection.IMAGE, [deleted.id, "f" * 32])
    assert [stored.id for stored in store.get(Collection.IMAGE, [kept.id, deleted.id])] == [kept.id]
    assert [hit.entry.id for hit in search(store, tenant)] == [kept.id]


def test_a_deleted_entry_can_be_written_again(store: Store, tenant: str) -> None:
    written = entry(asset(tenant))
    store.upsert(Collection.IMAGE, [written])
    store.delete(Collection.IMAGE, [written.id])
    store.upsert(Collection.IMAGE, [written])
    assert len(store.get(Collection.IMAGE, [written.id])) == 1


def test_entry_ids_sees_every_part_right_after_the_write(store: Store, tenant: str) -> None:
    single, many, none = (asset(tenant, key) for key in ("single", "many", "none"))
    parts = [entry(many, part) for part in range(45)]
    store.upsert(Collection.IMAGE, [entry(single), *parts])
    assert store.entry_ids(Collection.IMAGE, [single.id, many.id, none.id]) == {
        single.id: frozenset({entry(single).id}),
        many.id: frozenset(part.id for part in parts),
    }
    store.delete(Collection.IMAGE, [part.id for part in parts[20:]])
    assert store.entry_ids(Collection.IMAGE, [many.id])[many.id] == {part.id for part in parts[:20]}


def test_entries_of_one_asset_in_two_collections_are_distinct(store: Store, tenant: str) -> None:
    ref = asset(tenant)
    store.upsert(Collection.IMAGE, [entry(ref)])
    assert store.entry_ids(Collection.TEXT, [ref.id]) == {}


def test_asset_rows_come_back_as_written_and_are_replaced(store: Store, tenant: str) -> None:
    first, other = asset(tenant, "first"), asset(tenant, "other")
    before = store.count_assets()
    store.put_asset_rows([asset_row(first), asset_row(other, entries=3)])
    deleted = asset_row(first, offset=9, outcome=Outcome.DELETED, entries=0)
    store.put_asset_rows([deleted])
    assert store.asset_rows([first.id, other.id, "0" * 32]) == {
        first.id: deleted,
        other.id: asset_row(other, entries=3),
    }
    assert store.count_assets() == before + 2


def test_checkpoints_lie_beside_asset_rows_and_are_none_of_them(store: Store, tenant: str) -> None:
    video, other = asset(tenant, "video"), asset(tenant, "other")
    checkpoint = Checkpoint(
        video,
        Version(1_000, 2, 7),
        MediaPosition(5_000, 4_000, 6_000),
        {Collection.IMAGE: 3},
        "made so",
        "asset:ff",
        slot=1,
    )
    store.put_asset_rows([asset_row(video), asset_row(other)])
    store.put_checkpoints([replace(checkpoint, counts={}), checkpoint])
    assert store.checkpoints([video.id, other.id]) == {video.id: checkpoint}
    assert set(store.asset_rows([video.id, other.id])) == {video.id, other.id}
    assert [row.asset for row in all_asset_rows(store) if row.asset == video] == [video]
    assert [state.asset_id for page in store.scan_asset_states() for state in page if state.asset_id == video.id] == [
        video.id
    ]
    assert "asset:ff" in {uri for page in store.scan_media() for uri in page}
    store.drop_checkpoints([video.id, other.id])
    assert not store.checkpoints([video.id])
    assert set(store.asset_rows([video.id])) == {video.id}


def test_rows_and_media_are_scanned_by_tenant_and_key(store: Store, tenant: str) -> None:
    own, same_key, other = asset(tenant, "a"), asset(f"{tenant}-x", "a"), asset(tenant, 'b"\\')
    store.put_asset_rows(
        [replace(asset_row(ref), uri=f"asset:{number}") for number, ref in enumerate((own, same_key, other))]
    )

    def scanned(key: str | None = None) -> tuple[set[AssetRef], set[str]]:
        rows = {row.asset for page in store.scan_asset_rows(tenant=tenant, key=key, batch=1) for row in page}
        return rows, {uri for page in store.scan_media(tenant=tenant, key=key) for uri in page}

    assert scanned() == ({own, other}, {"asset:0", "asset:2"})
    assert scanned("a") == ({own}, {"asset:0"})
    assert scanned(other.key) == ({other}, {"asset:2"})
    assert scanned("absent") == (set(), set())
    ages = {row.asset: row.version.timestamp_ms for page in store.scan_asset_rows(tenant=tenant) for row in page}
    limit = max(ages.values())
    older = {row.asset for page in store.scan_asset_rows(before_ms=limit) for row in page if row.asset in ages}
    assert older == {ref for ref, age in ages.items() if age < limit}
    assert own in {row.asset for page in store.scan_asset_rows(before_ms=limit + 1) for row in page}


def test_the_slot_of_an_assets_entries_is_kept_in_its_row(store: Store, tenant: str) -> None:
    row = replace(asset_row(asset(tenant)), slot=1)
    store.put_asset_rows([row])
    assert store.asset_rows([row.asset.id]) == {row.asset.id: row}
    [state] = [state for page in store.scan_asset_states() for state in page if state.asset_id == row.asset.id]
    assert (state.slot, state.counts) == (1, row.counts)


def test_search_returns_the_best_first_with_their_cosine(store: Store, tenant: str) -> None:
    entries = [entry(asset(tenant, str(n)), joint=vector(1, n / 10)) for n in range(8)]
    store.upsert(Collection.IMAGE, entries)
    hits = search(store, tenant, limit=5)
    assert [hit.entry.id for hit in hits] == [best.id for best in entries[:5]]
    assert [hit.score for hit in hits] == pytest.approx(
        [float(best.vectors[Field.JOINT][0]) for best in entries[:5]], abs=1e-5
    )
    assert hits[0].entry == replace(scalars(entries[0]), attributes_json=hits[0].entry.attributes_json)


def test_search_returns_only_entries_of_its_tenant(store: Store, tenant: str) -> None:
    names = [tenant, f"{tenant}-other", f'{tenant}" or "1" == "1', f"{tenant}\\"]
    store.upsert(Collection.IMAGE, [entry(asset(name)) for name in names])
    for name in names:
        assert [hit.entry.asset.tenant for hit in search(store, name)] == [name]


def test_an_entry_without_a_vector_is_kept_and_ranked_last(store: Store, tenant: str) -> None:
    bare = replace(entry(asset(tenant, "bare")), vectors={})
    store.upsert(Collection.IMAGE, [bare, entry(asset(tenant, "near"))])
    assert store.get(Collection.IMAGE, [bare.id])[0].vectors == {}
    hits = search(store, tenant)
    assert hits[0].entry.asset.key == "near"
    assert all(np.isfinite(hit.score) for hit in hits)


FILTERS: list[tuple[dict[str, object], set[str]]] = [
    ({"mime": "image/png"}, {"a", "b"}),
    ({"mime": {"ne": "image/png"}}, {"c"}),
    ({"title": {"in": ["first", "third"]}}, {"a", "c"}),
    ({"title": {"gt": "first", "lte": "third"}}, {"b", "c"}),
    ({"start_ms": {"gte": 10, "lt": 20}}, {"b"}),
    ({"offset": {"in": [1, 3]}}, {"a", "c"}),
    ({"key": "b", "topic": "media.image"}, {"b"}),
    ({"event_time": {"gte": "2026-01-02T01:00:00+01:00"}}, {"b", "c"}),
    ({"event_time": {"lt": 1_767_312_000_000}}, {"a"}),
    ({"attributes.camera": "x100"}, {"a"}),
    ({"attributes.camera": {"ne": "x100"}}, {"b"}),
    ({"attributes.camera": {"in": ["x100", "gr3"]}}, {"a", "b"}),
    ({"not": {"attributes.camera": {"in": ["x100", 5]}}}, {"b"}),
    ({"not": {"attributes.camera": "x100"}}, {"b"}),
    ({"attributes.iso": {"gt": 150.5}}, {"b"}),
    ({"attributes.iso": {"lte": 200}}, {"a", "b"}),
    ({"attributes.iso": {"ne": "100"}}, {"a", "b"}),
    ({"attributes.iso": "100"}, set()),
    ({"attributes.lens.wide": True}, {"a"}),
    ({"attributes.lens.wide": {"ne": True}}, {"b"}),
    ({"attributes.tags": {"contains": "river"}}, {"a", "b"}),
    ({"attributes.tags": {"contains": 7}}, {"b"}),
    ({"attributes.tags": {"contains": "7"}}, set()),
    ({"attributes.tags": {"contains_any": ["hill", 7]}}, {"a", "b"}),
    ({"attributes.tags": {"contains_all": ["river", "hill"]}}, {"a"}),
    ({"not": {"attributes.tags": {"contains": "hill"}}}, {"b", "c"}),
    ({"not": {"attributes.tags": {"contains_any": ["hill", 7]}}}, {"c"}),
    ({"not": {"attributes.tags": {"contains_all": ["river", "hill"]}}}, {"b", "c"}),
    ({"attributes.tags": "river"}, {"c"}),
    ({"attributes.2024": "yes"}, {"c"}),
    ({"key": {"in": [*(str(number) for number in range(999)), "b"]}}, {"b"}),
    ({"not": {"key": {"in": ["a", "z"]}}}, {"b", "c"}),
    ({"attributes.gone": {"ne": 1}}, set()),
    ({"not": {"attributes.gone": 1}}, set()),
    ({"or": [{"attributes.gone": 1}, {"title": "third"}]}, {"c"}),
    ({"and": [{"not": {"title": "first"}}, {"or": [{"key": "a"}, {"key": "b"}]}]}, {"b"}),
    ({"not": {"or": [{"key": "a"}, {"start_ms": {"gte": 20}}]}}, {"b"}),
    ({"attributes.quoted": 'it\'s "so"\\\n\tthere'}, {"c"}),
]


@pytest.fixture(scope="module")
def filtered(store: Store) -> str:
    """Returns the tenant of three entries, a, b and c."""
    tenant = "filtered"
    first = '{"camera": "x100", "iso": 100, "lens.wide": true, "gone": null, "tags": ["river", "hill"]}'
    third = json.dumps({"quoted": 'it\'s "so"\\\n\tthere', "tags": "river", "2024": "yes"})
    day = 86_400_000
    rows = [
        ("a", "first", "image/png", first),
        ("b", "second", "image/png", '{"camera": "gr3", "iso": 200, "lens.wide": false, "tags": ["river", 7]}'),
        ("c", "third", "image/jpeg", third),
    ]
    entries = [
        entry(
            asset(tenant, key),
            title=title,
            mime=mime,
            attributes=attributes,
            start_ms=index * 10,
            offset=index + 1,
            event_time_ms=1_767_225_600_000 + index * day,  # 2026-01-01T00:00:00Z and the days after
        )
        for index, (key, title, mime, attributes) in enumerate(rows)
    ]
    store.upsert(Collection.IMAGE, entries)
    return tenant


@pytest.mark.parametrize(("where", "keys"), FILTERS, ids=[json.dumps(where) for where, _ in FILTERS])
def test_filters_select(store: Store, filtered: str, where: dict[str, object], keys: set[str]) -> None:
    assert {hit.entry.asset.key for hit in search(store, filtered, where=where)} == keys


def test_passages_are_searched_by_their_vectors(store: Store, tenant: str) -> None:
    texts = [entry(asset(tenant, str(n)), collection=Collection.TEXT, passage=vector(1, n)) for n in range(3)]
    store.upsert(Collection.TEXT, texts)
    hits = store.search(EntryQuery(PASSAGE, vector(1, 2), Access.to_all_of(tenant), where=None, limit=1, timeout_s=20))
    assert [hit.entry.id for hit in hits] == [texts[2].id]


def test_words_match_where_the_store_has_bm25(store: Store, tenant: str) -> None:
    assert (LEXICAL in store.channels()) == store.capabilities.lexical
    if not store.capabilities.lexical:
        return
    text_of = {"t": "A turtle crosses the old bridge", "b": "A bridge over the bridge of bridges", "n": "Nothing of it"}
    texts = [entry(asset(tenant, key), collection=Collection.TEXT, text=text) for key, text in text_of.items()]
    store.upsert(Collection.TEXT, texts)
    hits = store.search(
        EntryQuery(LEXICAL, "turtle BRIDGE", Access.to_all_of(tenant), where=None, limit=5, timeout_s=20)
    )
    assert [hit.entry.asset.key for hit in hits] == ["t", "b"]
    assert hits[0].score > hits[1].score > 0


def test_entries_are_looked_up_in_all_collections_without_vectors(store: Store, tenant: str) -> None:
    image = entry(asset(tenant, "a", "media.image"), title="A title")
    text = entry(asset(tenant, "a", "docs"), collection=Collection.TEXT, text="words")
    store.upsert(Collection.IMAGE, [image])
    store.upsert(Collection.TEXT, [text])
    requested = [text.id, "0" * 32, image.id, text.id]
    assert store.entries(requested, access=Access.to_all_of(tenant), timeout_s=20) == {
        image.id: scalars(image),
        text.id: scalars(text),
    }
    assert store.entries([], access=Access.to_all_of(tenant), timeout_s=20) == {}


def test_vectors_are_looked_up_by_channel(store: Store, tenant: str) -> None:
    near, far = (entry(asset(tenant, str(n)), joint=vector(1, n)) for n in range(2))
    bare = replace(entry(asset(tenant, "bare")), vectors={})
    text = entry(asset(tenant, "t"), collection=Collection.TEXT, passage=vector(3, 1))
    store.upsert(Collection.IMAGE, [near, far, bare])
    store.upsert(Collection.TEXT, [text])
    requested = [far.id, bare.id, text.id, "0" * 32, near.id, near.id]
    vectors = store.vectors(JOINT, requested, access=Access.to_all_of(tenant), timeout_s=20)
    assert vectors.keys() == {near.id, far.id}
    for stored in (near, far):
        assert vectors[stored.id].dtype == np.float32
        np.testing.assert_allclose(vectors[stored.id], stored.vectors[Field.JOINT], atol=1e-6)
    (passage,) = store.vectors(PASSAGE, requested, access=Access.to_all_of(tenant), timeout_s=20).values()
    np.testing.assert_allclose(passage, vector(3, 1), atol=1e-6)
    assert store.vectors(JOINT, [], access=Access.to_all_of(tenant), timeout_s=20) == {}


@pytest.mark.parametrize("channel", [LEXICAL, Channel(Collection.IMAGE, Field.PASSAGE)], ids=str)
def test_a_channel_without_vectors_refuses_a_lookup(store: Store, tenant: str, channel: Channel) -> None:
    with pytest.raises(PermanentError, match=f"no vectors of channel {channel}"):
        store.vectors(channel, ["0" * 32], access=Access.to_all_of(tenant), timeout_s=20)


def test_entries_of_other_tenants_are_looked_up_as_absent_ones(store: Store, tenant: str) -> None:
    other = entry(asset(f"{tenant}-other"))
    quoted = entry(asset(f'{tenant}" or "1" == "1'))
    store.upsert(Collection.IMAGE, [other, quoted])
    for asker in (tenant, f'{tenant}" or tenant != "'):
        assert store.entries([other.id, quoted.id], access=Access.to_all_of(asker), timeout_s=20) == {}
        assert store.vectors(JOINT, [other.id, quoted.id], access=Access.to_all_of(asker), timeout_s=20) == {}
    assert store.entries([other.id, quoted.id], access=Access.to_all_of(f"{tenant}-other"), timeout_s=20).keys() == {
        other.id
    }
    assert store.vectors(
        JOINT, [other.id, quoted.id], access=Access.to_all_of(quoted.asset.tenant), timeout_s=20
    ).keys() == {quoted.id}


def test_an_id_in_a_lookup_is_no_expression(store: Store, tenant: str) -> None:
    store.upsert(Collection.IMAGE, [entry(asset(tenant))])
    for id_ in ('x"] or id != "', "\\", "é\n"):
        assert store.entries([id_], access=Access.to_all_of(tenant), timeout_s=20) == {}


def test_texts_are_paged_by_tenant_in_order_of_their_ids(store: Store, tenant: str) -> None:
    stored = [entry(asset(tenant, str(n)), collection=Collection.TEXT, title=f"t{n}", text="words") for n in range(5)]
    other = entry(asset(f"{tenant}-other"), collection=Collection.TEXT, text="secret")
    store.upsert(Collection.TEXT, [*stored, other])
    expected = [EntryText(e.id, e.part, e.title, e.text) for e in sorted(stored, key=lambda e: e.id)]

    def page(after: str, limit: int, collection: Collection = Collection.TEXT) -> list[EntryText]:
        return list(store.texts(collection, access=Access.to_all_of(tenant), after=after, limit=limit, timeout_s=20))

    assert page("", 3) == expected[:3]
    assert page(expected[2].id, 3) == expected[3:]
    assert page(expected[4].id, 3) == []
    assert page("", 10, Collection.IMAGE) == page("", 10, Collection.SOUND) == []
    quoting = f'{tenant}" or tenant != "'
    assert list(store.texts(Collection.TEXT, access=Access.to_all_of(quoting), after="", limit=10, timeout_s=20)) == []


def test_entries_are_selected_by_a_condition_within_the_tenant(store: Store, tenant: str) -> None:
    film, other = asset(tenant, "film"), asset(f"{tenant}-other", "film")
    frames = [entry(film, n, title=f"t{n}", start_ms=1_000 * n) for n in range(6)]
    secret = entry(other, 0, start_ms=2_000)
    store.upsert(Collection.IMAGE, [*frames, entry(asset(tenant, "else"), start_ms=2_000), secret])

    def select(raw: dict[str, object], limit: int = 10, collection: Collection = Collection.IMAGE) -> list[Entry]:
        where = parse_filter(raw)
        assert where is not None
        return list(store.select(collection, where, access=Access.to_all_of(tenant), limit=limit, timeout_s=20))

    later = sorted(frames[2:], key=lambda frame: frame.id)
    where: dict[str, object] = {"key": "film", "start_ms": {"gte": 2_000}}
    assert [frame.id for frame in select(where)] == [frame.id for frame in later]
    assert [scalars(frame) for frame in select(where, limit=2)] == [scalars(frame) for frame in later[:2]]
    assert select({"key": 'film" or key != "'}) == []
    assert select(where, collection=Collection.SOUND) == []  # this spec has no such collection


def test_channels_are_what_the_store_can_hold(store: Store) -> None:
    expected = {JOINT, PASSAGE}
    if store.capabilities.vector_fields > 1:
        expected |= {Channel(Collection.TEXT, Field.JOINT)}
    if store.capabilities.lexical:
        expected |= {LEXICAL}
    assert store.channels() == expected


def test_scans_return_every_row_once_in_batches_in_order(store: Store, tenant: str) -> None:
    assets = [asset(tenant, str(n)) for n in range(1_100)]
    store.upsert(Collection.IMAGE, [entry(ref) for ref in assets])
    store.put_asset_rows([asset_row(ref) for ref in assets])
    keys: list[EntryKey] = []
    for key_page in store.scan_entry_keys(Collection.IMAGE, batch=300):
        assert len(key_page) <= 300
        keys += key_page
    assert [key.id for key in keys] == sorted({key.id for key in keys})
    own_keys = {own.id: EntryKey(own.id, own.asset.id, own.part, own.origin) for own in map(entry, assets)}
    assert {key.id: key for key in keys if key.id in own_keys} == own_keys
    states: list[AssetState] = []
    for state_page in store.scan_asset_states(batch=300):
        assert len(state_page) <= 300
        states += state_page
    assert [state.asset_id for state in states] == sorted({state.asset_id for state in states})
    own_rows = {row.asset.id: row for row in map(asset_row, assets)}
    assert {state.asset_id: state for state in states if state.asset_id in own_rows} == {
        id_: AssetState(id_, row.origin, row.version.timestamp_ms, False, row.counts) for id_, row in own_rows.items()
    }
    assert sorted(store.asset_rows(list(own_rows)).values(), key=lambda row: row.asset.id) == sorted(
        own_rows.values(), key=lambda row: row.asset.id
    )


@pytest.mark.slow_on_standalone
def test_entries_are_scanned_with_their_vectors_in_order(store: Store, tenant: str) -> None:
    written = {}
    for number in range(7):
        own = entry(asset(tenant, f"k{number}"), joint=vector(1, number), text=f"text {number}")
        written[own.id] = replace(own, acl=("a_b",)) if number % 2 else replace(own, vectors={})
    store.upsert(Collection.IMAGE, list(written.values()))
    scanned: list[Entry] = []
    for page in store.scan_entries(Collection.IMAGE, batch=3):
        assert len(page) <= 3
        scanned += page
    assert [stored.id for stored in scanned] == sorted({stored.id for stored in scanned})
    own_entries = {stored.id: stored for stored in scanned if stored.asset.tenant == tenant}
    assert own_entries.keys() == written.keys()
    for id_, own in written.items():
        assert replace(own_entries[id_], vectors={}) == replace(own, vectors={})
        assert own_entries[id_].vectors.keys() == own.vectors.keys()
        for field, expected in own.vectors.items():
            np.testing.assert_allclose(own_entries[id_].vectors[field], expected, atol=1e-6)


def test_threads_share_a_store(store: Store, tenant: str) -> None:
    failures: list[BaseException] = []

    def write(thread: int) -> None:
        try:
            for n in range(5):
                store.upsert(Collection.IMAGE, [entry(asset(tenant, f"{thread}-{n}"))])
                search(store, tenant)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(search(store, tenant, limit=100)) == 20


def test_long_text_is_cut_and_a_long_name_is_refused(store: Store, tenant: str) -> None:
    long = entry(asset(tenant), title="é" * 5_000, text="語" * 30_000)
    store.upsert(Collection.IMAGE, [long])
    (stored,) = store.get(Collection.IMAGE, [long.id])
    assert stored.title == "é" * 2_048
    assert stored.text == "語" * 21_845
    with pytest.raises(PermanentError, match=r"key .* 70000 bytes"):
        store.upsert(Collection.IMAGE, [entry(asset(tenant, "k" * 70_000))])


def test_ping_answers(store: Store) -> None:
    store.ping()


def test_ensure_again_changes_nothing(store: Store, tenant: str) -> None:
    store.upsert(Collection.IMAGE, [entry(asset(tenant))])
    store.ensure(spec())
    assert len(search(store, tenant)) == 1
