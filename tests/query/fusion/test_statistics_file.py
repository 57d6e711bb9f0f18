"""The file of the running statistics: it survives restarts, replicas and damage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.query.fusion.statistics import Spread
from penstock.query.fusion.statistics_file import StatisticsFile, statistics_key
from tests.query.fusion.test_statistics import BY_TEXT, IMAGE, rankings

KEY = statistics_key({"joint.image": "a"}, "standard")


def opened(folder: Path, key: str = KEY) -> StatisticsFile:
    return StatisticsFile(folder, key, interval_s=None)


def mean_of(file: StatisticsFile) -> float:
    return file.statistics.spread(IMAGE, BY_TEXT).mean


def observe(file: StatisticsFile, score: float) -> None:
    file.statistics.observe(rankings(score), 50)


def test_statistics_survive_a_restart(tmp_path: Path) -> None:
    first = opened(tmp_path)
    observe(first, 0.25)
    first.close()
    second = opened(tmp_path)
    assert (second.path, mean_of(second)) == (first.path, 0.25)
    observe(second, 0.75)
    second.close()
    assert mean_of(opened(tmp_path)) == 0.5


def test_statistics_of_other_encoders_or_another_analyzer_start_again(tmp_path: Path) -> None:
    keys = {KEY, statistics_key({"joint.image": "b"}, "standard"), statistics_key({"joint.image": "a"}, "words")}
    assert len(keys) == 3
    for key in keys:
        file = opened(tmp_path, key)
        assert file.statistics.spread(IMAGE, BY_TEXT) == Spread(0.0, 0.0)
        observe(file, 0.25)
        file.close()


def test_replicas_have_a_file_each_and_lose_nothing_of_each_other(tmp_path: Path) -> None:
    first = opened(tmp_path)
    observe(first, 0.25)
    first.save()
    second = opened(tmp_path)
    assert first.path != second.path
    assert mean_of(second) == 0.25, "a new replica continues with what another one counted"
    observe(second, 0.75)
    second.close()
    first.close()
    restarted = [opened(tmp_path), opened(tmp_path)]
    assert [mean_of(file) for file in restarted] == [0.25, 0.5]


def test_a_file_holds_numbers_and_the_names_of_channels_only(tmp_path: Path) -> None:
    file = opened(tmp_path)
    observe(file, 0.25)
    file.close()
    assert file.path is not None
    assert json.loads(file.path.read_text()) == {
        "key": KEY,
        "channels": {"image.joint by joint.text": [[1, 1, 0.25, 0.0625]]},
    }


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 1}', f'{{"key": "{KEY}", "channels": {{"a": [[1]]}}}}'])
def test_a_damaged_file_is_left_out_and_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "replica-0.json").write_text(content)
    file = opened(tmp_path)
    observe(file, 0.25)
    file.close()
    assert mean_of(opened(tmp_path)) == 0.25


def test_without_a_folder_the_statistics_live_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    file = opened(tmp_path / "file")
    observe(file, 0.25)
    file.close()
    assert (file.path, mean_of(file)) == (None, 0.25)
    assert "kept in memory only" in caplog.text


def test_a_save_without_new_questions_writes_nothing(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.save()
    assert file.path is not None
    assert not file.path.exists()
    file.close()


def test_statistics_are_saved_in_the_background(tmp_path: Path) -> None:
    file = StatisticsFile(tmp_path, KEY, interval_s=0.01)
    assert file.path is not None
    observe(file, 0.25)
    while not file.path.exists():
        pass
    file.close()
