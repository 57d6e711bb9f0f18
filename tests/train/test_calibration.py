"""Tests of fitting a calibration to labelled questions, from made rankings and through the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from penstock.cli import main as cli
from penstock.errors import UsageError
from penstock.evaluate.datasets import read_set
from penstock.evaluate.reliability import expected_calibration_error
from penstock.query.fusion.calibration import Calibration, IsotonicMap, Provenance, read_calibration
from penstock.query.relevance import relevance_of_entries
from penstock.query.types import Rankings
from penstock.records import AssetRef, Channel, Collection, Entry, Field, ScoredEntry, bare_entry
from penstock.train.calibration import fit_calibration
from penstock.train.labels import LabelledQuestion, divide, spare_entries
from tests.evaluate.made_sets import write_texts

PASSAGE = Channel(Collection.TEXT, Field.PASSAGE)
LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)
IMAGE = Channel(Collection.IMAGE, Field.JOINT)
SPEECH = Channel(Collection.SPEECH, Field.PASSAGE)
FRAME = Channel(Collection.FRAME, Field.JOINT)
CHANNELS = (PASSAGE, LEXICAL, IMAGE, SPEECH, FRAME, Channel(Collection.SPEECH, Field.LEXICAL))
ENCODERS = dict.fromkeys(CHANNELS, "minilm") | {FRAME: "another tower"}
INDEX_TYPES = dict.fromkeys(CHANNELS, "exact")
SPACES = dict.fromkeys(CHANNELS, "minilm") | {LEXICAL: "lexical"}


def entry(collection: Collection, number: int) -> Entry:
    asset = AssetRef("default", f"media.{collection}", str(number))
    return bare_entry(asset, collection)


ENTRIES = {channel: [entry(channel.collection, number) for number in range(40)] for channel in (PASSAGE, IMAGE)}
ENTRIES[LEXICAL] = ENTRIES[PASSAGE]


def question(
    seed: int,
    channels: Sequence[Channel] = (PASSAGE, LEXICAL),
) -> LabelledQuestion:
    """Returns a question whose right text has the higher scores of two overlapping distributions."""
    rng = np.random.default_rng(seed)
    right = int(rng.integers(40))
    by_channel = {}
    for channel in channels:
        scores = rng.normal(0.3, 0.1, 40)
        if channel is not IMAGE:
            scores[right] += rng.normal(0.25, 0.15)
        order = np.argsort(-scores)[:20]
        by_channel[channel] = [ScoredEntry(ENTRIES[channel][place], float(scores[place])) for place in order]
    rankings = Rankings(by_channel, {}, dict.fromkeys(Collection, 20), SPACES)
    return LabelledQuestion("what is it", rankings, frozenset({ENTRIES[PASSAGE][right].id}))


def fit(count: int, channels: Sequence[Channel] = (PASSAGE, LEXICAL), *, isotonic: bool = False) -> Calibration:
    questions = [question(seed, channels) for seed in range(count)]
    return fit_calibration(questions, ENCODERS, INDEX_TYPES, Provenance({}, count, 0, "made"), isotonic=isotonic)


def outcomes(calibration: Calibration, seeds: range) -> tuple[np.ndarray, np.ndarray]:
    """Returns relevance and rightness of the best entry of each question, with its answer and without."""
    rows = []
    for seed in seeds:
        for version in (question(seed), question(seed).without_answer()):
            relevances = relevance_of_entries(version.rankings, version.text, calibration)
            best = max(relevances, key=lambda entry_id: relevances[entry_id])
            rows.append((relevances[best], best in version.right))
    probabilities, right = zip(*rows, strict=True)
    return np.array(probabilities), np.array(right)


@pytest.mark.parametrize("isotonic", [False, True])
def test_relevance_is_a_probability_on_questions_it_was_not_fitted_to(isotonic: bool) -> None:
    probabilities, right = outcomes(fit(500, isotonic=isotonic), range(1_000, 2_000))
    assert expected_calibration_error(probabilities, right) < 0.05
    assert 0.2 < right.mean() < 0.5


def test_equal_questions_give_equal_calibrations() -> None:
    assert fit(60) == fit(60)


def test_ten_questions_are_enough_for_finite_odds_in_order() -> None:
    calibration = fit(10)
    probabilities, right = outcomes(calibration, range(1_000, 1_100))
    assert np.isfinite(probabilities).all()
    assert probabilities[right].mean() > probabilities[~right].mean()
    assert calibration.collections[Collection.TEXT].relevance is not None


def test_isotonic_maps_need_many_labels() -> None:
    assert isinstance(fit(500, isotonic=True).channels[PASSAGE].score_map, IsotonicMap)
    assert not isinstance(fit(499, isotonic=True).channels[PASSAGE].score_map, IsotonicMap)


def test_a_channel_that_never_finds_anything_stays_silent() -> None:
    calibration = fit(60, (PASSAGE, LEXICAL, IMAGE))
    best_image = calibration.log_odds(IMAGE, np.array([0.6]))[0]
    best_text = calibration.log_odds(PASSAGE, np.array([0.6]))[0]
    assert best_image < -3 < best_text


def test_speech_borrows_from_texts_and_frames_only_from_the_same_encoder() -> None:
    calibration = fit(60, (PASSAGE, LEXICAL, IMAGE))
    assert calibration.channels[SPEECH] == calibration.channels[PASSAGE]
    assert not calibration.covers(FRAME)
    assert calibration.provenance.borrowed == {Collection.SPEECH: Collection.TEXT}


def test_a_set_with_too_few_labels_is_refused_with_what_happens_instead(tmp_path: Path) -> None:
    dataset = read_set(write_texts(tmp_path / "few", concepts=8))
    with pytest.raises(UsageError, match=r"at least 10\. Without one, searches compare channels by z-by-channel"):
        divide(dataset, seed=0)


def test_held_out_questions_share_no_group_with_those_of_the_fit(tmp_path: Path) -> None:
    dataset = read_set(write_texts(tmp_path / "texts"))
    rows, held_out = divide(dataset, seed=0)
    assert not set(dataset.query_groups[rows]) & set(dataset.query_groups[held_out])
    assert len(rows) >= 10
    again, _ = divide(dataset, seed=0)
    assert (rows == again).all()


def test_what_comes_after_takes_the_places_of_the_right_entries() -> None:
    labelled = question(0)
    ranked = labelled.rankings.by_channel[PASSAGE]
    right = ranked[0].entry.id
    following = [scored for scored in (ScoredEntry(entry, -1.0) for entry in ENTRIES[PASSAGE]) if scored not in ranked]
    without = replace(labelled, right=frozenset({right}), further={PASSAGE: following}).without_answer()
    assert without.rankings.by_channel[PASSAGE] == [*ranked[1:], following[0]]
    lexical = [scored for scored in labelled.rankings.by_channel[LEXICAL] if scored.entry.id != right]
    assert without.rankings.by_channel[LEXICAL] == lexical, "a channel that has no more returns fewer"
    assert without.right == frozenset()


def test_as_many_entries_are_spared_as_a_question_has_right_ones(tmp_path: Path) -> None:
    dataset = read_set(write_texts(tmp_path / "texts"))
    most = max(len(dataset.judgements.rows_of(row)) for row in range(len(dataset.queries)))
    assert spare_entries(dataset) == most >= 1


def train(*arguments: str) -> int:
    return cli.main(["train", "calibration", *arguments])


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    return write_texts(tmp_path / "texts")


def test_the_command_writes_calibration_and_card(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    assert train("--set", str(texts), "--profile", "null") == 0
    kept = tmp_path / "data" / "calibration" / "null.json"
    calibration = read_calibration(kept)
    assert calibration.covers(LEXICAL)
    card = json.loads(kept.with_suffix(".card.json").read_text())
    assert card["labels"] == calibration.provenance.labels
    assert card["sets"][0]["slices"][0]["name"] == "all"
    output = capsys.readouterr()
    assert "nDCG@10 calibrated" in output.out
    assert "Expected calibration error" in output.err
    before = kept.read_bytes()
    assert train("--set", str(texts), "--profile", "null", "--json") == 0
    assert kept.read_bytes() == before
    assert json.loads(capsys.readouterr().out)["profile"] == "null"


def test_the_profile_of_the_data_folder_is_fitted(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("PENSTOCK_PROFILE", raising=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "profile.json").write_text('{"profile": "null:32", "chosen": {"null:32": {}}}')
    assert train("--set", str(texts)) == 0
    assert (tmp_path / "data" / "calibration" / "null:32.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--clicks", "--set", "x"], "give --set or --clicks"), ([], "at least one folder")],
)
def test_a_call_without_labels_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*arguments) == 2
    assert message in capsys.readouterr().err


def test_choices_need_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path))
    assert train("--clicks", "--profile", "null:32") == 3
    assert "store.uri" in capsys.readouterr().err
