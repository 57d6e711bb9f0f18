"""Tests of calibrations: their log-odds, their files, and which indexes they are refused for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import ConfigError
from penstock.query.fusion.calibration import (
    Calibration,
    ChannelCalibration,
    CollectionCalibration,
    IsotonicMap,
    LogisticMap,
    Provenance,
    QuestionFeatures,
    RelevanceMap,
    ScoreMap,
    read_calibration,
    write_calibration,
)
from penstock.records import Channel, Collection, Field

PASSAGE = Channel(Collection.TEXT, Field.PASSAGE)
LEXICAL = Channel(Collection.TEXT, Field.LEXICAL)
IMAGE = Channel(Collection.IMAGE, Field.JOINT)

LOGISTIC = LogisticMap(slope=10.0, intercept=-7.0)
ISOTONIC = IsotonicMap(scores=(2.0, 5.0, 9.0), values=(-6.0, -3.0, 1.0), slope=0.1)


def channel_calibration(score_map: ScoreMap, encoder: str = "minilm", index_type: str = "FLAT") -> ChannelCalibration:
    return ChannelCalibration(score_map, -4.0, 0.3, 0.1, encoder, index_type)


def calibration() -> Calibration:
    return Calibration(
        {PASSAGE: channel_calibration(LOGISTIC), LEXICAL: channel_calibration(ISOTONIC, "bm25")},
        {
            Collection.TEXT: CollectionCalibration(
                -3.9, 0.8, 0.2, RelevanceMap(1.1, -0.3, QuestionFeatures(lead=0.5, rivals=-1.0))
            )
        },
        Provenance({"glosses": "0f3a"}, labels=120, seed=0, profile="reference"),
    )


def test_a_logistic_map_is_a_line() -> None:
    assert calibration().log_odds(PASSAGE, np.array([0.7, 0.5])).tolist() == pytest.approx([0.0, -2.0])


def test_an_isotonic_map_interpolates_and_continues_as_a_line() -> None:
    log_odds = calibration().log_odds(LEXICAL, np.array([1.0, 2.0, 3.5, 9.0, 10.0]))
    assert log_odds.tolist() == pytest.approx([-6.1, -6.0, -4.5, 1.0, 1.1])


@given(st.lists(st.floats(-5, 50), min_size=2, max_size=20), st.sampled_from([LOGISTIC, ISOTONIC]))
def test_a_map_never_changes_the_order_of_a_channel(scores: list[float], score_map: ScoreMap) -> None:
    log_odds = score_map.log_odds(np.sort(np.array(scores)))
    assert (np.diff(log_odds) >= 0).all()


def test_an_absent_entry_never_exceeds_one_that_was_returned() -> None:
    assert calibration().absent_log_odds(PASSAGE, np.array([0.9, 0.6])) == pytest.approx(-2.0)
    assert calibration().absent_log_odds(PASSAGE, np.array([0.9, 0.1])) == pytest.approx(-7.0)
    assert calibration().absent_log_odds(PASSAGE, np.array([])) == -4.0


def test_a_collection_with_one_channel_left_has_the_log_odds_of_that_channel() -> None:
    assert calibration().combine(Collection.TEXT, {PASSAGE: np.array([1.0])}).tolist() == [1.0]


def test_two_channels_add_their_evidence_beyond_the_prior() -> None:
    log_odds = calibration().combine(Collection.TEXT, {PASSAGE: np.array([1.0]), LEXICAL: np.array([0.5])})
    assert log_odds.tolist() == pytest.approx([-3.9 + 0.8 * (4.9 + 4.4) + 0.2])


def test_no_evidence_leaves_the_prior() -> None:
    plain = CollectionCalibration(prior_log_odds=-3.9)
    without = replace(calibration(), collections={Collection.TEXT: plain})
    terms = {PASSAGE: np.array([-3.9]), LEXICAL: np.array([-3.9])}
    assert without.combine(Collection.TEXT, terms).tolist() == pytest.approx([-3.9])


def test_covers_channels_with_a_calibration_only() -> None:
    assert calibration().covers(PASSAGE)
    assert not calibration().covers(IMAGE)


def test_matches_the_index_it_was_fitted_on_and_channels_it_does_not_know() -> None:
    encoders = {PASSAGE: "minilm", LEXICAL: "bm25", IMAGE: "tower"}
    assert calibration().matches(encoders, dict.fromkeys(encoders, "FLAT")) is None
    assert calibration().matches({IMAGE: "tower"}, {}) is None


def test_names_another_encoder_and_another_index_type() -> None:
    other = calibration().matches({PASSAGE: "e5"}, {PASSAGE: "FLAT"})
    assert other == "it was fitted with encoder minilm of text.passage, and the index has e5"
    other = calibration().matches({PASSAGE: "minilm"}, {PASSAGE: "HNSW"})
    assert other == "it was fitted with index type FLAT of text.passage, and the index has HNSW"


def test_a_file_gives_the_calibration_back_and_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "new" / "a.json", tmp_path / "b.json"
    write_calibration(calibration(), first)
    assert read_calibration(first) == calibration()
    write_calibration(read_calibration(first), second)
    assert first.read_bytes() == second.read_bytes()


def _set(document: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split("/")
    for name in parents:
        document = document[name]
    document[last] = value


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda document: _set(document, "format", 2), "format: Input should be 1"),
        (lambda document: document.pop("provenance"), "provenance: Field required"),
        (lambda document: _set(document, "channels/text.passage/score_map/slope", 0), "is not above 0"),
        (lambda document: _set(document, "channels/text.passage/absent_log_odds", "high"), "valid number"),
        (lambda document: _set(document, "channels/text.smell", document["channels"]["text.passage"]), "smell"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(
    tmp_path: Path, damage: Callable[[dict[str, Any]], object], message: str
) -> None:
    file = tmp_path / "calibration.json"
    write_calibration(calibration(), file)
    document = json.loads(file.read_text())
    damage(document)
    file.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=message) as raised:
        read_calibration(file)
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_one_that_is_not_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_calibration(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(ConfigError, match="is not a calibration"):
        read_calibration(tmp_path / "text.json")


@pytest.mark.parametrize(
    "build",
    [
        lambda: LogisticMap(0.0, 1.0),
        lambda: LogisticMap(1.0, float("nan")),
        lambda: IsotonicMap((), (), 1.0),
        lambda: IsotonicMap((1.0, 1.0), (0.0, 1.0), 1.0),
        lambda: IsotonicMap((1.0, 2.0), (1.0, 0.0), 1.0),
        lambda: IsotonicMap((1.0,), (0.0,), 0.0),
        lambda: CollectionCalibration(-3.0, gain=0.0),
    ],
)
def test_a_map_that_loses_the_order_is_refused(build: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"isotonic|above 0"):
        build()
