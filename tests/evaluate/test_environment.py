"""Describes where a result comes from: commit, machine and command."""

from __future__ import annotations

import subprocess
from pathlib import Path

from penstock.evaluate.environment import describe_command, describe_commit, describe_machine


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_commit_is_marked_if_its_sources_differ(tmp_path: Path) -> None:
    assert describe_commit(tmp_path) == ""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("1")
    (tmp_path / "result.json").write_text("1")
    _git(tmp_path, "init")
    _git(tmp_path, "add", "-A")
    _git(tmp_path, "commit", "-m", "x")
    clean = describe_commit(tmp_path)
    assert len(clean) == 10
    (tmp_path / "result.json").write_text("2")
    assert describe_commit(tmp_path) == clean
    (tmp_path / "src" / "a.py").write_text("2")
    assert describe_commit(tmp_path) == clean + "+"


def test_a_command_has_no_folders_of_this_machine() -> None:
    assert describe_command(["evaluate", "/data/sets/wordnet", "--k", "1,5"]) == "penstock evaluate wordnet --k 1,5"


def test_the_machine_is_described_by_its_size() -> None:
    assert "cores" in describe_machine()
