"""Fusion: properties of any rankings (hypothesis), and the cases that decided its design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.query.fusion.base import MomentRules, channel_weights
from penstock.query.types import Hit
from penstock.records import AssetRef, Channel, Collection, Entry, Field, Position, ScoredEntry, bare_entry
from tests.query.fusion.ranking import K, rank_hits

TEXT_PASSAGE = Channel(Collection.TEXT, Field.PASSAGE)
TEXT_JOINT = Channel(Collection.TEXT, Field.JOINT)
TEXT_LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)
IMAGE_JOINT = Channel(Collection.IMAGE, Field.JOINT)
SPEECH_PASSAGE = Channel(Collection.SPEECH, Field.PASSAGE)
SPEECH_LEXICAL = Channel(Collection.SPEECH, Field.LEXICAL)
CHANNELS = (TEXT_PASSAGE, TEXT_JOINT, TEXT_LEXICAL, IMAGE_JOINT, SPEECH_PASSAGE, SPEECH_LEXICAL)
SPACES = {
    TEXT_PASSAGE: "minilm",
    TEXT_JOINT: "clip",
    TEXT_LEXICAL: "lexical",
    IMAGE_JOINT: "clip",
    SPEECH_PASSAGE: "minilm",
    SPEECH_LEXICAL: "lexical",
}


def entry(collection: Collection, number: int) -> Entry:
    asset = AssetRef("default", f"media.{collection}", str(number))
    return replace(
        bare_entry(asset, collection), id=f"{collection}-{number:03}", origin=Position(asset.topic, 0, number)
    )


def ranking(channel: Channel, numbers: Sequence[int]) -> list[ScoredEntry]:
    return [
        ScoredEntry(entry(channel.collection, number), score=1.0 - rank / 100) for rank, number in enumerate(numbers)
    ]


def run(
    rankings: Mapping[Channel, Sequence[int]],
    *,
    spaces: Mapping[Channel, str] = SPACES,
    weights: Mapping[Collection, float] | None = None,
    limit: int = 1000,
) -> list[Hit]:
    return rank_hits(
        {channel: ranking(channel, numbers) for channel, numbers in rankings.items()},
        spaces=spaces,
        weights=weights,
        moments=MomentRules(max_gap_ms=5_000, max_ms=60_000),
        limit=limit,
    )


def score_of(hits: Sequence[Hit], collection: Collection, number: int) -> float:
    return next(hit.score for hit in hits if hit.entry.id == f"{collection}-{number:03}")


any_ranking = st.lists(st.integers(0, 15), unique=True, max_size=16)
any_rankings = st.dictionaries(st.sampled_from(CHANNELS), any_ranking)


@given(any_rankings, st.randoms())
def test_the_order_of_channels_changes_nothing(rankings: dict[Channel, list[int]], random: object) -> None:
    shuffled = list(rankings.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert run(dict(shuffled)) == run(rankings)


@given(any_rankings, st.data())
def test_a_better_rank_never_lowers_a_score(rankings: dict[Channel, list[int]], data: st.DataObject) -> None:
    movable = [channel for channel, numbers in rankings.items() if len(numbers) > 1]
    if not movable:
        return
    channel = data.draw(st.sampled_from(movable))
    rank = data.draw(st.integers(1, len(rankings[channel]) - 1))
    number = rankings[channel][rank]
    better_rank = data.draw(st.integers(0, rank - 1))
    moved = [other for other in rankings[channel] if other != number]
    moved.insert(better_rank, number)
    before = score_of(run(rankings), channel.collection, number)
    after = score_of(run({**rankings, channel: moved}), channel.collection, number)
    assert after >= before


@given(any_rankings, any_ranking, st.integers(0, 15))
def test_being_found_by_one_more_channel_never_lowers_a_score(
    rankings: dict[Channel, list[int]], lexical: list[int], number: int
) -> None:
    without = {**rankings, TEXT_LEXICAL: [other for other in lexical if other != number], TEXT_PASSAGE: [number, 20]}
    with_lexical = {**without, TEXT_LEXICAL: [*without[TEXT_LEXICAL], number]}
    assert score_of(run(with_lexical), Collection.TEXT, number) >= score_of(run(without), Collection.TEXT, number)


@given(any_rankings)
def test_every_entry_is_a_hit_once_with_each_rank_and_score_it_had(rankings: dict[Channel, list[int]]) -> None:
    hits = run(rankings)
    ids = [hit.entry.id for hit in hits]
    assert len(ids) == len(set(ids))
    explained = {
        (str(channel_hit.channel), hit.entry.id, channel_hit.rank) for hit in hits for channel_hit in hit.found_by
    }
    assert explained == {
        (str(channel), entry(channel.collection, number).id, rank)
        for channel, numbers in rankings.items()
        for rank, number in enumerate(numbers, start=1)
    }


@given(any_rankings)
def test_scores_fall_and_are_those_of_reciprocal_ranks_in_each_collection(rankings: dict[Channel, list[int]]) -> None:
    hits = run(rankings)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for collection in Collection:
        own = [hit.score for hit in hits if hit.entry.collection is collection]
        assert own == pytest.approx([1 / (K + place) for place in range(1, len(own) + 1)])


@given(st.sets(st.sampled_from([TEXT_PASSAGE, TEXT_JOINT, TEXT_LEXICAL]), min_size=1), st.data())
def test_the_channel_weights_of_a_collection_add_up_to_one_however_many_channels_it_has(
    channels: set[Channel], data: st.DataObject
) -> None:
    spaces = {channel: data.draw(st.sampled_from(["one", "two", "three"])) for channel in channels}
    weights = channel_weights(sorted(channels), spaces)
    assert sum(weights.values()) == pytest.approx(1.0)
    by_space: dict[str, float] = {}
    for channel, weight in weights.items():
        by_space[spaces[channel]] = by_space.get(spaces[channel], 0.0) + weight
    assert list(by_space.values()) == pytest.approx([1 / len(by_space)] * len(by_space))


def test_two_channels_of_one_space_count_once() -> None:
    weights = channel_weights(
        [TEXT_PASSAGE, TEXT_JOINT, TEXT_LEXICAL], {TEXT_PASSAGE: "m", TEXT_JOINT: "m", TEXT_LEXICAL: "lexical"}
    )
    assert weights == {TEXT_PASSAGE: 0.25, TEXT_JOINT: 0.25, TEXT_LEXICAL: 0.5}


def test_a_missing_channel_leaves_its_weight_to_its_own_collection() -> None:
    full = run({TEXT_PASSAGE: [1, 2], TEXT_LEXICAL: [1, 2], IMAGE_JOINT: [1, 2]})
    degraded = run({TEXT_PASSAGE: [1, 2], IMAGE_JOINT: [1, 2]})
    assert [(hit.entry.id, hit.score) for hit in degraded] == [(hit.entry.id, hit.score) for hit in full]


def test_collections_take_turns_however_many_channels_found_their_entries() -> None:
    """In one stage all fifty images would rank above a text that only one of two channels found."""
    hits = run({TEXT_PASSAGE: [1, 2, 3], TEXT_LEXICAL: [4, 5, 6], IMAGE_JOINT: range(50)}, limit=10)
    assert [hit.entry.collection for hit in hits].count(Collection.TEXT) == 5
    assert {hits[0].entry.collection, hits[1].entry.collection} == {Collection.TEXT, Collection.IMAGE}


def test_an_entry_of_two_channels_ranks_above_an_entry_of_one_channel_at_the_same_rank() -> None:
    hits = run({TEXT_PASSAGE: [7, 1], TEXT_LEXICAL: [8, 1]})
    assert hits[0].entry.id == "text-001"


def test_the_best_entry_of_one_channel_ranks_above_the_last_entries_of_two() -> None:
    """If a channel that does not return an entry counted as zero, the best passage would come after 30 poor ones."""
    ends = list(range(20, 50))
    hits = run({TEXT_PASSAGE: [1, *range(100, 119), *ends], TEXT_LEXICAL: [*range(200, 220), *ends]})
    assert hits[0].entry.id == "text-001"


def test_a_channel_that_finds_nothing_changes_no_order() -> None:
    alone = run({TEXT_PASSAGE: [3, 1, 2]})
    with_empty = run({TEXT_PASSAGE: [3, 1, 2], TEXT_LEXICAL: []})
    assert [hit.entry.id for hit in with_empty] == [hit.entry.id for hit in alone]


def test_a_heavier_collection_goes_first() -> None:
    hits = run({TEXT_PASSAGE: [1], IMAGE_JOINT: [1]}, weights={Collection.TEXT: 1.1})
    assert [hit.entry.collection for hit in hits] == [Collection.TEXT, Collection.IMAGE]


def test_ties_are_broken_the_same_way_every_time() -> None:
    hits = run({TEXT_PASSAGE: [2, 1], TEXT_LEXICAL: [1, 2]})
    assert [hit.entry.id for hit in hits] == ["text-002", "text-001"]  # the first channel of `FIELDS_OF` decides


def test_no_entries_give_no_hits() -> None:
    assert run({}) == []
    assert run({TEXT_PASSAGE: [], IMAGE_JOINT: []}) == []
