"""Tests of the guards: what one person can and cannot do to the ranks of others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.query.clicks.guards import ClickRules, click_evidence, decay, propensity
from penstock.query.fusion.calibration import LogisticMap
from penstock.records import Action, Choice, Recalled
from tests.choices import DAY_MS, NOW_MS, choice

SCORES = LogisticMap(20.0, -16.0)
TWO, ONE = ClickRules(2, 90.0), ClickRules(1, 90.0)


def evidence(*recalled: tuple[Choice, float], rules: ClickRules = TWO) -> dict[str, float]:
    """Returns the log-odds by the key of the asset."""
    matches = [Recalled(choice_, cosine) for choice_, cosine in recalled]
    keys = {match.choice.entry_id: match.choice.asset.key for match in matches}
    return {keys[id_]: of.log_odds for id_, of in click_evidence(matches, SCORES, rules, NOW_MS).items()}


def test_one_voter_alone_says_nothing_where_two_have_to_agree() -> None:
    alone = [(choice(f"question {number}", "heron", "ann"), 0.99) for number in range(50)]
    assert evidence(*alone) == {}
    assert "heron" in evidence(*alone, (choice("question 1", "heron", "bob"), 0.9))


def test_a_voter_brings_an_entry_no_further_than_others_do_without_it() -> None:
    honest = [(choice("a", "heron", "ann"), 0.85), (choice("a", "heron", "bob"), 0.8)]
    by_others = evidence((choice("a", "heron", "cleo"), 0.85), *honest[1:], rules=ONE)["heron"]
    planted = [(choice(f"q{number}", "heron", "eve"), 1.0) for number in range(25)]
    assert evidence(*honest, *planted)["heron"] <= evidence(*honest, rules=ONE)["heron"] + 1e-9
    assert by_others > 0


def test_of_a_voter_the_best_choice_of_an_entry_counts_once() -> None:
    once = evidence((choice("a", "heron", "ann"), 0.9), (choice("a", "heron", "bob"), 0.9))
    often = evidence(
        *((choice(f"q{number}", "heron", person), 0.9) for number in range(9) for person in ("ann", "bob"))
    )
    assert often == pytest.approx(once)


def test_where_one_voter_is_enough_it_speaks_for_one_entry_of_a_question() -> None:
    result = evidence(*((choice("a", f"asset {number}", "eve"), 0.9 + number / 100) for number in range(9)), rules=ONE)
    assert list(result) == ["asset 8"]


def test_a_choice_that_was_taken_back_counts_for_nothing() -> None:
    taken_back = replace(choice("a", "heron", "ann"), action=Action.DISLIKE)
    assert evidence((taken_back, 1.0), (choice("a", "heron", "bob"), 1.0)) == {}


def test_distant_questions_count_for_nothing_however_many_there_are() -> None:
    distant = [(choice("a", "heron", f"person {number}"), 0.3) for number in range(400)]
    assert evidence(*distant) == {}


def test_a_choice_from_further_down_and_a_newer_one_count_more() -> None:
    assert propensity(1) < propensity(5) < propensity(10) == propensity(400) == 1.0
    assert decay(0, 90) == 1.0
    assert decay(90 * DAY_MS, 90) == pytest.approx(0.5)
    assert decay(-5, 90) == 1.0  # a clock that is ahead


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("xyz"), st.floats(0, 1)), max_size=20),
    st.lists(st.tuples(st.sampled_from("xyz"), st.floats(0, 1)), max_size=10),
)
def test_no_voter_adds_more_than_the_others_say_in_full(
    honest: list[tuple[str, str, float]], planted: list[tuple[str, float]]
) -> None:
    others = [(choice(f"q{cosine}", key, person), cosine) for person, key, cosine in honest]
    eve = [(choice(f"q{cosine}", key, "eve"), cosine) for key, cosine in planted]
    # The most that the others can say: each of them counts, as if one were enough.
    most: dict[str, float] = {}
    for key in "xyz":
        own = [(choice_, cosine) for choice_, cosine in others if choice_.asset.key == key]
        most |= evidence(*own, (choice("sure", key, "somebody"), 1.0)) if own else {}
    for key, log_odds in evidence(*others, *eve).items():
        assert log_odds <= most[key] + 1e-9
