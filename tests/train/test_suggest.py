"""Tests of suggesting questions to label."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from penstock.cli import main as cli
from penstock.encoders.profiles import load_profile
from penstock.errors import UsageError
from penstock.evaluate.datasets import read_set
from penstock.evaluate.offline import SetRankings, search_offline
from penstock.evaluate.vectors import VectorFiles
from penstock.records import AssetRef, Channel, Collection, Field, ScoredEntry, bare_entry
from penstock.train.suggest import disagreement, suggest_questions
from tests.evaluate.made_sets import write_images, write_texts

PASSAGE, LEXICAL = Channel(Collection.TEXT, Field.PASSAGE), Channel(Collection.TEXT, Field.LEXICAL)


def ranking(*names: str) -> list[ScoredEntry]:
    return [ScoredEntry(bare_entry(AssetRef("default", "media.text", name), Collection.TEXT), 1.0) for name in names]


@pytest.fixture
def rankings(tmp_path: Path) -> SetRankings:
    dataset = read_set(write_texts(tmp_path / "texts"))
    return search_offline(dataset, VectorFiles(tmp_path / "vectors", load_profile("null")))


def test_disagreement_is_the_share_that_channels_do_not_have_in_common() -> None:
    assert disagreement({PASSAGE: ranking("a", "b"), LEXICAL: ranking("b", "a")}) == 0.0
    assert disagreement({PASSAGE: ranking("a", "b"), LEXICAL: ranking("c")}) == 1.0
    assert disagreement({PASSAGE: ranking("a", "b"), LEXICAL: ranking("b", "c")}) == pytest.approx(2 / 3)
    assert disagreement({PASSAGE: ranking("a")}) == 0.0
    assert disagreement({PASSAGE: [], LEXICAL: []}) == 1.0


def test_the_questions_of_most_worth_come_first(rankings: SetRankings) -> None:
    rows = np.arange(len(rankings.dataset.queries))
    chosen = suggest_questions(rankings, rows, 10)
    every = suggest_questions(rankings, rows, len(rows))
    assert chosen == every[:10]
    worths = [question.worth for question in every]
    assert worths == sorted(worths, reverse=True)
    assert {question.row for question in chosen} <= set(rows.tolist())


def test_a_question_that_occurs_more_often_counts_more(rankings: SetRankings) -> None:
    last = suggest_questions(rankings, np.arange(len(rankings.dataset.queries)), 1_000)[-1]
    often = np.array([*range(len(rankings.dataset.queries)), *[last.row] * 60])
    first = suggest_questions(rankings, often, 1)[0]
    assert (first.row, first.times) == (last.row, 61) or last.disagreement == 0


def test_a_single_channel_cannot_disagree(tmp_path: Path) -> None:
    dataset = read_set(write_images(tmp_path / "images"))
    rankings = search_offline(dataset, VectorFiles(tmp_path / "vectors", load_profile("null")))
    only = SetRankings(dataset, rankings.entries, dict(list(rankings.by_channel.items())[:1]), {}, {}, 50)
    with pytest.raises(UsageError, match="one channel only"):
        suggest_questions(only, np.arange(3), 3)


def test_the_command_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    folder = write_texts(tmp_path / "texts")
    assert cli.main(["train", "suggest", "--set", str(folder), "--profile", "null", "--n", "5", "--json"]) == 0
    chosen = json.loads(capsys.readouterr().out)
    assert len(chosen) == 5
    assert set(chosen[0]) == {"id", "row", "text", "times", "disagreement"}
    assert cli.main(["train", "suggest", "--set", str(folder), "--profile", "null", "--n", "5"]) == 0
    assert chosen[0]["id"] in capsys.readouterr().out
