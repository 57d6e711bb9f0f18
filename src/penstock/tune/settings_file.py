"""Writes the chosen index into a file of settings, and leaves the rest of the file as it is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from penstock.config import VectorIndexSettings
from penstock.errors import UsageError
from penstock.store.vector_index import varied

_TABLE = "[store.index]"
_HEAD = re.compile(r"^\s*\[")


def settings_text(index: VectorIndexSettings, *, reason: str) -> str:
    """Returns the table of TOML that sets an index, with the reason as a comment."""
    lines = [_TABLE, f"# {reason}", f'type = "{index.type}"']
    return "\n".join([*lines, *(f"{name} = {value}" for name, value in varied(index, index.type).items())]) + "\n"


def write_settings(index: VectorIndexSettings, file: Path, *, reason: str) -> None:
    """Replaces the table `[store.index]` of a file of settings, or adds it at the end; the file may be missing.

    Raises:
        UsageError: the file is not TOML, or has the index in another form than that table.
    """
    before = file.read_text("utf-8") if file.is_file() else ""
    kept = _without_table(before)
    try:
        document = tomllib.loads(kept)
    except tomllib.TOMLDecodeError as exc:
        raise UsageError(f"{file} is not valid TOML, and stays as it is: {exc}") from exc
    store = document.get("store", {})
    if isinstance(store, dict) and "index" in store:
        raise UsageError(f"{file} has store.index in another form than the table {_TABLE}: change it there by hand")
    unfinished = file.with_name(f".{file.name}.part")
    head = f"{kept.rstrip()}\n\n" if kept.strip() else ""
    unfinished.write_text(head + settings_text(index, reason=reason), encoding="utf-8")
    unfinished.replace(file)


def _without_table(text: str) -> str:
    """Returns the text without the table of the index."""
    kept: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        if _HEAD.match(line):
            inside = line.strip() == _TABLE
        if not inside:
            kept.append(line)
    return "".join(kept)
