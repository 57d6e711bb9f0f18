"""`penstock evaluate` as a command, on made sets and the null encoders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from penstock.cli import main as cli
from penstock.encoders.load import fingerprint
from penstock.encoders.profiles import load_profile
from penstock.encoders.transform import described, linear_transform, save_transform
from penstock.query.adapters import encoder_text
from tests.evaluate.made_sets import write_texts


@pytest.fixture
def dataset_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PENSTOCK_PROFILE", "null")
    return write_texts(tmp_path / "texts", concepts=16)


def _evaluate(dataset_folder: Path, *options: str) -> int:
    return cli.main(["evaluate", str(dataset_folder), *options])


def test_tables_are_shown_and_written(dataset_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert _evaluate(dataset_folder, "--output", str(tmp_path / "run.json"), "--k", "1,3") == 0
    shown = capsys.readouterr().out
    assert shown == (tmp_path / "run.md").read_text("utf-8")
    assert "| all | 16 | chance |" in shown
    assert "hit@3" in shown
    result = json.loads((tmp_path / "run.json").read_text("utf-8"))
    assert result["profile"] == "null"
    assert len(result["sets"][0]["per_query"]) == 16


def test_the_profile_of_the_data_folder_is_evaluated(
    dataset_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PENSTOCK_PROFILE")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "profile.json").write_text('{"profile": "null:32", "chosen": {"null:32": {}}}')
    assert _evaluate(dataset_folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["profile"] == "null:32"


def test_two_runs_have_the_same_figures_and_no_difference(
    dataset_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    assert _evaluate(dataset_folder, "--output", str(first)) == 0
    assert _evaluate(dataset_folder, "--output", str(second), "--against", str(first)) == 0
    assert "+0.0 [+0.0, +0.0]" in capsys.readouterr().out
    rows = [json.loads(file.read_text("utf-8"))["sets"][0]["rows"] for file in (first, second)]
    assert rows[0] == rows[1]


def test_the_fusion_is_chosen_as_in_a_request(dataset_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _evaluate(dataset_folder, "--fuse", '{"method": "rrf", "k": 3}', "--json") == 0
    assert json.loads(capsys.readouterr().out)["fusion"] == "rrf, k 3"


def test_a_ranking_is_exported_and_imported(
    dataset_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "out" / "run.json"
    assert _evaluate(dataset_folder, "--export", "trec", "--output", str(output)) == 0
    assert _evaluate(dataset_folder, "--import", str(tmp_path / "out" / "texts.trec"), "--json") == 0
    output_again = capsys.readouterr().out
    imported = json.loads(output_again[output_again.index('{\n "format"') :])
    assert imported["mode"] == "imported"
    assert imported["sets"][0]["per_query"] == json.loads(output.read_text("utf-8"))["sets"][0]["per_query"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--k", "1,x"], "--k '1,x' is not a list of numbers"),
        (["--k", "0"], "--k '0' has a number below 1"),
        (["--split", "later"], "--split 'later' is none of train, dev, test, all"),
        (["--export", "csv"], "--export 'csv' is none of trec, beir"),
        (["--against", "gone.json"], "--against gone.json does not exist"),
        (["--fuse", "rrf"], "--fuse is not JSON"),
        (["--fuse", "[]"], "--fuse must be a JSON object"),
        (["--fuse", '{"methods": "rrf"}'], "--fuse must be a JSON object with some of method"),
        (["--fuse", '{"method": "learned"}'], "learned"),
    ],
)
def test_a_wrong_option_is_named(
    dataset_folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert _evaluate(dataset_folder, *options) == 2
    assert message in capsys.readouterr().err


def test_without_running_planes_live_says_how_to_start_them(
    dataset_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _evaluate(dataset_folder, "--live") in (2, 3)
    assert "penstock up" in capsys.readouterr().err


def test_a_set_is_searched_with_an_adapter(
    dataset_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    profile = load_profile("null")
    about = {
        "name": "made", "side": "query", "lang": None, "field": "passage", "role": "passage.text",
        "encoder": encoder_text(fingerprint("passage.text", profile)),
    }  # fmt: skip
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 64)))[0].astype(np.float32)
    for name, matrix in (("turned", turned), ("unchanged", np.eye(64, dtype=np.float32))):
        save_transform(described(linear_transform(matrix), about), tmp_path / f"{name}.safetensors")
    figures: dict[str, object] = {}
    for searched in ("turned", "unchanged", "without"):
        options = [] if searched == "without" else ["--adapter", str(tmp_path / f"{searched}.safetensors")]
        assert _evaluate(dataset_folder, "--json", *options) == 0
        result = json.loads(capsys.readouterr().out)
        figures[searched] = [row["figures"] for row in result["sets"][0]["rows"] if row["system"] == "text.passage"]
    assert figures["unchanged"] == figures["without"] != figures["turned"]
    assert "adapter turned" not in result["fusion"]


def test_an_adapter_of_another_encoder_is_not_evaluated(
    dataset_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    about = {"name": "made", "side": "query", "lang": None, "field": "passage", "role": "passage.text", "encoder": "x"}
    save_transform(described(linear_transform(np.eye(64, dtype=np.float32)), about), tmp_path / "made.safetensors")
    assert _evaluate(dataset_folder, "--adapter", str(tmp_path / "made.safetensors")) == 2
    assert "was fitted to passage.text x" in capsys.readouterr().err
