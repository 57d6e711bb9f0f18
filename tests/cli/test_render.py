"""Tests that the output of commands shows control characters of producers and obeys none."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from penstock.cli.display import StartDisplay
from penstock.cli.main import main
from penstock.cli.render import print_json, print_json_line, print_line, print_table, print_text, say
from penstock.embedded.services import ServiceStatus

KEY = "k\x1b[2J\x1b]52;c;eA==\x07\nforged: line\x9b0m\u202e"
OBEYED = set("\x1b\x07\x9b\r\u202e")


def test_lines_and_tables_escape_keys(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"the media of {KEY} are others")
    print_line(KEY)
    print_table([{"key": KEY, "status": "open"}])
    out, err = capsys.readouterr()
    assert not OBEYED & set(out + err)
    assert err.count("\n") == 1
    assert out.count("\n") == 3  # the line, the head of the table, and its row
    assert r"k\x1b[2J" in out


def test_json_keeps_the_value_and_escapes_its_controls(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"key": KEY})
    pretty = capsys.readouterr().out
    print_json_line({"key": KEY})
    line = capsys.readouterr().out
    assert not OBEYED & set(pretty + line)
    assert json.loads(pretty) == json.loads(line) == {"key": KEY}
    assert line.count("\n") == 1


def test_text_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_text("first\nsecond\x1b[2J")
    assert capsys.readouterr().out == "first\nsecond\\x1b[2J\n"


def test_an_error_that_names_a_hostile_path_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", f"/nowhere/{KEY}", "config"]) == 2
    err = capsys.readouterr().err
    assert not OBEYED & set(err)
    assert err.count("\n") == 1


def test_the_display_of_services_shows_details_as_they_are() -> None:
    output = io.StringIO()
    display = StartDisplay(Console(file=output))
    display.report(ServiceStatus("kafka", "starting", f"[bold]{KEY}"))
    assert not OBEYED & set(output.getvalue())
    assert "[bold]k" in output.getvalue()
