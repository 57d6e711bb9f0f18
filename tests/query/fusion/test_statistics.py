"""Running statistics: what they count, and what is known before the first questions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.query.fusion.statistics import (
    BLOCK_QUESTIONS,
    MAX_BLOCKS,
    PRIOR_SCORES,
    ChannelStatistics,
    Spread,
    channel_name,
)
from penstock.query.types import Rankings
from penstock.records import Channel, Collection, Field, ScoredEntry
from tests.query.fusion.test_rrf import entry

IMAGE = Channel(Collection.IMAGE, Field.JOINT)
LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)
BY_TEXT, BY_IMAGE = "joint.text", "joint.image"


def rankings(*scores: float, channel: Channel = IMAGE, encoder: str | None = BY_TEXT) -> Rankings:
    entries = [ScoredEntry(entry(channel.collection, number), score) for number, score in enumerate(scores)]
    return Rankings({channel: entries}, {}, dict.fromkeys(Collection, 50), {channel: "space"}, {channel: encoder})


@given(st.lists(st.lists(st.floats(-1, 1), min_size=1, max_size=8), min_size=1, max_size=10))
def test_a_spread_is_the_mean_and_deviation_of_all_scores(questions: list[list[float]]) -> None:
    statistics = ChannelStatistics()
    for scores in questions:
        statistics.observe(rankings(*scores), 50)
    scores = np.concatenate(questions)
    spread = statistics.spread(IMAGE, BY_TEXT)
    assert (spread.mean, spread.deviation) == pytest.approx((scores.mean(), scores.std()), abs=1e-7)
    assert statistics.questions == len(questions)


def test_questions_by_image_are_counted_apart_from_those_by_text() -> None:
    statistics = ChannelStatistics()
    statistics.observe(rankings(0.3, encoder=BY_TEXT), 50)
    statistics.observe(rankings(0.9, encoder=BY_IMAGE), 50)
    assert statistics.spread(IMAGE, BY_TEXT).mean == pytest.approx(0.3)
    assert statistics.spread(IMAGE, BY_IMAGE).mean == pytest.approx(0.9)


def test_the_last_thousand_questions_count_and_older_ones_do_not() -> None:
    statistics = ChannelStatistics()
    for _ in range(BLOCK_QUESTIONS):
        statistics.observe(rankings(5.0), 1)
    for _ in range(BLOCK_QUESTIONS * MAX_BLOCKS):
        statistics.observe(rankings(1.0), 1)
    assert statistics.spread(IMAGE, BY_TEXT) == Spread(1.0, 0.0)
    assert sum(sums.questions for sums in statistics.blocks()[channel_name(IMAGE, BY_TEXT)]) == 1_000


def test_questions_with_one_hit_displace_no_full_ones() -> None:
    statistics = ChannelStatistics()
    for _ in range(BLOCK_QUESTIONS):
        statistics.observe(rankings(*[0.2] * 50), 50)
    for _ in range(BLOCK_QUESTIONS * MAX_BLOCKS):
        statistics.observe(rankings(0.9), 50)
    assert statistics.spread(IMAGE, BY_TEXT).mean == pytest.approx((5_000 * 0.2 + 1_000 * 0.9) / 6_000)


def test_only_the_entries_of_the_first_search_count() -> None:
    statistics = ChannelStatistics()
    statistics.observe(rankings(0.5, 0.3, 0.1), depth=2)
    assert statistics.spread(IMAGE, BY_TEXT).mean == pytest.approx(0.4)


def test_a_channel_that_finds_nothing_changes_nothing() -> None:
    statistics = ChannelStatistics()
    statistics.observe(rankings(2.0, channel=LEXICAL, encoder=None), 50)
    statistics.observe(rankings(channel=LEXICAL, encoder=None), 50)
    assert statistics.spread(LEXICAL, None) == Spread(2.0, 0.0)


def test_without_questions_the_prior_holds_and_fades_as_scores_come_in() -> None:
    prior = Spread(0.2, 0.1)
    statistics = ChannelStatistics()
    assert statistics.spread(IMAGE, BY_TEXT, prior) == prior
    assert statistics.spread(IMAGE, BY_TEXT) == Spread(0.0, 0.0)
    for _ in range(PRIOR_SCORES):
        statistics.observe(rankings(0.4), 50)
    assert statistics.spread(IMAGE, BY_TEXT, prior).mean == pytest.approx(0.3)
    for _ in range(20 * PRIOR_SCORES):
        statistics.observe(rankings(0.4), 50)
    assert statistics.spread(IMAGE, BY_TEXT, prior).mean == pytest.approx(0.4, abs=0.02)


def test_a_prior_makes_the_first_question_of_an_index_with_one_entry_comparable() -> None:
    statistics = ChannelStatistics()
    statistics.observe(rankings(0.9), 50)
    spread = statistics.spread(IMAGE, BY_TEXT, Spread(0.2, 0.1))
    assert (0.9 - spread.mean) / spread.deviation > 3
