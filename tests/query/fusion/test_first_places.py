"""First places by share: every kind gets its share at the least cost, and repeated questions count once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from penstock.config import FirstPlaceRule
from penstock.query.fusion.choose import FusionChooser
from penstock.query.fusion.first_places import (
    GIVEN_SHARE,
    MAX_HANDICAP,
    MAX_QUESTIONS,
    MIN_QUESTIONS,
    FirstPlaces,
    handicaps,
)
from penstock.query.fusion.normalise import Float64
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.types import FuseOptions
from penstock.records import Collection
from tests.query.fusion.test_by_relevance import CALIBRATION, RULES, question

HALVES = {"image": 0.5, "text": 0.5}


def chosen(values: Float64, amounts: Float64) -> Float64:
    return np.asarray((values + amounts).argmax(axis=1))


def poor_images(questions: int, *, seed: int = 0) -> list[dict[str, float]]:
    """Questions whose best text is a little more relevant than the best image."""
    rng = np.random.default_rng(seed)
    images, leads = rng.uniform(0.3, 0.6, questions), rng.uniform(0.001, 0.1, questions)
    return [{"image": float(image), "text": float(image + lead)} for image, lead in zip(images, leads, strict=True)]


# --- handicaps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [(0.5, 0.4), (0.05, 0.85), (0.3, 0.3, 0.3), (0.1, 0.6, 0.2), (0.2, 0.2, 0.2, 0.3)])
def test_every_kind_is_first_in_at_least_its_share(shares: tuple[float, ...]) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values = rng.uniform(0, 0.1, (200, len(shares))) + rng.uniform(0, 0.04, len(shares))
        first = np.bincount(chosen(values, handicaps(values, np.array(shares)) + 0.0), minlength=len(shares))
        # At the amount itself the last question of a kind is level, and either kind may be first in it.
        assert (first >= np.floor(np.array(shares) * 200) - len(shares)).all(), (seed, first)


def test_kinds_that_are_first_often_enough_get_nothing() -> None:
    values = np.random.default_rng(3).uniform(0, 1, (300, 2))
    assert handicaps(values, np.array([0.3, 0.3])).tolist() == [0.0, 0.0]


def test_no_other_choice_with_these_shares_gives_up_less_relevance() -> None:
    rng = np.random.default_rng(5)
    values = np.column_stack([rng.uniform(0, 0.1, 100), rng.uniform(0.02, 0.12, 100), rng.uniform(0, 0.08, 100)])
    first = chosen(values, handicaps(values, np.array([0.4, 0.3, 0.25])))
    kept = values[np.arange(100), first].sum()
    for _ in range(2_000):  # the same shares, with two questions exchanged
        pair = rng.choice(100, 2, replace=False)
        exchanged = first.copy()
        exchanged[pair] = first[pair[::-1]]
        assert values[np.arange(100), exchanged].sum() <= kept + 1e-12


def test_a_handicap_is_bounded_even_if_the_share_is_missed() -> None:
    values = np.column_stack([np.full(50, 0.1), np.full(50, 0.9)])
    assert handicaps(values, np.array([0.9, 0.05])).tolist() == [MAX_HANDICAP, 0.0]


# --- questions -------------------------------------------------------------------------------------------------------


def test_the_first_questions_are_decided_by_relevance() -> None:
    places = FirstPlaces()
    first = [places.choose(best, HALVES) for best in poor_images(MIN_QUESTIONS - 1)]
    assert set(first) == {"text"}


def test_a_kind_that_is_never_the_most_relevant_is_first_in_about_its_share() -> None:
    places = FirstPlaces()
    first = Counter(places.choose(best, HALVES) for best in poor_images(400))
    assert GIVEN_SHARE * 0.5 - 0.05 < first["image"] / 400 < 0.53


def test_the_same_question_again_changes_nothing() -> None:
    places, untouched = FirstPlaces(), FirstPlaces()
    for best in poor_images(50):
        places.choose(best, HALVES)
        untouched.choose(best, HALVES)
    repeated, *others = poor_images(40, seed=1)
    answers = {places.choose(repeated, HALVES) for _ in range(100)}
    untouched.choose(repeated, HALVES)
    assert len(answers) == 1
    assert [places.choose(best, HALVES) for best in others] == [untouched.choose(best, HALVES) for best in others]


def test_the_oldest_question_is_dropped() -> None:
    places = FirstPlaces()
    for best in poor_images(MAX_QUESTIONS):
        places.choose({"image": 0.0, "text": best["text"] + 0.3}, HALVES)
    first = Counter(places.choose(best, HALVES) for best in poor_images(MAX_QUESTIONS + 200, seed=1)[MAX_QUESTIONS:])
    for best in poor_images(MAX_QUESTIONS, seed=2):
        places.choose(best, HALVES)
    later = Counter(places.choose(best, HALVES) for best in poor_images(200, seed=3))
    assert first["image"] > 190, "while the first block lasts, images are first wherever that costs little"
    assert 60 < later["image"] < 110


def test_a_hit_below_the_floor_does_not_displace_one_above_it() -> None:
    places = FirstPlaces(floor=0.4)
    first = {tuple(best.values()): places.choose(best, {"image": 0.9, "text": 0.1}) for best in poor_images(300)}
    across = {kind for (image, text), kind in first.items() if image < 0.4 <= text}
    assert across == {"text"}
    assert "image" in first.values()


@pytest.mark.parametrize("shares", [{}, {"moment": 1.0}])
def test_kinds_without_a_known_share_are_compared_by_relevance(shares: dict[str, float]) -> None:
    places = FirstPlaces()
    assert {places.choose(best, shares) for best in poor_images(50)} == {"text"}


def test_questions_that_found_other_kinds_are_counted_apart() -> None:
    places, of_two = FirstPlaces(), FirstPlaces()
    shares = {**HALVES, "moment": 0.5}
    with_moments = []
    for best in poor_images(100):
        with_moments.append(places.choose({**best, "moment": 0.9}, shares))
        assert places.choose(best, shares) == of_two.choose(best, shares)
    assert with_moments.count("moment") > 80


def test_tenants_with_other_shares_get_their_own() -> None:
    places = FirstPlaces()
    first: dict[float, list[str]] = {0.2: [], 0.8: []}
    for number, best in enumerate(poor_images(600)):
        share = (0.2, 0.8)[number % 2]
        first[share].append(places.choose(best, {"image": share, "text": 1 - share}))
    for share, kinds in first.items():
        assert abs(kinds.count("image") / 300 - GIVEN_SHARE * share) < 0.08, share


# --- in a ranking ----------------------------------------------------------------------------------------------------


def test_the_best_hit_of_the_kind_moves_to_the_first_place_and_the_rest_stays() -> None:
    rankings = question()
    chooser = FusionChooser(ChannelStatistics(), CALIBRATION)
    by_relevance = chooser.choose(FuseOptions(), rankings).rank(rankings, RULES, 100)
    chooser.first_places = _Always("text")
    ranked = chooser.choose(FuseOptions(), rankings, HALVES).rank(rankings, RULES, 100)
    ids, before = ([candidate.best.id for _, candidate in hits] for hits in (ranked, by_relevance))
    text = next(id_ for id_ in before if id_.startswith("text"))
    assert before[0] != text
    assert ids == [text, *(id_ for id_ in before if id_ != text)]
    assert [candidate.promoted for _, candidate in ranked] == [True] + [False] * (len(ranked) - 1)
    scores = [score for score, _ in ranked]
    assert scores == sorted(scores, reverse=True)
    for limit in range(1, 6):
        fewer = chooser.choose(FuseOptions(), rankings, HALVES).rank(rankings, RULES, limit)
        assert [candidate.best.id for _, candidate in fewer] == ids[:limit]


def test_nothing_is_promoted_if_the_most_relevant_hit_is_of_the_kind() -> None:
    chooser = FusionChooser(ChannelStatistics(), CALIBRATION, _Always("image"))
    ranked = chooser.choose(FuseOptions(), question(), HALVES).rank(question(), RULES, 100)
    assert not any(candidate.promoted for _, candidate in ranked)


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        (FuseOptions(first_places=FirstPlaceRule.RELEVANCE), HALVES),
        (FuseOptions(weights={Collection.IMAGE: 0.99}), HALVES),
        (FuseOptions(), None),
    ],
)
def test_relevance_alone_decides_where_the_setting_or_weights_or_unknown_shares_say_so(
    options: FuseOptions, shares: dict[str, float] | None
) -> None:
    chooser = FusionChooser(ChannelStatistics(), CALIBRATION, _Always("text"))
    ranked = chooser.choose(options, question(), shares).rank(question(), RULES, 100)
    assert ranked[0][1].best.collection is Collection.IMAGE


def test_the_values_that_decide_are_relevances() -> None:
    places = _Always("text")
    chooser = FusionChooser(ChannelStatistics(), CALIBRATION, places)
    rankings = replace(question())
    ranked = chooser.choose(FuseOptions(), rankings, HALVES).rank(rankings, RULES, 1)
    assert ranked
    assert places.best is not None
    assert set(places.best) == {"image", "text"}
    assert all(0 < value < 1 for value in places.best.values())
    assert places.best["image"] > places.best["text"]


class _Always(FirstPlaces):
    """Chooses one kind, whatever there is."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind
        self.best: dict[str, float] | None = None

    def choose(self, best: object, shares: object) -> str:
        self.best = dict(best)  # type: ignore[call-overload]
        return self._kind
