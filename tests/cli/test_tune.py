"""Tests of `penstock tune`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.cli import main as cli
from tests.evaluate.made_sets import write_texts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --set, or --questions"),
        (["--set", "a", "--questions", "b"], "give either --set, or --questions"),
    ],
)
def test_it_needs_either_a_set_or_questions(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tune", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_store_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    folder = write_texts(tmp_path / "texts")
    assert cli.main(["--profile", "null", "tune", "--set", str(folder), "--on", "redis"]) == 2
    assert "neither lite nor milvus" in capsys.readouterr().err


@pytest.mark.services
@pytest.mark.exhaustive
def test_a_set_is_tuned_on_lite_and_the_choice_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    folder = write_texts(tmp_path / "texts", concepts=150)
    plot, settings = tmp_path / "front.svg", tmp_path / "penstock.toml"
    arguments = ["--set", str(folder), "--on", "lite", "--quick", "--max-queries", "20", "--json"]
    arguments += ["--types", "FLAT,HNSW", "--plot", str(plot), "--write", str(settings)]
    assert cli.main(["--profile", "null", "tune", *arguments]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["product"].startswith("milvus_lite")
    assert {point["index"]["type"] for point in document["points"]} == {"FLAT", "HNSW"}
    assert f'type = "{document["settings"]["type"]}"' in settings.read_text("utf-8")
    assert plot.read_text("utf-8").startswith("<svg")
