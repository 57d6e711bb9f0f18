"""Tests of fitting to what people chose."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from penstock.errors import UsageError
from penstock.query.fusion.calibration import (
    Calibration,
    LogisticMap,
    Provenance,
    read_calibration,
    write_calibration,
)
from penstock.records import Action, Choice, Entry
from penstock.train.clicks import (
    choice_pairs,
    fit_click_channel,
    judged_questions,
    recalled_scores,
    split_by_time,
    write_pairs,
)
from tests.choices import DIM, ENCODER, NOW_MS, choice


def made(number: int, *, wording: int, minute: int) -> Choice:
    """Returns a choice of one of 40 assets, for one of several wordings of its question."""
    rng = np.random.default_rng(number)
    vector = rng.normal(size=DIM) + 0.25 * np.random.default_rng([number, wording]).normal(size=DIM)
    vector = np.asarray(vector / np.linalg.norm(vector), np.float32)
    return replace(
        choice(f"asset {number} in words {wording}", str(number), f"person {minute}"),
        vector=vector,
        time_ms=NOW_MS + minute * 60_000,
    )


PAST = [made(number, wording=0, minute=number) for number in range(40)]
FUTURE = [made(number, wording=1, minute=100 + number) for number in range(27)]


def test_the_past_is_the_memory_and_the_future_does_not_repeat_it() -> None:
    repeated = replace(PAST[0], voter="0" * 32, time_ms=FUTURE[-1].time_ms + 1)
    taken_back = replace(FUTURE[0], action=Action.DISLIKE)
    past, future = split_by_time([*reversed(FUTURE[1:]), repeated, *PAST, taken_back])
    assert max(earlier.time_ms for earlier in past) < min(later.time_ms for later in future)
    assert len(past) == 40
    assert repeated not in future
    assert taken_back not in [*past, *future]


def test_a_closer_question_is_more_likely_to_be_right_by_the_fitted_channel() -> None:
    channel = fit_click_channel(PAST, judged_questions(FUTURE), ENCODER)
    assert isinstance(channel.score_map, LogisticMap)
    near, far = channel.score_map.log_odds(np.array([0.95, 0.2]))
    assert near > 0 > far
    assert channel.encoder == ENCODER
    scores = recalled_scores(PAST, judged_questions(FUTURE[:1])[0])
    assert max(scores)[1]
    assert len(scores) == 40


def test_what_was_chosen_for_the_very_same_words_counts_neither_for_nor_against_the_channel() -> None:
    other = choice("another", "another")
    repeated = [replace(of, asset=other.asset, entry_id=other.entry_id, time_ms=of.time_ms + 10**9) for of in PAST[:9]]
    past, future = split_by_time([*PAST, *FUTURE, *repeated], share=40 / 76)
    assert (past, len(future)) == (PAST, 36)
    judged = judged_questions(future)
    for question in judged:
        entries_of_it = {chosen.entry_id for chosen in PAST if chosen.question == question.digest}
        scores = recalled_scores(past, question)
        assert len(scores) == 40 - len(entries_of_it)
        assert all(is_right for cosine, is_right in scores if cosine > 0.9)
    near = np.array([0.95])
    channel, without = (fit_click_channel(PAST, questions, ENCODER) for questions in (judged, judged_questions(FUTURE)))
    assert channel.score_map.log_odds(near) == pytest.approx(without.score_map.log_odds(near), abs=0.5)


def test_too_few_questions_are_refused_in_words() -> None:
    with pytest.raises(UsageError, match="too few"):
        fit_click_channel(PAST, judged_questions(FUTURE[:9]), ENCODER)
    with pytest.raises(UsageError, match="too few"):
        fit_click_channel([], judged_questions(FUTURE), ENCODER)


def test_another_tenants_choices_are_no_memory() -> None:
    question = replace(judged_questions(FUTURE[:1])[0], tenant="acme")
    assert recalled_scores(PAST, question) == []


def test_a_calibration_keeps_its_click_channel_and_is_refused_for_another_encoder(tmp_path: Path) -> None:
    channel = fit_click_channel(PAST, judged_questions(FUTURE), ENCODER)
    calibration = Calibration({}, {}, Provenance({}, 27, 0, "test"), channel)
    write_calibration(calibration, tmp_path / "a.json")
    assert read_calibration(tmp_path / "a.json") == calibration
    assert calibration.matches({}, {}, ENCODER) is None
    assert "questions are encoded by another" in (calibration.matches({}, {}, "another") or "")
    write_calibration(replace(calibration, clicked=None), tmp_path / "b.json")
    assert "clicked" not in json.loads((tmp_path / "b.json").read_text())


def test_pairs_have_the_words_that_were_kept_and_the_entry_as_it_is_now(tmp_path: Path) -> None:
    kept = [replace(kept_, text=f"words {number}") for number, kept_ in enumerate(PAST[:3])]

    def read(tenant: str, ids: Sequence[str]) -> Mapping[str, Entry]:
        assert tenant == "default"
        entries = [_entry(kept_, f"passage {number}" if number else "") for number, kept_ in enumerate(kept)]
        return {entry.id: entry for entry in entries if entry.id in ids}

    file = tmp_path / "pairs.jsonl"
    assert write_pairs(choice_pairs([*kept, *PAST[3:]], read), file) == 2
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(row["question"], row["text"]) for row in rows] == [("words 1", "passage 1"), ("words 2", "passage 2")]
    assert rows[0]["time"] == kept[1].time_ms / 1000


def _entry(chosen: Choice, text: str) -> Entry:
    from penstock.records import bare_entry

    return replace(bare_entry(chosen.asset, chosen.collection), text=text)
