"""Tests of labelling the channels of an index by choices: over an index in memory, and through the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from penstock import assembly
from penstock.cli import main as cli
from penstock.cli import train_clicks
from penstock.config import Settings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.questions import question_encoder
from penstock.evaluate.vectors import VectorFiles
from penstock.query.calibrations import channel_encoders, channel_index_types
from penstock.query.fusion.calibration import Calibration, Provenance, read_calibration
from penstock.records import Action, AssetRef, Channel, Choice, Collection, Field, bare_entry
from penstock.serve.app import build_query_plane
from penstock.serve.plane import QueryPlane
from penstock.store.memory import MemoryStore
from penstock.train.calibration import fit_calibration
from penstock.train.click_labels import divide_questions, judge_later, label_questions, shares_of_index
from penstock.train.labels import LabelledQuestion
from tests.choices import NOW_MS, choice
from tests.serve.sample_index import PROFILE, entry, vector

COUNT = 50
WORDS = [f"{first}{second}" for first in ("bo", "ka", "li", "mu", "te") for second in "bcdfghjklm"]
PASSAGE = Channel(Collection.TEXT, Field.PASSAGE)
LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[QueryPlane]:
    """An index of texts that share one word with a question each; vectors of null encoders say nothing."""
    settings = Settings(profile=PROFILE.name, data_dir=tmp_path, store={"consistency": "Strong"})  # type: ignore[arg-type]
    plane = build_query_plane(settings, store=MemoryStore())
    texts = {word: f"what is said about {word} and other things" for word in WORDS}
    fields = ((Field.PASSAGE, "passage.text"), (Field.JOINT, "joint.text"))
    entries = [
        entry(Collection.TEXT, word, text=text, vectors={field: vector(role, text, settings) for field, role in fields})
        for word, text in texts.items()
    ]
    plane.store.upsert(Collection.TEXT, entries)
    yield plane
    plane.close()


def made(number: int, *, words: bool = True) -> Choice:
    """Returns a choice of the text that has the word of its question; a later one for each higher number."""
    text = f"where is {WORDS[number]}"
    encoder = question_encoder(PROFILE, profile_fingerprints(PROFILE))
    chosen = choice(text, WORDS[number], f"person {number}", encoder=encoder, time_ms=NOW_MS + number)
    return replace(chosen, text=text if words else "")


CHOICES = [made(number) for number in range(COUNT)]


def label(plane: QueryPlane, folder: Path) -> tuple[list[LabelledQuestion], list[LabelledQuestion]]:
    embed = VectorFiles(folder / "vectors", PROFILE).texts
    earlier, later = (
        label_questions(questions, plane.store, PROFILE, embed, timeout_s=5) for questions in divide_questions(CHOICES)
    )
    return earlier, later


def fit(questions: list[LabelledQuestion]) -> Calibration:
    encoders = channel_encoders(PROFILE, profile_fingerprints(PROFILE))
    return fit_calibration(questions, encoders, channel_index_types("FLAT"), Provenance({}, len(questions), 0, "null"))


def test_earlier_questions_are_fitted_to_and_later_ones_in_other_words_judge() -> None:
    again = replace(CHOICES[0], asset=AssetRef("default", "media.text", "x"), entry_id="0" * 32, time_ms=NOW_MS + 10**6)
    taken_back = replace(CHOICES[1], action=Action.DISLIKE)
    without_words = made(2, words=False)
    earlier, later = divide_questions([*reversed(CHOICES[3:]), CHOICES[0], taken_back, without_words, again])
    assert {question.text for question in earlier} & {question.text for question in later} == set()
    assert earlier[0].text == CHOICES[0].text
    assert earlier[0].right == {bare_entry(CHOICES[0].asset, Collection.TEXT).id}
    texts = {question.text for question in (*earlier, *later)}
    assert not texts & {CHOICES[1].text, CHOICES[2].text}
    assert max(WORDS.index(question.text.split()[-1]) for question in earlier) < min(
        WORDS.index(question.text.split()[-1]) for question in later
    )


def test_a_channel_that_finds_what_people_choose_is_believed_and_noise_is_not(
    plane: QueryPlane, tmp_path: Path
) -> None:
    earlier, later = label(plane, tmp_path)
    assert (len(earlier), len(later)) == (30, 20)
    assert all(question.rankings.by_channel[LEXICAL][0].entry.id in question.right for question in earlier)
    calibration = fit(earlier)
    first = earlier[0].rankings.by_channel
    by_words, by_noise = (
        calibration.log_odds(channel, np.array([first[channel][0].score]))[0] for channel in (LEXICAL, PASSAGE)
    )
    assert by_words > 0 > by_noise
    shares = shares_of_index(plane.store, {"default"})
    assert {kind for kind, share in shares.items() if share} == {"text"}
    figures = judge_later(later, shares, None, calibration)
    assert figures.questions == 20
    assert figures.fitted == 1.0 >= figures.base


@pytest.fixture
def command(plane: QueryPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of the command: its data folder, this index as the store, and its choices."""
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PENSTOCK_STORE__URI", "http://127.0.0.1:1")
    monkeypatch.setattr(assembly, "open_store", lambda _: plane.store)
    monkeypatch.setattr(train_clicks, "_choices", lambda *_: CHOICES)
    return tmp_path / "data"


def train(*arguments: str) -> int:
    return cli.main(["train", "calibration", "--clicks", "--channels", "--profile", PROFILE.name, *arguments])


def test_the_command_keeps_the_channels_and_no_question(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["questions"], document["later_questions"]) == (30, 20)
    assert document["fitted"] == 1.0
    kept = Path(document["file"])
    assert kept == command / "calibration" / f"{PROFILE.name}.json"
    assert read_calibration(kept).covers(LEXICAL)
    assert b"where is" not in b"".join(file.read_bytes() for file in command.rglob("*") if file.is_file())


def test_what_finds_less_of_the_later_choices_is_not_written(
    command: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The earlier choices are of texts that have nothing to do with their questions.
    wrong = [replace(of, asset=to.asset, entry_id=to.entry_id) for of, to in zip(CHOICES, CHOICES[7:], strict=False)]
    monkeypatch.setattr(train_clicks, "_choices", lambda *_: [*wrong[:30], *CHOICES[30:]])
    assert train() == 2
    assert "nothing was written" in capsys.readouterr().err
    assert not (command / "calibration").exists()


def test_too_few_questions_with_words_are_refused(
    command: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train_clicks, "_choices", lambda *_: [made(number, words=False) for number in range(COUNT)])
    assert train() == 2
    assert "feedback.keep_questions" in capsys.readouterr().err
    assert not (command / "calibration").exists()


def test_channels_are_fitted_to_choices_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "calibration", "--channels", "--set", "x"]) == 2
    assert "--channels needs --clicks" in capsys.readouterr().err
