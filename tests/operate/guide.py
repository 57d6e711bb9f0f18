"""Reads the commands of `docs/operate.md` that lead from an empty cluster to the first image."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.operate.programs import ROOT

_TEXT = (ROOT / "docs" / "operate.md").read_text("utf-8")


def commands() -> Sequence[str]:
    """Returns the commands in order."""
    block = re.search(r"<!-- commands -->\n```sh\n(.*?)```", _TEXT, re.DOTALL)
    assert block is not None, "docs/operate.md has no block of commands"
    return block[1].splitlines()


def commands_of(beginning: str) -> Sequence[str]:
    """Returns the commands that begin with these words, of which there has to be one."""
    chosen = [command for command in commands() if command.startswith(beginning)]
    assert chosen, f"docs/operate.md has no command that begins with `{beginning}`"
    return chosen


def document() -> str:
    """Returns the whole page."""
    return _TEXT
