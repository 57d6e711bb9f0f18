"""The Dockerfile is clean, and its context has what it copies."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
_DOCKERFILE = ROOT / "deploy" / "Dockerfile"
_TEXT = _DOCKERFILE.read_text("utf-8")


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    result = subprocess.run([hadolint, "--no-color", _DOCKERFILE], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_what_is_copied_is_in_the_context() -> None:
    allowed = {
        line.removeprefix("!")
        for line in (ROOT / "deploy" / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
        if line.startswith("!")
    }
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", _TEXT, re.MULTILINE)
    copied = {name for line in lines for name in line.split()}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_there_are_images_for_a_cluster_with_and_without_gpus_and_for_one_machine() -> None:
    assert _images().keys() == {"cpu", "gpu", "all"}
    assert list(_images())[-1] == "cpu"  # what a build without a target makes


def test_the_source_is_the_last_layer_of_every_image() -> None:
    for stage in _images().values():
        copies = [line for line in stage.splitlines() if line.startswith("COPY")]
        assert "--from=app" in copies[-1]


def test_an_image_runs_as_a_user_without_rights() -> None:
    assert re.findall(r"^USER (\S+)$", _TEXT, re.MULTILINE) == ["10001:10001"]
    assert "FROM base AS image" in _TEXT  # none of the stages that have a pip


def test_images_that_share_packages_share_their_layers() -> None:
    bases = re.findall(r"^FROM (\S+) AS (?:cpu|all)$", _TEXT, re.MULTILINE)
    assert bases == ["image-cpu", "image-cpu"]


def _images() -> Mapping[str, str]:
    """Returns the instructions of each target by its name, in order."""
    stages = re.split(r"^FROM image(?:-cpu)? AS ", _TEXT, flags=re.MULTILINE)[1:]
    named = {stage.split()[0]: stage for stage in stages}
    return {name: stage for name, stage in named.items() if name != "image-cpu"}
