"""Writes docs/measured-adapters.md from benchmarks/results/adapters.json: nothing in its tables is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "adapters.json"
PAGE = ROOT / "docs" / "measured-adapters.md"

_HEAD = """\
# Adapters: what was measured

What small maps of an encoder's vectors gain, by language, number of pairs and method. `python -m
tools.measure_adapters` measures it and writes this page from `benchmarks/results/adapters.json`;
[adapters.md](adapters.md) says what the methods are.

MRR@10 of the dense channel alone, in percent, on the split test, which no fit and no gate reads. A row is the mean over
draws of pairs and first weights: {draws}. Brackets are 95 % intervals over groups; p is that of Fisher's
randomisation test, corrected by Holm within its table. Rows that lost are here too.

Commit {commit}; {machine}; {minutes} minutes. Encoder of the questions: {encoder}.
"""


def write_page() -> str:
    """Returns the page of the committed result."""
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    lines = [_HEAD.format(**result["about"])]
    lines += ["## The gate", "", *_gate(result["gate"]), ""]
    blocks = dict.fromkeys(row["block"] for row in result["rows"])
    for block in blocks:
        rows = [row for row in result["rows"] if row["block"] == block]
        lines += [f"## {block[0].upper()}{block[1:]}", "", *_methods(rows), ""]
    if result["suggestions"]:
        lines += ["## Labels that were suggested", "", *_suggestions(result["suggestions"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _suggestions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the rows of calibrations: of 20 labels that `penstock train suggest` chose, and of 50 random ones."""
    header = ["set", "nDCG@10, 20 suggested", "nDCG@10, 50 random", "draws", "not worse in"]
    figures = [(row, f"{100 * row['suggested']:.1f}", f"{100 * row['random']:.1f}") for row in rows]
    return _table(
        header, [[row["set_name"], *both, str(row["draws"]), str(row["not_worse"])] for row, *both in figures]
    )


def _gate(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    header = [
        "questions, 100 pairs",
        "draws",
        "promoted",
        "gain on dev",
        "gain on test",
        "low of its interval, first draw",
    ]
    return _table(
        header,
        [
            [
                str(row["questions"]), str(row["trials"]), str(row["promoted"]),
                f"{100 * row['dev']:+.1f}", f"{100 * row['test']:+.1f}", f"{100 * row['low']:+.1f}",
            ]
            for row in rows
        ],
    )  # fmt: skip


def _methods(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    header = ["questions", "n", "method", "pairs", "before", "with it", "gain", "p (Holm)", "CPU seconds"]
    return _table(
        header,
        [
            [
                row["questions"], f"{row['count']:,}", row["method"], str(row["pairs"] or ""),
                f"{100 * row['base']:.1f}", f"{100 * row['adapted']:.1f}",
                f"{100 * row['gain']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]",
                f"{row['p_holm']:.4f}", f"{row['seconds']:.1f}",
            ]
            for row in rows
        ],
    )  # fmt: skip


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]
