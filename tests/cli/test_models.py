"""Tests `penstock models`."""

from __future__ import annotations

import json

import pytest

from penstock.cli import main as cli


def test_json_has_the_fields_of_each_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--profile", "null:8", "models", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["profile"] == "null:8"
    assert "reference" in report["profiles"]
    for model in report["models"]:
        assert {"role", "model", "space", "precision", "source", "present", "size_bytes"} == model.keys()
    assert {"dim": 8} in [{"dim": model["space"]["dim"]} for model in report["models"] if model["space"]]
