"""Tests of promoted adapters: which is used for which question, how a plane follows them, and what it refuses."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.assets import AssetStore
from penstock.config import QuerySettings
from penstock.encoders.profiles import load_profile
from penstock.encoders.transform import LayeredTransform, linear_transform
from penstock.errors import ConfigError, QueryError, UnavailableError, UsageError
from penstock.query.adapters import (
    NOTE,
    AdapterFollower,
    AdapterSet,
    LoadedAdapter,
    Promotions,
    put_card,
    put_transform,
    question_language,
    read_card,
    read_promotions,
    write_promotions,
)
from penstock.query.embed import question_vector, start_embedding
from penstock.query.parts.inputs import TextInput
from penstock.query.pipeline import QueryPipeline
from penstock.query.types import ChannelQuery, SearchRequest, SearchResult
from penstock.records import Channel, Collection, Field, Float32
from tests.query.conftest import FaultyStore, WordEncoder, word_vector
from tests.query.made_adapters import ENCODER, loaded_adapter, promotion, turn

VECTOR = np.array([0.6, 0.8, 0.0, 0.0], dtype=np.float32)
JAPANESE, ENGLISH = "ばんごう について", "what does the library say about that"


@pytest.fixture
def assets(tmp_path: Path) -> AssetStore:
    return AssetStore((tmp_path / "assets").as_uri())


def promote(assets: AssetStore, transform: LayeredTransform, name: str = "made", **slot: object) -> None:
    """Does what the command does after the gate."""
    put_transform(assets, transform)
    write_promotions(assets, read_promotions(assets).promoted(promotion(transform, name, **slot)))  # type: ignore[arg-type]


def follow(assets: AssetStore, index_version: int = 1) -> AdapterFollower:
    return AdapterFollower(assets, index_version, {"passage.text": ENCODER}, interval_s=None)


def test_an_adapter_of_the_language_comes_before_one_of_all_questions() -> None:
    general, japanese = loaded_adapter("general"), loaded_adapter("japanese", lang="ja")
    adapters = AdapterSet([general, japanese])
    adapted = {text: adapters.adapt("passage.query", Field.PASSAGE, text, VECTOR) for text in (JAPANESE, ENGLISH)}
    assert (adapted[JAPANESE] == japanese.transform.apply(VECTOR[None])[0]).all()
    assert (adapted[ENGLISH] == general.transform.apply(VECTOR[None])[0]).all()


def test_questions_without_an_adapter_keep_their_vector() -> None:
    adapters = AdapterSet([loaded_adapter("japanese", lang="ja")])
    assert adapters.adapt("passage.text", Field.PASSAGE, ENGLISH, VECTOR) is VECTOR
    assert adapters.adapt("passage.text", Field.JOINT, JAPANESE, VECTOR) is VECTOR
    assert adapters.adapt("joint.text", Field.PASSAGE, JAPANESE, VECTOR) is VECTOR
    assert AdapterSet().digest == ""


def test_different_sets_have_different_digests() -> None:
    first, second, japanese = loaded_adapter("a"), loaded_adapter("b"), loaded_adapter("a", lang="ja")
    sets: list[list[LoadedAdapter]] = [[], [first], [second], [japanese], [first, japanese]]
    assert len({AdapterSet(adapters).digest for adapters in sets}) == 5


@pytest.mark.parametrize(
    ("text", "language"),
    [(JAPANESE, "ja"), ("Тема", "ru"), (ENGLISH, "en"), ("heron", None), ("42", None), ("한국어", "ko")],
)
def test_the_language_of_a_question(text: str, language: str | None) -> None:
    assert question_language(text) == language


def test_a_plane_uses_what_is_promoted_while_it_runs_and_what_is_rolled_back(assets: AssetStore) -> None:
    follower = follow(assets)
    assert follower().promotions == ()
    first, second = (loaded_adapter(name).transform for name in ("first", "second"))
    assert isinstance(first, LayeredTransform)
    assert isinstance(second, LayeredTransform)
    promote(assets, first, "first")
    assert follower().promotions == (), "nothing changes in the middle of a question"
    follower.refresh()
    assert [used.name for used in follower().promotions] == ["first"]
    promote(assets, second, "second")
    follower.refresh()
    assert [used.name for used in follower().promotions] == ["second"], "one adapter of a slot"
    for expected in (["first"], []):
        promotions, _ = read_promotions(assets).rolled_back()
        write_promotions(assets, promotions)
        follower.refresh()
        assert [used.name for used in follower().promotions] == expected


def test_an_unchanged_note_loads_nothing_again(assets: AssetStore) -> None:
    promote(assets, linear_transform(np.eye(4, dtype=np.float32)))
    follower = follow(assets)
    before = follower()
    follower.refresh()
    assert follower() is before


def test_an_adapter_of_another_version_of_the_index_is_not_used(assets: AssetStore) -> None:
    promote(assets, linear_transform(np.eye(4, dtype=np.float32)), index_version=2)
    assert follow(assets, index_version=1)().promotions == ()
    assert len(follow(assets, index_version=2)().promotions) == 1


def test_an_adapter_of_another_encoder_is_refused_at_start(assets: AssetStore) -> None:
    promote(assets, linear_transform(np.eye(4, dtype=np.float32)), "clicks-ja")
    other = {"passage.text": replace(ENCODER, weights="f" * 16)}
    with pytest.raises(ConfigError, match=r"adapter clicks-ja was fitted to passage.text made/encoder .* rollback"):
        AdapterFollower(assets, 1, other, interval_s=None)
    with pytest.raises(ConfigError, match="this plane has no encoder"):
        AdapterFollower(assets, 1, {}, interval_s=None)


def test_a_missing_or_exchanged_file_is_refused(assets: AssetStore) -> None:
    transform = linear_transform(np.eye(4, dtype=np.float32))
    write_promotions(assets, Promotions((promotion(transform),)))
    with pytest.raises(ConfigError, match="is not in the asset store"):
        follow(assets)
    other = loaded_adapter("other").transform
    assert isinstance(other, LayeredTransform)
    put_transform(assets, other)
    data = assets.note(f"adapter-{other.fingerprint}.safetensors")
    assert data is not None
    assets.put_note(f"adapter-{transform.fingerprint}.safetensors", data)
    with pytest.raises(ConfigError, match="is another adapter"):
        follow(assets)


@pytest.mark.parametrize(
    ("note", "message"),
    [(b"{", "is damaged"), (b'{"schema": 2, "promotions": []}', "has schema 2"), (b"[1]", "is damaged")],
)
def test_a_damaged_note_and_one_of_a_newer_penstock_are_refused(assets: AssetStore, note: bytes, message: str) -> None:
    assets.put_note(NOTE, note)
    with pytest.raises(ConfigError, match=message):
        follow(assets)


def test_a_running_plane_keeps_its_adapters_when_the_next_ones_cannot_be_used(
    assets: AssetStore, caplog: pytest.LogCaptureFixture
) -> None:
    promote(assets, linear_transform(np.eye(4, dtype=np.float32)), "good")
    follower = follow(assets)
    assets.put_note(NOTE, b"{")
    with pytest.raises(ConfigError):
        follower.refresh()
    assert [used.name for used in follower().promotions] == ["good"]
    with caplog.at_level(logging.WARNING):
        follower.look()
        follower.look()
    (record,) = caplog.records  # the same reason is logged once
    assert "the adapters stay as they are" in record.message


def test_a_plane_starts_without_the_asset_store_and_looks_again() -> None:
    class Down:
        def __init__(self) -> None:
            self.is_down = True

        def note(self, name: str) -> bytes | None:
            if self.is_down:
                raise UnavailableError("the asset store is down")
            return None

        def put_note(self, name: str, data: bytes) -> None:
            raise AssertionError

    down = Down()
    follower = AdapterFollower(down, 1, {}, interval_s=None)
    assert follower().promotions == ()
    down.is_down = False
    follower.refresh()


def test_a_follower_looks_by_itself(assets: AssetStore) -> None:
    looked = threading.Event()

    class Watched:
        def note(self, name: str) -> bytes | None:
            data = assets.note(name)
            if name.endswith("safetensors"):
                looked.set()
            return data

        def put_note(self, name: str, data: bytes) -> None:
            assets.put_note(name, data)

    follower = AdapterFollower(Watched(), 1, {"passage.text": ENCODER}, interval_s=0.01)
    try:
        promote(assets, linear_transform(np.eye(4, dtype=np.float32)))
        assert looked.wait(10)
    finally:
        follower.close()


def test_only_the_adapter_in_use_is_rolled_back() -> None:
    first, second = (promotion(linear_transform(np.eye(4, dtype=np.float32)), name) for name in ("first", "second"))
    japanese = replace(first, name="japanese", lang="ja")
    promotions = Promotions((first, japanese, second))
    assert promotions.active(1) == (second, japanese)
    assert promotions.rolled_back()[1] == second
    assert promotions.rolled_back("japanese")[0] == Promotions((first, second))
    with pytest.raises(UsageError, match="second came after it"):
        promotions.rolled_back("first")
    with pytest.raises(UsageError, match="no adapter third is promoted"):
        promotions.rolled_back("third")
    with pytest.raises(UsageError, match="no adapter is promoted"):
        Promotions().rolled_back()


def test_cards_are_kept_by_fingerprint(assets: AssetStore) -> None:
    assert read_card(assets, "ab") is None
    put_card(assets, "ab", b"card")
    assert read_card(assets, "ab") == b"card"


# --- in a pipeline ---------------------------------------------------------------------------------------------------

PASSAGES = frozenset({Channel(Collection.TEXT, Field.PASSAGE)})
REFERENCE = load_profile("reference")


class Plane:
    """A pipeline whose adapters can be exchanged."""

    def __init__(self) -> None:
        self.store: Any = FaultyStore(PASSAGES)
        for word in ("heron", "fish", "market", "fog"):
            self.store.add(Collection.TEXT, word)
        self.encoder = WordEncoder()
        self.adapters = AdapterSet()

    def search(self, text: str, *, limit: int = 2, cursor: str | None = None) -> SearchResult:
        async def run() -> SearchResult:
            settings = QuerySettings(max_lag_ms=0)
            pipeline = QueryPipeline(self.store, self.encoder, REFERENCE, settings, adapters=lambda: self.adapters)
            try:
                return await pipeline.search(SearchRequest(text=text, limit=limit, cursor=cursor))
            finally:
                pipeline.close()

        return asyncio.run(run())

    def use(self, target: str) -> None:
        transform = turn(word_vector("aosagi"), word_vector(target))
        self.adapters = AdapterSet([LoadedAdapter(promotion(transform), transform)])


def test_the_next_question_is_searched_with_the_adapter() -> None:
    plane = Plane()
    plane.search("aosagi")
    for target in ("heron", "fog"):
        plane.use(target)
        assert plane.search("aosagi").hits[0].entry.text == target


def test_the_encoder_is_asked_once_for_a_text() -> None:
    plane = Plane()
    plane.use("heron")
    plane.search("aosagi")
    assert len(plane.encoder.calls) == 1


def test_a_page_of_other_adapters_is_not_continued() -> None:
    plane = Plane()
    cursor = plane.search("aosagi").next_cursor
    assert cursor is not None
    assert len(plane.search("aosagi", cursor=cursor).hits) == 2
    plane.use("heron")
    with pytest.raises(QueryError, match="other adapters") as caught:
        plane.search("aosagi", cursor=cursor)
    assert caught.value.status == 410


def test_routing_compares_the_question_as_the_encoder_gives_it() -> None:
    plane = Plane()
    plane.use("heron")
    channel = Channel(Collection.TEXT, Field.PASSAGE)
    planned = ChannelQuery(channel, "space", TextInput("passage.text", "aosagi", Field.PASSAGE))

    async def run() -> tuple[Float32, Float32 | None]:
        with start_embedding(plane.encoder, [planned], on_done=lambda: None, adapters=plane.adapters) as vectors:
            return await vectors[planned.search_for], question_vector(vectors, "aosagi")  # type: ignore[index]

    searched, compared = asyncio.run(run())
    np.testing.assert_allclose(searched, word_vector("heron"), atol=1e-5)
    assert compared is not None
    assert (compared == word_vector("aosagi")).all()
