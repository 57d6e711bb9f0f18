"""Output of the commands: JSON, tables and lines on stdout, messages and progress bars on stderr.

Terminals obey nothing in it: control characters in what producers sent are shown as escapes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from penstock.observability.control_characters import escape_json, escape_line, escape_lines

if TYPE_CHECKING:
    from rich.progress import TaskID

StageListener: TypeAlias = Callable[[str, int, int | None], None]  # stage, items done, total


def print_json(value: object) -> None:
    """Writes one JSON document to stdout. Values that JSON lacks, such as paths, are written as text."""
    sys.stdout.write(escape_json(json.dumps(value, ensure_ascii=False, indent=2, default=str)) + "\n")


def print_line(line: str) -> None:
    """Writes one line to stdout."""
    sys.stdout.write(escape_line(line) + "\n")


def print_text(text: str) -> None:
    """Writes a text of several lines to stdout."""
    sys.stdout.write(escape_lines(text) + "\n")


def print_json_line(value: object) -> None:
    """Writes one JSON document on one line to stdout, immediately."""
    sys.stdout.write(escape_json(json.dumps(value, ensure_ascii=False)) + "\n")
    sys.stdout.flush()


def print_table(rows: Sequence[Mapping[str, object]], *, title: str | None = None) -> None:
    """Writes rows of the same columns to stdout as a table. Without a terminal its width is not limited."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=400)
    table = Table(*rows[0], title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(Text("" if value is None else escape_line(str(value))) for value in row.values()))
    console.print(table)


def clear_screen() -> None:
    """Clears the terminal; does nothing if stdout is not a terminal."""
    from rich.console import Console

    Console().clear()


def say(line: str) -> None:
    """Writes one line to stderr, so that stdout holds results only."""
    sys.stderr.write(escape_line(line) + "\n")
    sys.stderr.flush()


@contextmanager
def stage_progress(*, quiet: bool = False) -> Iterator[StageListener]:
    """Yields a function that shows the progress of a stage, by its name, items done and total.

    Each stage has a bar on stderr. The elapsed time of a bar stops when the next stage begins. Without a terminal, or
    if `quiet`, nothing is shown.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                for task in tasks.values():
                    bars.stop_task(task)
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield show
