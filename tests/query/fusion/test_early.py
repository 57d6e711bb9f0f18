"""Early fusion: α·text + (1-α)·image in one space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.config import FusionMethod
from penstock.errors import QueryError
from penstock.query.fusion.base import MomentRules
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.early import shared_space
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.types import FuseOptions, Rankings
from penstock.records import FIELDS_OF, Channel, Collection, Entry, Field, ScoredEntry
from tests.query.fusion.test_moments import FRAME_JOINT, SPEECH_LEXICAL, SPEECH_PASSAGE, frame, speech
from tests.query.fusion.test_rrf import IMAGE_JOINT, TEXT_PASSAGE, entry

RULES = MomentRules(max_gap_ms=5_000, max_ms=60_000)
DENSE = (SPEECH_PASSAGE, FRAME_JOINT, TEXT_PASSAGE, IMAGE_JOINT)
ONE_SPACE = {**dict.fromkeys(DENSE, "minilm"), SPEECH_LEXICAL: "lexical"}

Scores = Mapping[Channel, Sequence[tuple[Entry, float]]]


def rank(alpha: float, by_channel: Scores, spaces: Mapping[Channel, str] = ONE_SPACE) -> dict[str, float]:
    """Returns the score of each candidate, best first, by the key of its asset."""
    rankings = Rankings(
        {
            channel: [ScoredEntry(entry, score) for entry, score in sorted(scores, key=lambda pair: -pair[1])]
            for channel, scores in by_channel.items()
        },
        {},
        dict.fromkeys(Collection, 50),
        spaces,
    )
    fusion = FusionChooser(ChannelStatistics()).choose(FuseOptions(FusionMethod.EARLY, alpha=alpha), rankings)
    return {candidate.best.asset.key: score for score, candidate in fusion.rank(rankings, RULES, 100)}


@given(st.floats(0, 1), st.integers(0, 1_000))
def test_a_moment_has_the_inner_product_of_the_query_and_its_fused_vector(alpha: float, seed: int) -> None:
    query, text, image = np.random.default_rng(seed).normal(size=(3, 8))
    spoken, shown = speech(0, 9), frame(0, 9)
    scores = rank(
        alpha, {SPEECH_PASSAGE: [(spoken, float(query @ text))], FRAME_JOINT: [(shown, float(query @ image))]}
    )
    assert scores == {"video": pytest.approx(query @ (alpha * text + (1 - alpha) * image))}


def test_alpha_decides_between_what_is_said_and_what_is_seen() -> None:
    channels = {
        SPEECH_PASSAGE: [(speech(0, 9, key="said"), 0.8), (speech(0, 9, key="seen"), 0.3)],
        FRAME_JOINT: [(frame(0, 9, key="said"), 0.2), (frame(0, 9, key="seen"), 0.7)],
    }
    assert list(rank(0.9, channels)) == ["said", "seen"]
    assert list(rank(0.1, channels)) == ["seen", "said"]


def test_texts_and_images_have_one_side_whose_cosine_counts_alone() -> None:
    channels = {
        TEXT_PASSAGE: [(entry(Collection.TEXT, 1), 0.4)],
        IMAGE_JOINT: [(entry(Collection.IMAGE, 2), 0.5)],
        SPEECH_PASSAGE: [(speech(0, 9), 0.9)],
        FRAME_JOINT: [(frame(0, 9), 0.1)],
    }
    assert rank(0.25, channels) == pytest.approx({"2": 0.5, "1": 0.4, "video": 0.3})


def test_a_side_that_was_not_returned_counts_with_the_lowest_returned_score() -> None:
    channels = {
        SPEECH_PASSAGE: [(speech(0, 9, key="both"), 0.6), (speech(0, 9, key="said"), 0.8)],
        FRAME_JOINT: [(frame(0, 9, key="both"), 0.4), (frame(0, 9, key="seen"), 0.2)],
    }
    assert rank(0.5, channels) == pytest.approx({"both": 0.5, "said": 0.5, "seen": 0.4})


def test_what_only_bm25_found_ranks_as_not_returned() -> None:
    lexical = speech(0, 9, key="lexical")
    channels = {
        SPEECH_PASSAGE: [(speech(0, 9, key="said"), 0.6)],
        SPEECH_LEXICAL: [(lexical, 9.0)],
        FRAME_JOINT: [],
    }
    assert rank(1.0, channels) == pytest.approx({"said": 0.6, "lexical": 0.6})


def test_a_channel_that_is_missing_leaves_the_other_side() -> None:
    assert rank(0.5, {SPEECH_PASSAGE: [(speech(0, 9), 0.6)]}) == {"video": 0.6}


def test_without_a_space_that_both_share_it_is_refused_in_words() -> None:
    spaces = {**ONE_SPACE, FRAME_JOINT: "clip", IMAGE_JOINT: "clip"}
    with pytest.raises(QueryError, match="one space") as refused:
        rank(0.5, {SPEECH_PASSAGE: [(speech(0, 9), 0.6)]}, spaces)
    assert (refused.value.status, refused.value.field) == (400, "/fuse/method")


def test_a_space_is_shared_by_speech_and_frames_or_by_two_fields_of_an_entry() -> None:
    text_joint = Channel(Collection.TEXT, Field.JOINT)
    assert shared_space(ONE_SPACE) == "minilm"
    assert shared_space({TEXT_PASSAGE: "a", text_joint: "a"}) == "a"
    assert shared_space({TEXT_PASSAGE: "a", text_joint: "b"}) is None
    assert shared_space({TEXT_PASSAGE: "a", IMAGE_JOINT: "a"}) is None, "no asset is both a text and an image"


def test_sounds_have_no_place_in_the_space_of_text_and_image() -> None:
    (field,) = FIELDS_OF[Collection.SOUND]
    sound = Channel(Collection.SOUND, field)
    spaces = {**ONE_SPACE, sound: "clap"}
    both = {
        sound: [(replace(speech(0, 9), id="sound", collection=Collection.SOUND), 0.9)],
        SPEECH_PASSAGE: [(speech(0, 9), 0.6)],
    }
    assert rank(0.5, both, spaces) == {"video": 0.6}
    assert rank(0.5, {**both, FRAME_JOINT: [(frame(0, 9), 0.2)]}, spaces) == pytest.approx({"video": 0.4})
    assert rank(0.5, {sound: both[sound]}, spaces) == {"video": -1.0}
