"""The record of one block of experiments: its tables, as text, with where they come from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from penstock.evaluate.environment import describe_commit, describe_machine


@dataclass(frozen=True)
class Table:
    """A table of figures.

    Attributes:
        title: such as `wordnet, passages`.
        caption: what the figures are; empty: nothing beyond the block's.
        columns: their names.
        rows: of as many cells, as text.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Experiment:
    """A block of experiments that belong together.

    Attributes:
        letter: its place in the page, such as `I`.
        title: such as `Compression`.
        caption: what is measured, and what is not.
        command: that measured it.
        commit, machine: where it was measured.
        seconds: of the whole block.
        tables: at least one.
    """

    letter: str
    title: str
    caption: str
    command: str
    seconds: float
    tables: Sequence[Table]
    commit: str = field(default_factory=describe_commit)
    machine: str = field(default_factory=describe_machine)

    def write(self, folder: Path) -> Path:
        """Writes the block as `experiment-LETTER.json`; returns the file."""
        file = folder / f"experiment-{self.letter}.json"
        file.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return file


def read_experiment(file: Path) -> Experiment:
    """Returns the block that a file holds."""
    document = json.loads(file.read_text("utf-8"))
    return Experiment(**{**document, "tables": [Table(**table) for table in document["tables"]]})


def experiment_page(experiment: Experiment) -> list[str]:
    """Returns the lines of a block's section."""
    lines = [f"## {experiment.letter}. {experiment.title}", "", experiment.caption, ""]
    lines += [
        f"Commit {experiment.commit}; {experiment.machine}; {experiment.seconds:,.0f} s by `{experiment.command}`.",
        "",
    ]
    for table in experiment.tables:
        lines += [f"### {experiment.letter}: {table.title}", ""]
        if table.caption:
            lines += [table.caption, ""]
        for cells in (table.columns, ["---"] * len(table.columns), *table.rows):
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return lines
