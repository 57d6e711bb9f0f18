"""Tests the entry point: a short start, one line for each expected error, and exit codes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from penstock.cli import main as cli
from penstock.errors import LeaseHeldError, UnavailableError

HEAVY = ("torch", "ray", "pymilvus", "kafka", "numpy", "pydantic", "httpx", "rich", "PIL")


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from penstock.cli.main import main; code = main(['--help']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stderr.strip() == "[]"
    assert "produce" in ran.stdout


def test_help_takes_little_time() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "penstock.cli.main", "--help"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used_s < 0.6  # 0.15 to 0.25 of CPU time measured; twice that on a machine that is busy elsewhere


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--profile", "nope", "models"], 2, ["'nope'", "reference"]),
        (["--config", "missing.toml", "config"], 2, ["missing.toml"]),
        (["search"], 2, ["--image"]),
        (["search", "x", "--filter", "{"], 2, ["--filter", "JSON"]),
        (["search", "x", "--filter", "[]"], 2, ["JSON object"]),
        (["search", "x", "--where", "camera"], 2, ["NAME=VALUE"]),
        (["search", "--image", "missing.jpg"], 2, ["missing.jpg"]),
        (["search", "x"], 3, ["penstock up"]),
        (["status"], 3, ["kafka.bootstrap_servers", "penstock up"]),
        (["ingest"], 3, ["kafka.bootstrap_servers", "penstock up"]),
        (["serve"], 3, ["store.uri", "penstock up"]),
        (["deadletters", "list"], 3, ["penstock up"]),
        (["audit"], 3, ["penstock up"]),
        (["deadletters", "list", "--reason", "bad_mood"], 2, ["bad_mood", "corrupt"]),
        (["deadletters", "list", "--since", "soon"], 2, ["soon", "15m"]),
        (["deadletters", "show", "seventeen"], 2, ["seventeen", "0@17"]),
        (["deadletters", "replay"], 3, ["penstock up"]),
        (["deadletters", "replay", "0-17"], 2, ["0-17", "0@17"]),
    ],
)
def test_an_expected_error_is_one_line_and_an_exit_code(
    *,
    arguments: Sequence[str],
    code: int,
    words: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PENSTOCK_QUERY__PORT", "1")  # nothing listens there
    assert cli.main(["--data-dir", str(tmp_path), *arguments]) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert "Traceback" not in output.err
    for word in words:
        assert word in output.err


def test_json_mode_reports_errors_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--data-dir", str(tmp_path), "status", "--json"]) == 3
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["type"] == "UnavailableError"
    assert error["exit_code"] == 3
    assert "penstock up" in error["message"]


def test_a_running_demo_is_pointed_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from penstock.config import Endpoints, write_endpoints

    (tmp_path / "demo").mkdir()
    addresses = {"bootstrap_servers": "b", "store_uri": "s", "ray_address": "r", "query_url": "q"}
    write_endpoints(tmp_path / "demo", Endpoints(pid=os.getpid(), **addresses))
    assert cli.main(["--data-dir", str(tmp_path), "status"]) == 3
    assert f"--data-dir {tmp_path / 'demo'}" in capsys.readouterr().err


def test_an_unexpected_error_is_one_line_and_a_traceback_only_with_v(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_arguments: list[str]) -> None:
        raise ZeroDivisionError("by accident")

    monkeypatch.setattr(cli, "app", fail)
    assert cli.main(["models"]) == 1
    brief = capsys.readouterr().err
    assert brief.count("\n") == 1
    assert "by accident" in brief
    assert cli.main(["-v", "models"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code"),
    [(KeyboardInterrupt(), 130), (UnavailableError("away"), 3), (LeaseHeldError("another driver ingests"), 4)],
)
def test_exit_codes(raised: BaseException, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_arguments: list[str]) -> None:
        raise raised

    monkeypatch.setattr(cli, "app", fail)
    assert cli.main([]) == code


def test_version_needs_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        expected = version("penstock")
    except PackageNotFoundError:
        pytest.skip("penstock is run from its sources, not installed")
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == expected
