"""Aliases, and stores that search one version whatever the aliases serve: the double and the real stores alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

import pytest

from penstock.errors import ConfigError
from penstock.records import Access, Channel, Collection, Field
from penstock.store import provenance, rows
from penstock.store.base import EntryQuery, IndexSpec
from penstock.store.filters import Comparison
from penstock.store.memory import MemoryStore
from penstock.store.milvus.store import MilvusStore
from penstock.store.names import PhysicalCollection
from tests.store.builders import asset, asset_row, entry, spec, vector
from tests.store.conftest import SERVERS, stores_on

JOINT = Channel(Collection.IMAGE, Field.JOINT)
ALL = Access.to_all_of("default")
Opened: TypeAlias = MemoryStore | MilvusStore
Open: TypeAlias = Callable[[int | None], Opened]


@pytest.fixture(params=["memory", *SERVERS])
def opened(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens stores on the same empty backend, each of which searches one version, or by alias."""
    if request.param == "memory":
        first = MemoryStore()
        yield lambda version: MemoryStore(beside=first, version=version)
        return
    with stores_on(request.getfixturevalue(request.param).uri) as make:
        yield lambda version: make(version=version)


def fill(store: Opened, version: int, model: str) -> None:
    store.ensure(spec(model=model, version=version))
    named = entry(asset(key=f"of version {version}"), text=f"word{version}")
    words = entry(asset(key="words"), collection=Collection.TEXT, text=f"heron word{version}")
    store.upsert(Collection.IMAGE, [named])
    store.upsert(Collection.TEXT, [words])
    store.put_asset_rows([asset_row(named.asset)])


def found(store: Opened) -> list[str]:
    hits = store.search(EntryQuery(JOINT, vector(1), ALL, None, limit=5, timeout_s=20))
    return [hit.entry.asset.key for hit in hits]


def check_reads(store: Opened, version: int) -> None:
    """Checks that every kind of read is of one version."""
    key = f"of version {version}"
    own = entry(asset(key=key))
    assert found(store) == [key]
    assert set(store.entries([own.id], access=ALL, timeout_s=20)) == {own.id}
    other = entry(asset(key=f"of version {3 - version}"))
    assert store.entries([other.id], access=ALL, timeout_s=20) == {}
    assert set(store.vectors(JOINT, [own.id, other.id], access=ALL, timeout_s=20)) == {own.id}
    texts = store.texts(Collection.TEXT, access=ALL, after="", limit=5, timeout_s=20)
    assert [text.text for text in texts] == [f"heron word{version}"]
    where = Comparison("key", "eq", key)
    assert [image.asset.key for image in store.select(Collection.IMAGE, where, access=ALL, limit=5, timeout_s=20)] == [
        key
    ]
    assert store.assets_in(Collection.IMAGE, ALL) == 1


@pytest.mark.slow_on_standalone
def test_a_store_of_one_version_reads_its_version_whatever_the_aliases_serve(opened: Open) -> None:
    fill(opened(None), 1, "clip-a")
    fill(opened(None), 2, "clip-b")
    by_alias, old, new = opened(None), opened(1), opened(2)
    old.ensure(spec())
    new.ensure(spec(model="clip-b", version=2))
    for served in (1, 2, 1):
        for alias, slug in (("image", True), ("text", True), ("asset", False)):
            model = {1: "clip_a", 2: "clip_b"}[served] if slug else ""
            by_alias.aliases.switch(alias, PhysicalCollection(alias, served, model))
        assert JOINT in old.channels() & new.channels()
        check_reads(old, 1)
        check_reads(new, 2)
        assert found(by_alias) == [f"of version {served}"]


@pytest.mark.slow_on_standalone
def test_a_store_of_one_version_finds_its_collections_without_their_models(opened: Open) -> None:
    fill(opened(None), 1, "clip-a")
    fill(opened(None), 2, "clip-b")
    assert found(opened(2)) == ["of version 2"]
    assert found(opened(1)) == ["of version 1"]


@pytest.mark.slow_on_standalone
def test_a_store_of_a_version_that_does_not_exist_finds_nothing(opened: Open) -> None:
    fill(opened(None), 1, "clip-a")
    store = opened(3)
    assert store.channels() == frozenset()
    assert store.entries([entry(asset(key="of version 1")).id], access=ALL, timeout_s=20) == {}
    assert store.texts(Collection.TEXT, access=ALL, after="", limit=5, timeout_s=20) == []
    with pytest.raises(ConfigError):
        found(store)


@pytest.mark.slow_on_standalone
def test_aliases_are_created_altered_and_dropped_one_by_one(opened: Open) -> None:
    store = opened(None)
    fill(store, 1, "clip-a")
    fill(opened(None), 2, "clip-b")
    aliases = store.aliases
    first, second = PhysicalCollection("image", 1, "clip_a"), PhysicalCollection("image", 2, "clip_b")
    assert list(aliases.candidates("image")) == [first, second]
    assert aliases.served("image") == first
    assert aliases.switch("image", second) == first
    assert aliases.served("image") == second
    with pytest.raises(ConfigError, match="image cannot be served by image__clip_c__v3"):
        aliases.switch("image", PhysicalCollection("image", 3, "clip_c"))
    aliases.drop("image")
    aliases.drop("image")
    assert aliases.served("image") is None
    assert list(aliases.candidates("image")) == [first, second]
    assert aliases.switch("image", first) is None
    assert aliases.served("image") == first
    aliases.move("image", first, second)
    assert aliases.served("image") == second
    aliases.drop("image")
    aliases.move("image", None, first)
    assert aliases.served("image") == first


@pytest.mark.slow_on_standalone
def test_an_alias_is_redirected_in_one_request_and_refused_where_nothing_could_be_served(opened: Open) -> None:
    store = opened(None)
    fill(store, 1, "clip-a")
    fill(opened(None), 2, "clip-b")
    aliases = store.aliases
    first, second = PhysicalCollection("image", 1, "clip_a"), PhysicalCollection("image", 2, "clip_b")
    for to in (second, second, first):
        aliases.redirect("image", to)
        assert aliases.served("image") == to
    with pytest.raises(ConfigError, match="image cannot be served by image__clip_c__v3"):
        aliases.redirect("image", PhysicalCollection("image", 3, "clip_c"))
    with pytest.raises(ConfigError, match="image cannot be served by asset__v2"):
        aliases.redirect("image", PhysicalCollection("asset", 2))
    assert aliases.served("image") == first
    aliases.drop("image")
    aliases.redirect("image", second)
    assert aliases.served("image") == second


@pytest.mark.slow_on_standalone
def test_all_collections_are_listed_at_once(opened: Open) -> None:
    fill(opened(None), 1, "clip-a")
    fill(opened(None), 2, "clip-b")
    aliases = opened(None).aliases
    collections = list(aliases.collections())
    assert collections == sorted(collections)
    for alias in ("asset", "image", "text"):
        assert [name for name in collections if name.alias == alias] == list(aliases.candidates(alias))
        assert len(aliases.candidates(alias)) == 2


@pytest.mark.slow_on_standalone
def test_only_a_version_that_is_not_served_is_removed(opened: Open) -> None:
    store = opened(None)
    fill(store, 1, "clip-a")
    fill(opened(None), 2, "clip-b")
    aliases = store.aliases
    first, second = PhysicalCollection("image", 1, "clip_a"), PhysicalCollection("image", 2, "clip_b")
    with pytest.raises(ConfigError, match="is of the version that is served"):
        aliases.remove(first)
    aliases.switch("image", second)
    aliases.remove(second)
    aliases.remove(second)
    assert list(aliases.candidates("image")) == [first]
    assert aliases.served("image") is None


@pytest.mark.slow_on_standalone
def test_a_version_that_is_filled_beside_the_served_one_takes_no_alias(opened: Open) -> None:
    images_alone = spec()
    store = opened(None)
    store.ensure(
        type(images_alone)(
            {Collection.IMAGE: images_alone.vectors[Collection.IMAGE]},
            {Collection.IMAGE: "clip_a"},
            version=1,
            num_shards=2,
        )
    )
    fill(opened(None), 2, "clip-b")
    assert store.aliases.served("text") is None
    assert store.aliases.served("asset") == PhysicalCollection("asset", 1)


@pytest.mark.services
@pytest.mark.slow_on_standalone
def test_a_collection_of_another_release_is_refused_at_start(
    connect: Callable[..., MilvusStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect().ensure(spec())
    earlier, later = provenance.SCHEMA, provenance.SCHEMA + 1
    monkeypatch.setattr(provenance, "SCHEMA", later)
    refusal = rf"has schema {earlier}, and this Penstock needs schema {later}: [^\n]*penstock reindex"
    with pytest.raises(ConfigError, match=refusal):
        connect().ensure(spec())
    beside = connect()
    beside.ensure(spec(version=2))
    assert beside.count(Collection.IMAGE) == 0


def with_images_of(*collections: Collection, version: int = 1) -> IndexSpec:
    """The specification of tests, with further collections of images."""
    plain = spec(version=version)
    return replace(
        plain,
        vectors={**plain.vectors, **dict.fromkeys(collections, plain.vectors[Collection.IMAGE])},
        model_slug={**plain.model_slug, **dict.fromkeys(collections, plain.model_slug[Collection.IMAGE])},
    )


@pytest.mark.services
@pytest.mark.slow_on_standalone
def test_an_index_before_documents_is_read_and_its_media_are_known(
    connect: Callable[..., MilvusStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A re-index fills another version from its entries."""
    earlier, added = with_images_of(Collection.FRAME), {"page", "page_label", "figure"}
    shown = replace(entry(asset(key="a"), collection=Collection.FRAME), thumbnail="asset:ff")
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "SCHEMA", 1)
        patch.setattr(rows, "ENTRY_STRINGS", tuple(name for name in rows.ENTRY_STRINGS if name not in added))
        patch.setattr(rows, "ENTRY_INTEGERS", tuple(name for name in rows.ENTRY_INTEGERS if name not in added))
        row_of = rows.entry_row
        patch.setattr(
            rows, "entry_row", lambda of: {name: value for name, value in row_of(of).items() if name not in added}
        )
        first = connect()
        first.ensure(earlier)
        first.upsert(Collection.FRAME, [shown])
        first.put_asset_rows([asset_row(shown.asset)])
    with pytest.raises(ConfigError, match="has schema 1, and this Penstock needs schema 2"):
        connect().ensure(earlier)
    connect().ensure(with_images_of(Collection.FRAME, Collection.PAGE, version=2))
    reader = connect()
    reader.use_version(1, reader.collections_of(1))
    (read,) = reader.get(Collection.FRAME, [shown.id])
    assert (read.thumbnail, read.page, read.page_label, read.figure) == ("asset:ff", 0, "", 0)
    assert [other.id for page in reader.scan_entries(Collection.FRAME) for other in page] == [shown.id]
    assert "asset:ff" in {uri for page in reader.scan_media() for uri in page}
