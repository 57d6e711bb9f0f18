from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from penstock.encoders.profiles import alternatives
from tests.encoders.fake_packages import shelf_files
from tools.shelf.lock import read_lock

ROOT = Path(__file__).resolve().parents[3]
LOCK = ROOT / "requirements-shelf.lock"


def test_a_lock_is_read_package_by_package() -> None:
    first, second = read_lock(
        "a-b==1.0 \\\n    --hash=sha256:1 \\\n    --hash=sha256:2\n    # via c\nd==2 --hash=sha256:3\n"
    )
    assert (first.name, first.version, first.requirement) == (
        "a-b",
        "1.0",
        "a-b==1.0 --hash=sha256:1 --hash=sha256:2\n",
    )
    assert (second.name, second.version, second.requirement) == ("d", "2", "d==2 --hash=sha256:3\n")


@pytest.mark.parametrize("line", ["a>=1 --hash=sha256:1", "a==1"])
def test_a_requirement_without_version_or_hash_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="does not pin"):
        read_lock(line)


def test_the_lock_has_every_package_of_the_profile_and_no_address() -> None:
    text = LOCK.read_text(encoding="utf-8")
    profile = Path(alternatives.__file__).with_name("shelf.toml").read_text(encoding="utf-8")
    assert {package.name for package in read_lock(text)} >= set(shelf_files(tomllib.loads(profile)))
    assert "://" not in text
    main = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for package in read_lock(text):
        assert not re.search(rf"^{package.name}==", main, re.MULTILINE)


def test_the_lock_of_the_generator_has_its_group_and_no_address() -> None:
    text = (ROOT / "requirements-generator.lock").read_text(encoding="utf-8")
    group = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]["generator"]
    assert {package.name for package in read_lock(text)} == {name.partition(">=")[0] for name in group}
    assert "://" not in text


@pytest.mark.skipif(shutil.which("uv") is None and not (ROOT / ".venv-tools/bin/uv").exists(), reason="needs uv")
def test_packages_that_cannot_be_had_cost_a_line_each_and_no_failure(tmp_path: Path) -> None:
    lock = tmp_path / "shelf.lock"
    lock.write_text("penstock-no-such-package==1.0 --hash=sha256:" + "0" * 64 + "\n")
    uv = shutil.which("uv") or str(ROOT / ".venv-tools/bin/uv")
    command = [sys.executable, "-m", "tools.shelf", str(lock), uv]
    nowhere = {"UV_DEFAULT_INDEX": tmp_path.as_uri(), "UV_NO_CACHE": "1", "UV_OFFLINE": "1"}
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | nowhere, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("shelf: penstock-no-such-package 1.0 is not installed: ")
