"""Tests the requests that `penstock produce` refuses, how it counts files, and how it continues."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.cli import main as cli
from penstock.cli import produce
from penstock.cli.produce_progress import ProduceProgress
from penstock.cli.sources import LocalSource
from penstock.cli.streaming import ProduceTally
from penstock.config import Settings
from penstock.produce.items import ProduceOptions, RefusalCount, RefusedSource, SourceMark
from tests.clock import Clock
from tests.produce.conftest import check_continues


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "give files, folders or .jsonl files"),
        (["a.jpg", "b.jpg", "--key", "k"], "exactly one file"),
        (["-", "--key", "k"], "exactly one file"),
        (["--delete", "k"], "needs --topic"),
        (["a.jpg", "--delete", "k", "--topic", "media.image"], "takes no paths"),
        (["a.jpg", "--topic", "other"], "'other' is not a media topic"),
        (["s3://b/x", "--key", "k"], "exactly one file"),
        (["a.csv", "--column", "text"], "is not FIELD=COLUMN"),
        (["a.jpg", "--attributes", "{"], "--attributes is not JSON"),
        (["a.jpg", "--attributes", "[]"], "must be a JSON object"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--data-dir", str(tmp_path), "produce", *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_a_terminal_shows_what_is_left_by_the_size_of_the_sources(tmp_path: Path) -> None:
    clock = Clock()
    progress = ProduceProgress(
        [LocalSource(str(tmp_path), Settings(data_dir=tmp_path), ProduceOptions())], quiet=True, clock=clock
    )
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text("x")
    progress._count()
    progress.reached(SourceMark(str(tmp_path), {}, 1))
    clock.now_s = 20.0
    assert progress.left_s() == 60.0
    assert progress.line(ProduceTally(acknowledged=1)) == "1 events acknowledged, 0 a second, 25% done, about 60 s left"


def test_files_are_counted_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("a.jpg", "b/c.jpg", ".hidden", ".cache/d.jpg"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    settings = Settings(data_dir=tmp_path)
    assert LocalSource(str(tmp_path), settings, ProduceOptions()).total() == 2
    assert LocalSource("-", settings, ProduceOptions()).total() is None


def test_a_folder_and_jsonl_continue_behind_any_item(tmp_path: Path) -> None:
    for name in ("b.txt", "c.txt", "a/d.txt", "a.b/e.txt", "lines.jsonl"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text('{"text": "a"}\n\n{\n{"text": "b"}\n')
    settings = Settings(data_dir=tmp_path / "data")
    check_continues(lambda: LocalSource(str(tmp_path), settings, ProduceOptions()))
    check_continues(lambda: LocalSource(str(tmp_path / "lines.jsonl"), settings, ProduceOptions()))
    check_continues(lambda: LocalSource(str(tmp_path / "b.txt"), settings, ProduceOptions()))


def test_refusals_of_earlier_runs_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    before = RefusalCount(60, tuple(RefusedSource(f"row {number}", "is empty") for number in range(49)))
    tally = ProduceTally(refused=[RefusedSource("row x", "is odd"), RefusedSource("row y", "")], refused_before=before)
    produce._report(tally)
    shown = capsys.readouterr().err
    assert "62 refused (60 by earlier runs):" in shown
    assert "  row 48: is empty\n  row x: is odd\n  … and 12 more" in shown
    assert "row y" not in shown
    assert "not acknowledged" not in shown
    summary = json.loads(json.dumps(produce._summary(tally)))
    assert [source["label"] for source in summary["refused"]] == ["row x", "row y"]
    assert summary["earlier_runs"]["refused"]["count"] == 60
    assert summary["earlier_runs"]["not_acknowledged"] == {"count": 0, "first": []}
