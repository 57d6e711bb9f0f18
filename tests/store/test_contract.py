"""What every store does, said once, for the double, Milvus Lite's server and a real Milvus with two shards."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from penstock.errors import PermanentError
from penstock.records import (
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
from penstock.store.base import AssetState, EntryKey, EntryQuery, Store
from penstock.store.filters import parse_filter
from tests.store.builders import asset, asset_row, entry, spec, vector
from tests.store.scans import all_asset_rows

JOINT = Channel(Collection.IMAGE, Field.JOINT)
PASSAGE = Channel(Collection.TEXT, Field.PASSAGE)
LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)


def search(store: Store, tenant: str, *, where: dict[str, object] | None = None, limit: int = 10) -> list[ScoredEntry]:
    condition = parse_filter(where) if where else None
    return list(store.search(EntryQuery(JOINT, vector(1), tenant, condition, limit, timeout_s=20)))


def scalars(each: Entry) -> Entry:
    return replace(each, vectors={})


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
    (found,) = store.get(Collection.IMAGE, [written.id])
    assert scalars(found) == replace(scalars(written), attributes_json=found.attributes_json)
    assert json.loads(found.attributes_json) == json.loads(written.attributes_json)
    np.testing.assert_allclose(found.vectors[Field.JOINT], written.vectors[Field.JOINT], atol=1e-6)


def test_get_leaves_out_what_is_absent(store: Store, tenant: str) -> None:
    written = entry(asset(tenant))
    store.upsert(Collection.IMAGE, [written])
    assert [each.id for each in store.get(Collection.IMAGE, ["0" * 32, written.id])] == [written.id]


def test_the_same_entry_twice_is_one_row(store: Store, tenant: str) -> None:
    before = store.count(Collection.IMAGE)
    for _ in range(2):
        store.upsert(Collection.IMAGE, [entry(asset(tenant))])
    assert store.count(Collection.IMAGE) == before + 1
    assert len(search(store, tenant)) == 1


def test_upsert_replaces_scalars_and_vectors(store: Store, tenant: str) -> None:
    store.upsert(Collection.IMAGE, [entry(asset(tenant), title="old", joint=vector(1))])
    store.upsert(Collection.IMAGE, [entry(asset(tenant), title="new", joint=vector(0, 1))])
    (found,) = search(store, tenant)
    assert found.entry.title == "new"
    assert found.score == pytest.approx(0.0, abs=1e-5)


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
    kept, gone = (entry(asset(tenant, key)) for key in "ab")
    store.upsert(Collection.IMAGE, [kept, gone])
    store.delete(Collection.IMAGE, [gone.id, "f" * 32])
    assert [each.id for each in store.get(Collection.IMAGE, [kept.id, gone.id])] == [kept.id]
    assert [found.entry.id for found in search(store, tenant)] == [kept.id]


def test_a_deleted_entry_can_be_written_again(store: Store, tenant: str) -> None:
    written = entry(asset(tenant))
    store.upsert(Collection.IMAGE, [written])
    store.delete(Collection.IMAGE, [written.id])
    store.upsert(Collection.IMAGE, [written])
    assert len(store.get(Collection.IMAGE, [written.id])) == 1


def test_entry_ids_sees_every_part_right_after_the_write(store: Store, tenant: str) -> None:
    one, many, none = (asset(tenant, key) for key in ("one", "many", "none"))
    parts = [entry(many, part) for part in range(45)]
    store.upsert(Collection.IMAGE, [entry(one), *parts])
    assert store.entry_ids(Collection.IMAGE, [one.id, many.id, none.id]) == {
        one.id: frozenset({entry(one).id}),
        many.id: frozenset(each.id for each in parts),
    }
    store.delete(Collection.IMAGE, [each.id for each in parts[20:]])
    assert store.entry_ids(Collection.IMAGE, [many.id])[many.id] == {each.id for each in parts[:20]}


def test_entries_of_one_asset_in_two_collections_are_told_apart(store: Store, tenant: str) -> None:
    one = asset(tenant)
    store.upsert(Collection.IMAGE, [entry(one)])
    assert store.entry_ids(Collection.TEXT, [one.id]) == {}


def test_asset_rows_come_back_as_written_and_are_replaced(store: Store, tenant: str) -> None:
    one, other = asset(tenant, "one"), asset(tenant, "other")
    before = store.count_assets()
    store.put_asset_rows([asset_row(one), asset_row(other, entries=3)])
    deleted = asset_row(one, offset=9, outcome=Outcome.DELETED, entries=0)
    store.put_asset_rows([deleted])
    assert store.asset_rows([one.id, other.id, "0" * 32]) == {one.id: deleted, other.id: asset_row(other, entries=3)}
    assert store.count_assets() == before + 2


def test_progress_lies_beside_asset_rows_and_is_none_of_them(store: Store, tenant: str) -> None:
    film, other = asset(tenant, "film"), asset(tenant, "other")
    begun = Checkpoint(
        film,
        Version(1_000, 2, 7),
        MediaPosition(5_000, 4_000, 6_000),
        {Collection.IMAGE: 3},
        "made so",
        "asset:ff",
        slot=1,
    )
    store.put_asset_rows([asset_row(film), asset_row(other)])
    store.put_checkpoints([replace(begun, counts={}), begun])
    assert store.checkpoints([film.id, other.id]) == {film.id: begun}
    assert set(store.asset_rows([film.id, other.id])) == {film.id, other.id}
    assert [row.asset for row in all_asset_rows(store) if row.asset == film] == [film]
    assert [one.asset_id for page in store.scan_asset_states() for one in page if one.asset_id == film.id] == [film.id]
    assert "asset:ff" in {uri for page in store.scan_media() for uri in page}
    store.drop_checkpoints([film.id, other.id])
    assert not store.checkpoints([film.id])
    assert set(store.asset_rows([film.id])) == {film.id}


def test_the_space_of_an_assets_entries_is_kept_in_its_row(store: Store, tenant: str) -> None:
    row = replace(asset_row(asset(tenant)), slot=1)
    store.put_asset_rows([row])
    assert store.asset_rows([row.asset.id]) == {row.asset.id: row}
    [told] = [one for page in store.scan_asset_states() for one in page if one.asset_id == row.asset.id]
    assert (told.slot, told.counts) == (1, row.counts)


def test_search_returns_the_best_first_with_their_cosine(store: Store, tenant: str) -> None:
    wanted = [entry(asset(tenant, str(n)), joint=vector(1, n / 10)) for n in range(8)]
    store.upsert(Collection.IMAGE, wanted)
    found = search(store, tenant, limit=5)
    assert [each.entry.id for each in found] == [each.id for each in wanted[:5]]
    assert [each.score for each in found] == pytest.approx(
        [float(each.vectors[Field.JOINT][0]) for each in wanted[:5]], abs=1e-5
    )
    assert found[0].entry == replace(scalars(wanted[0]), attributes_json=found[0].entry.attributes_json)


def test_search_finds_the_own_tenant_only(store: Store, tenant: str) -> None:
    names = [tenant, f"{tenant}-other", f'{tenant}" or "1" == "1', f"{tenant}\\"]
    store.upsert(Collection.IMAGE, [entry(asset(name)) for name in names])
    for name in names:
        assert [found.entry.asset.tenant for found in search(store, name)] == [name]


def test_an_entry_without_a_vector_is_kept_and_found_last(store: Store, tenant: str) -> None:
    bare = replace(entry(asset(tenant, "bare")), vectors={})
    store.upsert(Collection.IMAGE, [bare, entry(asset(tenant, "near"))])
    assert store.get(Collection.IMAGE, [bare.id])[0].vectors == {}
    found = search(store, tenant)
    assert found[0].entry.asset.key == "near"
    assert all(np.isfinite(each.score) for each in found)


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
    ({"attributes.gone": {"ne": 1}}, set()),
    ({"not": {"attributes.gone": 1}}, set()),
    ({"or": [{"attributes.gone": 1}, {"title": "third"}]}, {"c"}),
    ({"and": [{"not": {"title": "first"}}, {"or": [{"key": "a"}, {"key": "b"}]}]}, {"b"}),
    ({"not": {"or": [{"key": "a"}, {"start_ms": {"gte": 20}}]}}, {"b"}),
    ({"attributes.quoted": 'it\'s "so"\\\n\tthere'}, {"c"}),
]


@pytest.fixture(scope="module")
def filtered(store: Store) -> str:
    """The tenant of three entries, a, b and c."""
    tenant = "filtered"
    first = '{"camera": "x100", "iso": 100, "lens": {"wide": true}, "gone": null}'
    third = json.dumps({"quoted": 'it\'s "so"\\\n\tthere'})
    day = 86_400_000
    rows = [
        ("a", "first", "image/png", first),
        ("b", "second", "image/png", '{"camera": "gr3", "iso": 200, "lens": {"wide": false}}'),
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
    assert {found.entry.asset.key for found in search(store, filtered, where=where)} == keys


def test_text_is_found_by_passage(store: Store, tenant: str) -> None:
    texts = [entry(asset(tenant, str(n)), collection=Collection.TEXT, passage=vector(1, n)) for n in range(3)]
    store.upsert(Collection.TEXT, texts)
    found = store.search(EntryQuery(PASSAGE, vector(1, 2), tenant, where=None, limit=1, timeout_s=20))
    assert [each.entry.id for each in found] == [texts[2].id]


def test_words_are_found_where_the_store_has_bm25(store: Store, tenant: str) -> None:
    assert (LEXICAL in store.channels()) == store.capabilities.lexical
    if not store.capabilities.lexical:
        return
    said = {"t": "A turtle crosses the old bridge", "b": "A bridge over the bridge of bridges", "n": "Nothing of it"}
    texts = [entry(asset(tenant, key), collection=Collection.TEXT, text=text) for key, text in said.items()]
    store.upsert(Collection.TEXT, texts)
    found = store.search(EntryQuery(LEXICAL, "turtle BRIDGE", tenant, where=None, limit=5, timeout_s=20))
    assert [each.entry.asset.key for each in found] == ["t", "b"]
    assert found[0].score > found[1].score > 0


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


def test_threads_share_a_store(store: Store, tenant: str) -> None:
    failures: list[BaseException] = []

    def write(thread: int) -> None:
        try:
            for n in range(5):
                store.upsert(Collection.IMAGE, [entry(asset(tenant, f"{thread}-{n}"))])
                search(store, tenant)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=write, args=(each,)) for each in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(search(store, tenant, limit=100)) == 20


def test_what_is_too_long_is_cut_or_refused(store: Store, tenant: str) -> None:
    long = entry(asset(tenant), title="é" * 5_000, text="語" * 30_000)
    store.upsert(Collection.IMAGE, [long])
    (found,) = store.get(Collection.IMAGE, [long.id])
    assert found.title == "é" * 2_048
    assert found.text == "語" * 21_845
    with pytest.raises(PermanentError, match=r"key .* 70000 bytes"):
        store.upsert(Collection.IMAGE, [entry(asset(tenant, "k" * 70_000))])


def test_ping_answers(store: Store) -> None:
    store.ping()


def test_ensure_again_changes_nothing(store: Store, tenant: str) -> None:
    store.upsert(Collection.IMAGE, [entry(asset(tenant))])
    store.ensure(spec())
    assert len(search(store, tenant)) == 1
