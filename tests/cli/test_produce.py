"""Tests the requests that `penstock produce` refuses, and how it counts files."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.cli import main as cli
from penstock.cli.produce import _count_files


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "give files, folders or .jsonl files"),
        (["a.jpg", "b.jpg", "--key", "k"], "exactly one file"),
        (["-", "--key", "k"], "exactly one file"),
        (["--delete", "k"], "needs --topic"),
        (["a.jpg", "--delete", "k", "--topic", "media.image"], "takes no paths"),
        (["a.jpg", "--topic", "other"], "'other' is not a media topic"),
        (["a.jpg", "--attributes", "{"], "--attributes is not JSON"),
        (["a.jpg", "--attributes", "[]"], "must be a JSON object"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--data-dir", str(tmp_path), "produce", *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_files_are_counted_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("a.jpg", "b/c.jpg", ".hidden", ".cache/d.jpg"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    assert _count_files([str(tmp_path), str(tmp_path / "a.jpg")]) == 3
    assert _count_files([str(tmp_path), "-"]) is None
