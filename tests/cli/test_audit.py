"""Tests the text and the JSON that `penstock audit` prints, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import penstock.audit
from penstock.audit import AuditProblem, AuditReport
from penstock.audit.report import MAX_PROBLEMS
from penstock.broker.base import Partition
from penstock.cli import main as cli
from penstock.records import Collection, Position
from tests.audit.simulated_plane import TEXT, SimulatedPlane

ADDRESSES = {"PENSTOCK_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "PENSTOCK_STORE__URI": "http://127.0.0.1:1"}


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> SimulatedPlane:
    """Returns a plane in memory that the command audits instead of servers."""
    plane = SimulatedPlane()

    def run_audit(
        _settings: object,
        *,
        sample: float | None,
        on_progress: object,
        on_problem: Callable[[AuditProblem], None] | None,
    ) -> AuditReport:
        return plane.audit(sample=sample, on_problem=on_problem)

    monkeypatch.setattr(penstock.audit, "run_audit", run_audit)
    for name, value in ADDRESSES.items():
        monkeypatch.setenv(name, value)
    return plane


def test_a_balanced_audit_shows_its_counts_and_exits_with_0(
    plane: SimulatedPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    plane.produce("a", b"1")
    plane.produce("a", b"2")
    plane.produce("b", b"bad")
    plane.ingest()
    plane.produce("c", b"1")
    assert cli.main(["audit"]) == 0
    output = capsys.readouterr().out
    (row,) = (line.split() for line in output.splitlines() if line.startswith(TEXT))
    assert row == [TEXT, "3", "=", "1", "0", "0", "1", "1", "1"]
    assert "1 assets and 2 entries checked" in output
    assert output.splitlines()[-1] == "balanced"


def test_an_imbalance_names_the_ids_and_exits_with_1(plane: SimulatedPlane, capsys: pytest.CaptureFixture[str]) -> None:
    skipped = [plane.produce(str(number), b"1") for number in range(25)]
    plane.commit(Partition(TEXT, 0), 25)
    assert cli.main(["audit"]) == 1
    output = capsys.readouterr().out
    assert "≠" in output
    assert sum(line.startswith("missing: ") for line in output.splitlines()) == 20
    assert "… and 5 more: 25 problems in total (25 missing); `--problems FILE` writes all of them to a file" in output
    assert output.splitlines()[-1] == "NOT balanced"
    assert cli.main(["audit", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["balanced"], report["problem_counts"]) == (False, {"missing": 25})
    assert {problem["event"] for problem in report["problems"]} == {str(position) for position in skipped}


def test_every_problem_is_written_to_a_file_beyond_those_that_are_kept(
    plane: SimulatedPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    skipped = [plane.produce(str(number), b"1") for number in range(MAX_PROBLEMS + 100)]
    plane.commit(Partition(TEXT, 0), len(skipped))
    file = tmp_path / "problems.jsonl"
    file.write_text("from an earlier audit\n")
    assert cli.main(["audit", "--problems", str(file)]) == 1
    problems = [json.loads(line) for line in file.read_text().splitlines()]
    assert {problem["event"] for problem in problems} == {str(position) for position in skipped}
    assert {problem["kind"] for problem in problems} == {"missing"}
    assert len(problems) == len(skipped)
    output = capsys.readouterr().out
    assert "… and 1,080 more: 1,100 problems in total (1,100 missing)\n" in output
    assert f"all 1,100 problems are in {file}, one per line" in output


def test_a_balance_leaves_the_file_of_problems_empty(
    plane: SimulatedPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plane.produce("a", b"1")
    plane.ingest()
    file = tmp_path / "problems.jsonl"
    assert cli.main(["audit", "--problems", str(file)]) == 0
    assert file.read_text() == ""
    assert str(file) not in capsys.readouterr().out


@pytest.mark.parametrize("where", ["absent/problems.jsonl", "/dev/full"])
def test_a_file_of_problems_that_cannot_be_written_is_named(
    where: str, plane: SimulatedPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plane.produce("a", b"1")
    plane.commit(Partition(TEXT, 0), 1)
    assert cli.main(["audit", "--problems", str(tmp_path / where)]) == 2
    assert f"--problems {tmp_path / where} cannot be written" in capsys.readouterr().err


def test_json_has_every_count(plane: SimulatedPlane, capsys: pytest.CaptureFixture[str]) -> None:
    plane.produce("a", b"2")
    plane.ingest()
    lost = plane.entries()[1]
    plane.store.delete(Collection.TEXT, [lost.id])
    assert cli.main(["audit", "--json", "--sample", "1"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["produced"], report["indexed"], report["assets"], report["entries"], report["sample"]) == (
        1,
        1,
        1,
        1,
        1.0,
    )
    outcomes = ("indexed", "deleted", "expired", "superseded", "dead_lettered")  # of docs/audit.md
    assert sum(report[name] for name in outcomes) == report["produced"]
    (problem,) = report["problems"]
    assert (problem["kind"], problem["entry"], problem["event"]) == ("incomplete", lost.id, str(Position(TEXT, 0, 0)))
    (partition,) = (
        partition for partition in report["partitions"] if (partition["topic"], partition["partition"]) == (TEXT, 0)
    )
    assert (partition["committed"], partition["produced"], partition["indexed"]) == (1, 1, 1)
    assert report["unseen"]


@pytest.mark.parametrize("share", ["0", "1.5", "-1"])
def test_a_sample_is_a_share(share: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in ADDRESSES.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["audit", "--sample", share]) == 2
    assert "share above 0 and up to 1" in capsys.readouterr().err
