"""Fusion by scores: properties of any rankings (hypothesis), and the cases that decided its design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config import FusionMethod, Normalisation
from penstock.query.fusion.base import Candidate, Fusion, MomentRules
from penstock.query.fusion.calibration import (
    Calibration,
    ChannelCalibration,
    CollectionCalibration,
    LogisticMap,
    Provenance,
)
from penstock.query.fusion.choose import FusionChooser, RunningFusion
from penstock.query.fusion.statistics import ChannelStatistics, Spread
from penstock.query.types import FuseOptions, Rankings
from penstock.records import Channel, Collection, Field, ScoredEntry
from tests.query.fusion.test_rrf import CHANNELS, IMAGE_JOINT, SPACES, TEXT_JOINT, TEXT_LEXICAL, TEXT_PASSAGE, entry

RULES = MomentRules(max_gap_ms=5_000, max_ms=60_000)
USUAL = {channel: Spread(4.0, 2.0) if channel.field is Field.LEXICAL else Spread(0.3, 0.1) for channel in CHANNELS}
CALIBRATION = Calibration(
    {
        channel: ChannelCalibration(
            LogisticMap(1.0, -8.0) if channel.field is Field.LEXICAL else LogisticMap(15.0, -9.0),
            -6.0,
            USUAL[channel].mean,
            USUAL[channel].deviation,
            "",
            "",
        )
        for channel in CHANNELS
    },
    {collection: CollectionCalibration(-4.0, 0.8) for collection in Collection},
    Provenance({}, 100, 0, "reference"),
)

Scores = Mapping[Channel, Mapping[int, float]]


def rankings_of(scores: Scores) -> Rankings:
    by_channel = {
        channel: [
            ScoredEntry(entry(channel.collection, number), score)
            for number, score in sorted(of_channel.items(), key=lambda item: (-item[1], item[0]))
        ]
        for channel, of_channel in scores.items()
    }
    return Rankings(by_channel, {}, dict.fromkeys(Collection, 50), SPACES)


def fusion(normalise: Normalisation, **options: object) -> Fusion:
    """Returns a fusion that never counts, so that equal rankings have equal results. The calibration has the priors."""
    return _Chosen(
        FusionChooser(ChannelStatistics(), CALIBRATION),
        FuseOptions(FusionMethod.WEIGHTED, normalise, **options),  # type: ignore[arg-type]
    )


class _Chosen:
    def __init__(self, chooser: FusionChooser, options: FuseOptions) -> None:
        self.chooser, self.options = chooser, options

    def rank(self, rankings: Rankings, rules: MomentRules, limit: int) -> list[tuple[float, Candidate]]:
        return self.chooser.choose(self.options, rankings).rank(rankings, rules, limit)


def run(scores: Scores, normalise: Normalisation = Normalisation.Z_BY_CHANNEL, **options: object) -> list[str]:
    """Returns the ids of the best entries, best first."""
    return [candidate.best.id for _, candidate in fusion(normalise, **options).rank(rankings_of(scores), RULES, 1_000)]


def numbers(ids: Sequence[str]) -> list[int]:
    return [int(id_.rsplit("-", 1)[1]) for id_ in ids]


normalisations = st.sampled_from(Normalisation)
any_channel_scores = st.dictionaries(st.integers(0, 15), st.integers(1, 99).map(lambda score: score / 100), max_size=12)
any_scores = st.dictionaries(st.sampled_from(CHANNELS), any_channel_scores)


@given(normalisations, any_scores, st.randoms())
def test_the_order_of_channels_changes_nothing(method: Normalisation, scores: Scores, random: object) -> None:
    shuffled = list(scores.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    ranked = fusion(method).rank(rankings_of(scores), RULES, 1_000)
    assert fusion(method).rank(rankings_of(dict(shuffled)), RULES, 1_000) == ranked


@given(normalisations, st.sampled_from(CHANNELS), any_channel_scores)
def test_one_channel_keeps_its_order(method: Normalisation, channel: Channel, scores: dict[int, float]) -> None:
    expected = sorted(scores, key=lambda number: (-scores[number], number))
    assert numbers(run({channel: scores}, method)) == expected


@given(normalisations, any_scores, st.integers(1, 5))
def test_scores_fall_and_a_smaller_limit_gives_the_first_hits_of_a_larger_one(
    method: Normalisation, scores: Scores, limit: int
) -> None:
    ranked = fusion(method).rank(rankings_of(scores), RULES, 1_000)
    assert all(better >= worse for (better, _), (worse, _) in pairwise(ranked))
    assert all(np.isfinite(score) for score, _ in ranked)
    assert fusion(method).rank(rankings_of(scores), RULES, limit) == ranked[:limit]


@given(normalisations, any_scores)
def test_every_entry_is_a_candidate_once_with_each_rank_and_score_it_had(method: Normalisation, scores: Scores) -> None:
    rankings = rankings_of(scores)
    ranked = fusion(method).rank(rankings, RULES, 1_000)
    explained = sorted(
        (str(hit.channel), candidate.best.id, hit.rank, hit.score)
        for _, candidate in ranked
        for hit in candidate.found_by
    )
    assert explained == sorted(
        (str(channel), scored.entry.id, rank, scored.score)
        for channel, ranking in rankings.by_channel.items()
        for rank, scored in enumerate(ranking, start=1)
    )


@given(normalisations, any_scores, st.data())
def test_a_better_score_never_puts_an_entry_below_one_of_its_collection_that_it_was_above(
    method: Normalisation, scores: dict[Channel, dict[int, float]], data: st.DataObject
) -> None:
    """Only for scales that other questions decide: within a question a better score also moves its mean."""
    if method not in (Normalisation.Z_BY_CHANNEL, Normalisation.LOG_ODDS, Normalisation.NONE):
        return
    movable = [channel for channel, of_channel in scores.items() if of_channel]
    if not movable:
        return
    channel = data.draw(st.sampled_from(movable))
    number = data.draw(st.sampled_from(sorted(scores[channel])))
    own = [id_ for id_ in run(scores, method) if id_.startswith(f"{channel.collection}-")]
    place = own.index(f"{channel.collection}-{number:03}")
    # Not the lowest score of its channel: it decides what an absent entry has.
    if scores[channel][number] == min(scores[channel].values()):
        return
    better = {**scores, channel: {**scores[channel], number: scores[channel][number] + 0.5}}
    own = [id_ for id_ in run(better, method) if id_.startswith(f"{channel.collection}-")]
    assert own.index(f"{channel.collection}-{number:03}") <= place


@given(any_scores, st.floats(0.1, 10), st.floats(-5, 5))
def test_z_scores_do_not_depend_on_the_unit_of_a_channel(scores: Scores, scale: float, shift: float) -> None:
    moved = {
        channel: {
            number: score * scale + shift if channel is TEXT_PASSAGE else score for number, score in of_channel.items()
        }
        for channel, of_channel in scores.items()
    }
    before = {c.best.id: s for s, c in fusion(Normalisation.Z_SCORE).rank(rankings_of(scores), RULES, 1_000)}
    after = {c.best.id: s for s, c in fusion(Normalisation.Z_SCORE).rank(rankings_of(moved), RULES, 1_000)}
    assert after == pytest.approx(before, abs=1e-5)


# --- within a collection ----------------------------------------------------------------------------------------------


def test_an_entry_of_two_channels_ranks_above_one_with_the_same_score_in_one() -> None:
    for method in (Normalisation.Z_BY_CHANNEL, Normalisation.LOG_ODDS, Normalisation.MIN_MAX):
        scores = {TEXT_PASSAGE: {1: 0.5, 2: 0.5, 3: 0.2}, TEXT_LEXICAL: {2: 6.0, 4: 3.0}}
        assert numbers(run(scores, method))[0] == 2


def test_a_rare_word_that_one_entry_contains_counts() -> None:
    """Its channel returns one score, which is normalised to itself on any scale; only being absent tells them apart."""
    scores = {TEXT_PASSAGE: {1: 0.31, 2: 0.30, 3: 0.29}, TEXT_LEXICAL: {3: 4.0}}
    for method in (Normalisation.Z_BY_CHANNEL, Normalisation.LOG_ODDS, Normalisation.NONE):
        assert numbers(run(scores, method))[0] == 3


def test_a_channel_that_finds_nothing_leaves_its_share_to_the_others() -> None:
    for method in Normalisation:
        if method is not Normalisation.LOG_ODDS:
            scores = {TEXT_PASSAGE: {1: 0.9, 2: 0.2}, IMAGE_JOINT: {1: 0.8, 2: 0.1}}
            assert run({**scores, TEXT_LEXICAL: {}}, method) == run(scores, method)


def test_two_channels_of_one_space_count_as_one() -> None:
    spaces = {**SPACES, TEXT_JOINT: SPACES[TEXT_PASSAGE]}
    scores = {TEXT_PASSAGE: {1: 0.6, 2: 0.3}, TEXT_JOINT: {1: 0.6, 2: 0.3}, TEXT_LEXICAL: {1: 4.0, 2: 8.0}}
    both = rankings_of(scores)
    single = rankings_of({channel: scores[channel] for channel in (TEXT_PASSAGE, TEXT_LEXICAL)})
    both = Rankings(both.by_channel, {}, both.depths, spaces)
    by_score = fusion(Normalisation.Z_BY_CHANNEL)
    before, after = ([s for s, _ in by_score.rank(rankings, RULES, 10)] for rankings in (single, both))
    assert after == pytest.approx(before)


def test_a_factor_makes_a_channel_count_more_and_a_factor_of_0_makes_it_count_nothing() -> None:
    scores = {TEXT_PASSAGE: {1: 0.6, 2: 0.3}, TEXT_LEXICAL: {1: 4.0, 2: 9.0}}
    for method in (Normalisation.Z_BY_CHANNEL, Normalisation.LOG_ODDS):
        only = {TEXT_LEXICAL: 0.0}
        assert numbers(run(scores, method, channel_weights={TEXT_LEXICAL: 9.0})) == [2, 1]
        assert numbers(run(scores, method, channel_weights={TEXT_LEXICAL: 0.1})) == [1, 2]
        assert numbers(run(scores, method, channel_weights=only)) == [1, 2]
        assert numbers(run(scores, method, channel_weights={TEXT_PASSAGE: 0.0, **only})) == [1, 2]


def test_words_that_few_texts_share_do_not_put_the_other_texts_behind_the_images() -> None:
    """With an equal share, the texts without the word would lose a part of their distance to the images."""
    scores = {TEXT_PASSAGE: {1: 0.8, 2: 0.2}, IMAGE_JOINT: {1: 0.75}}
    with_word = {**scores, TEXT_LEXICAL: {2: 3.0}}
    for method in (Normalisation.Z_BY_CHANNEL, Normalisation.Z_SCORE):
        ranked = {c.best.id: score for score, c in fusion(method).rank(rankings_of(scores), RULES, 10)}
        beside = {c.best.id: score for score, c in fusion(method).rank(rankings_of(with_word), RULES, 10)}
        assert beside["text-001"] == pytest.approx(ranked["text-001"])
        assert beside["image-001"] == pytest.approx(ranked["image-001"])
        assert beside["text-002"] > ranked["text-002"]


def test_a_full_list_of_a_lexical_channel_has_an_equal_share() -> None:
    scores = {TEXT_PASSAGE: {1: 0.8}, TEXT_LEXICAL: {number: 8.0 - number for number in range(2, 4)}}
    rankings = rankings_of(scores)
    full = Rankings(rankings.by_channel, {}, dict.fromkeys(Collection, 2), rankings.spaces)
    by_score = fusion(Normalisation.Z_BY_CHANNEL)
    bonus, share = (by_score.rank(searched, RULES, 10)[0][0] for searched in (rankings, full))
    assert share < bonus


# --- across collections -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [Normalisation.Z_BY_CHANNEL, Normalisation.LOG_ODDS])
def test_the_better_kind_goes_first_and_the_kinds_do_not_take_turns(method: Normalisation) -> None:
    poor, good = (
        {number: 0.3 - number / 100 for number in range(5)},
        {number: 0.8 - number / 100 for number in range(5)},
    )
    texts_first = run({TEXT_PASSAGE: good, IMAGE_JOINT: poor}, method)
    images_first = run({TEXT_PASSAGE: poor, IMAGE_JOINT: good}, method)
    assert [id_.split("-")[0] for id_ in texts_first] == ["text"] * 5 + ["image"] * 5
    assert [id_.split("-")[0] for id_ in images_first] == ["image"] * 5 + ["text"] * 5


def test_a_weight_moves_a_collection_and_a_weight_of_0_puts_it_last() -> None:
    scores = {TEXT_PASSAGE: {1: 0.50, 2: 0.20}, IMAGE_JOINT: {1: 0.48, 2: 0.21}}
    for method in Normalisation:
        assert run(scores, method, weights={Collection.IMAGE: 2.0})[0] == "image-001"
        assert run(scores, method, weights={Collection.IMAGE: 0.25})[0] == "text-001"
    for method in (Normalisation.Z_BY_CHANNEL, Normalisation.LOG_ODDS):
        assert run(scores, method, weights={Collection.TEXT: 0.0})[-2:] == ["text-001", "text-002"]


def test_a_missing_channel_leaves_the_collections_comparable() -> None:
    scores = {TEXT_PASSAGE: {1: 0.7}, TEXT_LEXICAL: {1: 8.0}, IMAGE_JOINT: {1: 0.4}}
    for missing in (TEXT_PASSAGE, TEXT_LEXICAL):
        for method in (Normalisation.Z_BY_CHANNEL, Normalisation.LOG_ODDS):
            partial = {channel: of_channel for channel, of_channel in scores.items() if channel != missing}
            assert run(partial, method) == ["text-001", "image-001"]


def test_no_entries_give_no_candidates() -> None:
    for method in Normalisation:
        assert run({}, method) == run({TEXT_PASSAGE: {}, IMAGE_JOINT: {}}, method) == []


def test_a_running_fusion_counts_each_question_before_it_ranks_it() -> None:
    chooser = FusionChooser(ChannelStatistics())
    running = RunningFusion(chooser)
    scores = {TEXT_PASSAGE: {1: 0.7, 2: 0.5, 3: 0.1}, IMAGE_JOINT: {1: 0.4, 2: 0.39, 3: 0.38}}
    assert len(running.rank(rankings_of(scores), RULES, 10)) == 6
    assert chooser.statistics.questions == 1
