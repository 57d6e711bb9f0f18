"""Tests that need a server: collections and aliases, restarts, unavailability."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Mapping

import psutil
import pytest
from pymilvus import CollectionSchema, DataType, Function, FunctionType, MilvusClient

from penstock.config import StoreSettings
from penstock.errors import ConfigError, UnavailableError
from penstock.processes import free_port
from penstock.records import Access, Channel, Collection, Field
from penstock.store import provenance
from penstock.store.base import EntryQuery, Store, VectorSpec
from penstock.store.memory import MemoryStore
from penstock.store.milvus import schema
from penstock.store.milvus.dialect import Backend
from penstock.store.milvus.schema import entries_schema
from penstock.store.milvus.store import MilvusStore
from penstock.store.names import PhysicalCollection
from tests.store.builders import asset, asset_row, entry, spec, vector
from tests.store.scans import all_asset_rows
from tests.store.servers import LiteServer, Standalone

JOINT = Channel(Collection.IMAGE, Field.JOINT)
Connect = Callable[..., MilvusStore]


def refusals(make: Callable[[], Store]) -> None:
    """Checks every way in which a store of one model refuses another."""
    make().ensure(spec())
    for other in (spec(weights="bbbb"), spec(model="clip-b"), spec(dim=16)):
        with pytest.raises(ConfigError, match=r"clip-a .*aaaa.* clip-") as refused:
            make().ensure(other)
        assert "\n" not in str(refused.value)
        assert "store.version" in str(refused.value)


@pytest.mark.services
@pytest.mark.slow_on_standalone
def test_collections_of_another_model_are_refused(connect: Connect) -> None:
    refusals(connect)


def test_the_double_refuses_another_model_too() -> None:
    store = MemoryStore()
    refusals(lambda: store)


def lexical(question: str, collection: Collection = Collection.TEXT) -> EntryQuery:
    return EntryQuery(
        Channel(collection, Field.LEXICAL), question, Access.to_all_of("default"), None, limit=5, timeout_s=20
    )


@pytest.mark.services
@pytest.mark.slow_on_standalone
def test_a_collection_without_terms_is_written_and_searched_as_before(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as older:
        older.setattr(schema, "entries_schema", schema_without_terms)
        older.setattr(provenance, "ANALYZER_PROPERTY", "nothing")
        connect().ensure(spec())
    store = connect()
    if not store.capabilities.lexical:
        pytest.skip("this store has no BM25")
    store.ensure(spec())
    assert "text__clip_a__v1 is of an older Penstock" in caplog.text
    assert "store.version" in caplog.text
    store.upsert(Collection.TEXT, [entry(asset(), collection=Collection.TEXT, text="turtles on bridges")])
    assert Channel(Collection.TEXT, Field.LEXICAL) in store.channels()
    assert len(store.search(lexical("turtles"))) == 1
    assert not store.search(lexical("turtle"))


@pytest.mark.services
def test_scores_of_words_are_those_of_the_double(connect: Connect) -> None:
    texts = ["turtles on bridges", "turtles, turtles and one more turtle", "bridges", "a heron under a wide old bridge"]
    scores = []
    for store in (connect(), MemoryStore()):
        if not store.capabilities.lexical:
            pytest.skip("this store has no BM25")
        store.ensure(spec())
        entries = [entry(asset(key=text), collection=Collection.TEXT, text=text) for text in texts]
        store.upsert(Collection.TEXT, entries)
        scores.append({hit.entry.asset.key: hit.score for hit in store.search(lexical("turtles bridges"))})
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)


@pytest.mark.services
def test_terms_of_another_analyzer_are_refused_and_not_searched(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect()
    if not store.capabilities.lexical:
        pytest.skip("this store has no BM25")
    with monkeypatch.context() as other:
        other.setattr(provenance, "ANALYZER", "words-0")
        store.ensure(spec())
    with pytest.raises(ConfigError, match=r"text__clip_a__v1 .* words-0.* words-1.*store\.version"):
        connect().ensure(spec())
    assert store.channels() == {JOINT, Channel(Collection.TEXT, Field.PASSAGE), Channel(Collection.TEXT, Field.JOINT)}


@pytest.mark.services
def test_images_have_words_only_in_collections_that_were_created_with_them(connect: Connect) -> None:
    words = Channel(Collection.IMAGE, Field.LEXICAL)
    with_words = frozenset({Collection.TEXT, Collection.IMAGE})
    store = connect()
    if not store.capabilities.lexical:
        pytest.skip("this store has no BM25")
    store.ensure(spec())
    later = connect()
    later.ensure(spec(lexical=with_words))
    later.upsert(Collection.IMAGE, [entry(asset(key="old"), text="EXIT")])
    assert words not in later.channels()
    fresh = connect()
    fresh.ensure(spec(version=2, lexical=with_words))
    fresh.upsert(Collection.IMAGE, [entry(asset(key="sign"), text="EXIT"), entry(asset(key="cat"), title="A cat")])
    fresh.aliases.switch("image", PhysicalCollection("image", 2, "clip_a"))
    assert words in fresh.channels()
    assert [hit.entry.asset.key for hit in fresh.search(lexical("exits", Collection.IMAGE))] == ["sign"]
    assert [hit.entry.asset.key for hit in fresh.search(lexical("cats", Collection.IMAGE))] == ["cat"]


def schema_without_terms(
    fields: tuple[Field, ...], vectors: Mapping[Field, VectorSpec], backend: Backend
) -> CollectionSchema:
    """Returns the columns of a Penstock before analyzers, whose function for BM25 read `text`."""
    built = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    for column in entries_schema(fields, vectors, backend).fields:
        if column.name != schema.TERMS:
            analysed = {"enable_analyzer": True} if column.name == "text" else {}
            described = {name: value for name, value in column.params.items() if name != "enable_analyzer"}
            if column.dtype is DataType.ARRAY:
                described["element_type"] = column.element_type
            built.add_field(column.name, column.dtype, is_primary=column.is_primary, **described, **analysed)
    if Field.LEXICAL in fields:
        built.add_function(Function("bm25", FunctionType.BM25, ["text"], [Field.LEXICAL.value]))
    return built


@pytest.mark.services
@pytest.mark.slow_on_standalone
def test_a_new_version_is_filled_beside_the_one_that_is_served(connect: Connect) -> None:
    old, new = connect(), connect()
    old.ensure(spec())
    old.upsert(Collection.IMAGE, [entry(asset(key="old"))])
    new.ensure(spec(model="clip-b", version=2))
    new.upsert(Collection.IMAGE, [entry(asset(key="new"))])
    new.put_asset_rows([asset_row(asset(key="new"))])
    assert old.count_assets() == 0
    reader = connect()
    reader.use_version(2, [Collection.IMAGE])
    assert {part.asset_id for page in reader.scan_entry_keys(Collection.IMAGE) for part in page} == {
        asset(key="new").id
    }
    assert [row.asset.key for row in all_asset_rows(reader)] == ["new"]
    reader.use_version(1, [Collection.IMAGE])
    assert {part.asset_id for page in reader.scan_entry_keys(Collection.IMAGE) for part in page} == {
        asset(key="old").id
    }
    with pytest.raises(ConfigError, match="no collection asset of version 3"):
        reader.use_version(3, [Collection.IMAGE])
    assert JOINT not in new.channels()  # the alias serves the vectors of another model
    assert JOINT in old.channels()

    hits = old.search(EntryQuery(JOINT, vector(1), Access.to_all_of("default"), None, limit=5, timeout_s=20))
    assert [hit.entry.asset.key for hit in hits] == ["old"]
    first, second = PhysicalCollection("image", 1, "clip_a"), PhysicalCollection("image", 2, "clip_b")
    assert list(new.aliases.candidates("image")) == [first, second]
    assert new.aliases.switch("image", second) == first
    assert new.aliases.served("image") == second
    assert JOINT in new.channels()
    assert JOINT not in old.channels()
    with pytest.raises(ConfigError, match=r"image__clip_c__v3.*There are: image__clip_a__v1, image__clip_b__v2"):
        new.aliases.switch("image", PhysicalCollection("image", 3, "clip_c"))
    assert new.aliases.served("image") == second


@pytest.mark.services
@pytest.mark.slow_on_standalone
def test_the_specification_of_collections_is_read_from_what_they_record(connect: Connect) -> None:
    store = connect()
    with pytest.raises(ConfigError, match="no collections of version 1"):
        store.recorded_spec(1)
    store.ensure(spec(shards=1))
    store.ensure(spec(shards=1, version=2, weights="bbbb"))
    reader = connect()
    for version, weights in ((1, "aaaa"), (2, "bbbb")):
        recorded, expected = reader.recorded_spec(version), spec(shards=1, version=version, weights=weights)
        assert (recorded.version, recorded.num_shards, recorded.model_slug) == (version, 1, expected.model_slug)
        for collection, vectors in expected.vectors.items():
            kept = recorded.vectors[collection]  # a backend may hold the first field alone
            assert list(kept.items()) == [(field, vectors[field]) for field in kept]
            assert Field.JOINT in kept or collection is Collection.TEXT
        assert recorded.lexical == (
            expected.lexical & expected.vectors.keys() if store.capabilities.lexical else frozenset()
        )
        other = connect()
        other.ensure(recorded)  # what a restore does


@pytest.mark.services
@pytest.mark.slow_on_standalone
def test_collections_without_labels_are_refused_at_start(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:  # a Penstock before labels
        patched.setattr(schema, "_add_labels", lambda *_: None)
        patched.setattr(provenance, "check_labels", lambda *_: None)
        connect().ensure(spec())
    one_line = r"collection \w+__v1 is of a Penstock without labels of entries: set store.version to a new number[^\n]*"
    with pytest.raises(ConfigError) as refused:
        connect().ensure(spec())
    assert re.fullmatch(one_line, str(refused.value))
    beside = connect()
    beside.ensure(spec(version=2))
    with pytest.raises(ConfigError, match=one_line):
        beside.channels()


@pytest.mark.services
@pytest.mark.slow_on_standalone
def test_a_collection_that_a_crash_left_unindexed_is_completed(
    connect: Connect, server: LiteServer | Standalone
) -> None:
    first = connect()
    first.ensure(spec())
    client = MilvusClient(server.uri, dedicated=True, db_name=first._connection._database)
    name = "image__clip_a__v1"
    client.release_collection(name)
    client.drop_index(name, "joint")
    client.close()
    second = connect()
    second.ensure(spec())
    second.upsert(Collection.IMAGE, [entry(asset())])
    assert second.search(EntryQuery(JOINT, vector(1), Access.to_all_of("default"), None, limit=1, timeout_s=20))


@pytest.mark.services
def test_shards_are_honoured_where_there_are_any(connect: Connect, server: LiteServer | Standalone) -> None:
    store = connect()
    store.ensure(spec(shards=2))
    client = MilvusClient(server.uri, dedicated=True, db_name=store._connection._database)
    shards = client.describe_collection("image__clip_a__v1")["num_shards"]
    client.close()
    assert shards == (2 if store.capabilities.shards else 1)


@pytest.mark.services
def test_capabilities_are_the_servers(connect: Connect, server: LiteServer | Standalone) -> None:
    capabilities = connect().capabilities
    real = isinstance(server, Standalone)
    assert ("2.3.5" if real else "milvus_lite-") in capabilities.product
    assert (capabilities.lexical, capabilities.shards, capabilities.concurrent_writes) == (not real, real, real)
    assert capabilities.vector_fields == (1 if real else 4)


@pytest.mark.services
@pytest.mark.slow_on_standalone
def test_lookups_and_scans_are_strongly_consistent(connect: Connect) -> None:
    store = connect("Bounded")
    store.ensure(spec())
    for round_ in range(1, 4):
        entries = [entry(asset(key=f"{round_}-{n}")) for n in range(400)]
        store.upsert(Collection.IMAGE, entries)
        store.put_asset_rows([asset_row(written.asset) for written in entries])
        assert sum(map(len, store.scan_entry_keys(Collection.IMAGE, batch=300))) == 400 * round_
        assert sum(map(len, store.scan_asset_states(batch=300))) == 400 * round_
        store.upsert(Collection.IMAGE, [entry(asset(key=f"{round_}-0"), part=1)])
        assert len(store.entry_ids(Collection.IMAGE, [asset(key=f"{round_}-0").id])[asset(key=f"{round_}-0").id]) == 2
        store.delete(Collection.IMAGE, [entry(asset(key=f"{round_}-0"), part=1).id])
        assert store.count(Collection.IMAGE) == 400 * round_


@pytest.mark.services
@pytest.mark.slow_on_standalone
def test_a_kill_loses_nothing_and_the_same_store_continues(connect: Connect, server: LiteServer | Standalone) -> None:
    store = connect()
    store.ensure(spec())
    store.upsert(Collection.IMAGE, [entry(asset(key=str(n))) for n in range(300)])
    store.delete(Collection.IMAGE, [entry(asset(key="0")).id])
    store.put_asset_rows([asset_row(asset(key=str(n))) for n in range(300)])
    server.kill()
    try:
        started_s = time.monotonic()
        with pytest.raises(UnavailableError, match=r"searching|reading"):
            store.count(Collection.IMAGE)
        assert time.monotonic() - started_s < 5
    finally:
        server.restart()
    deadline = time.monotonic() + 60
    while True:
        try:
            assert store.count(Collection.IMAGE) == 299
            break
        except UnavailableError:
            assert time.monotonic() < deadline
    assert store.count_assets() == 300
    assert (
        len(store.search(EntryQuery(JOINT, vector(1), Access.to_all_of("default"), None, limit=400, timeout_s=20)))
        == 299
    )
    assert store.entry_ids(Collection.IMAGE, [asset(key="1").id]) == {
        asset(key="1").id: frozenset({entry(asset(key="1")).id})
    }


@pytest.mark.services
def test_a_store_that_does_not_answer_raises_after_the_timeout(server: LiteServer | Standalone) -> None:
    store = MilvusStore(StoreSettings(uri=server.uri, timeout_s=2.0))
    store.ensure(spec())
    assert JOINT in store.channels()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    while psutil.Process(server.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    try:
        started_s = time.monotonic()
        with pytest.raises(UnavailableError, match="deadline exceeded"):
            store.count(Collection.IMAGE)
        with pytest.raises(UnavailableError):
            store.search(EntryQuery(JOINT, vector(1), Access.to_all_of("default"), None, limit=1, timeout_s=0.5))
        with pytest.raises(UnavailableError):
            store.entries(["0" * 32], access=Access.to_all_of("default"), timeout_s=0.3)
        with pytest.raises(UnavailableError):
            store.vectors(JOINT, ["0" * 32], access=Access.to_all_of("default"), timeout_s=0.3)
        assert time.monotonic() - started_s < 5
    finally:
        os.kill(server.pid, signal.SIGCONT)
    store.close()


def test_an_address_without_a_server_is_noticed_immediately() -> None:
    store = MilvusStore(StoreSettings(uri=f"http://127.0.0.1:{free_port()}"))
    started_s = time.monotonic()
    with pytest.raises(UnavailableError, match="connecting"):
        store.ping()
    assert time.monotonic() - started_s < 10


def test_a_store_without_an_address_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"store\.uri"):
        MilvusStore(StoreSettings())
