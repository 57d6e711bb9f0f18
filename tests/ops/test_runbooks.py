"""Checks that each alert has a runbook, and that the commands in it exist, with their options and settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from ops.__main__ import ROOT
from ops.alerts import every_alert
from ops.boards import every_board
from ops.slos import read_objectives
from penstock.cli.main import app
from penstock.config import Settings, explain

RUNBOOKS = sorted((ROOT / "ops" / "runbooks").glob("*.md"))
OBJECTIVES = read_objectives()
_SECTIONS = ["What it means", "Is it urgent", "Look here", "Do this", "Undo"]
_BLOCK = re.compile(r"^```(.*)\n([\s\S]*?)^```$", re.MULTILINE)
_SETTING = re.compile(rf"`((?:{'|'.join(Settings.model_fields)})\.\w+)`")
_LINK = re.compile(r"\]\(([^)#\s]+)\)")
_DASHBOARD = re.compile(r"dashboard \*([^*]+)\*")
COMMANDS = typer.main.get_command(app)

of_every_runbook = pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)


def test_every_alert_has_a_runbook_and_no_other_exists() -> None:
    assert [page.stem for page in RUNBOOKS] == sorted(alert.name for alert in every_alert(OBJECTIVES))


def test_panels_link_to_runbooks_that_exist() -> None:
    linked = {alert for board in every_board(OBJECTIVES) for panel in board.panels() for alert in panel.runbooks}
    pages = {page.stem for page in RUNBOOKS}
    assert linked <= pages
    assert pages - linked == set(), "each runbook is one click from a panel"


@of_every_runbook
def test_a_runbook_has_its_sections(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == _SECTIONS


@of_every_runbook
def test_the_commands_of_a_runbook_exist(page: Path) -> None:
    for kind, lines in _BLOCK.findall(page.read_text()):
        assert kind in {"sh", "sh manual"}, "commands of other programs are marked as manual"
        for line in lines.splitlines():
            if kind == "sh":
                check(line)
            else:
                assert not line.startswith("penstock"), "commands of penstock are checked, not manual"


@of_every_runbook
def test_a_runbook_names_settings_pages_and_dashboards_that_exist(page: Path) -> None:
    text = page.read_text()
    settings = {setting.name for setting in explain(Settings(), {})}
    assert set(_SETTING.findall(text)) <= settings
    assert [link for link in _LINK.findall(text) if not (page.parent / link).exists()] == []
    assert set(_DASHBOARD.findall(text)) <= {board.title for board in every_board(OBJECTIVES)}


@pytest.mark.parametrize(
    "line", ["penstock audits", "penstock audit --fast", "penstock deadletters list --reason", "kubectl get pods"]
)
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    with pytest.raises(AssertionError):
        check(line)


def check(line: str) -> None:
    """Parses a command line as Penstock would, and runs nothing."""
    words = shlex.split(line, comments=True)
    assert words[0] == "penstock"
    try:
        _parse(COMMANDS, words[1:], None)
    except Exception as exc:  # of the click that typer ships
        raise AssertionError(f"{line}: {exc}") from exc


def _parse(command: Any, words: list[str], parent: Any) -> None:
    context = command.make_context(command.name or "penstock", words, parent=parent)
    left = [*context._protected_args, *context.args]
    if left and hasattr(command, "resolve_command"):
        _, inner, rest = command.resolve_command(context, left)
        _parse(inner, rest, context)


def _lines() -> Iterator[str]:
    for page in RUNBOOKS:
        for kind, lines in _BLOCK.findall(page.read_text()):
            if kind == "sh":
                yield from lines.splitlines()


def test_runbooks_have_commands() -> None:
    assert len(set(_lines())) > 15
