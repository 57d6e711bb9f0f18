"""Writes the section for a reader with two minutes: what to switch on when, with the figures that decide it."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.evaluate.report import format_difference
from penstock.evaluate.result import Result
from tools.measure_retrieval.experiments import Experiment, Table

_HEAD = """\
## In two minutes

| you have | switch on | what it gave here |
| --- | --- | --- |"""
_TAIL = """\

Adapters that are trained on pairs are measured in [adapters.md](adapters.md), what remembering clicks is worth in
[feedback.md](feedback.md). All other defaults stay as they are: what is not clearly better is not a default.
"""


def two_minutes(fusions: Sequence[Result], experiments: Sequence[Experiment]) -> list[str]:
    """Returns the lines of the section; a row whose figures are missing is left out."""
    by_letter = {experiment.letter: experiment for experiment in experiments}
    rows = [
        _calibration(fusions),
        _int8(by_letter.get("I")),
        _fewer_dimensions(by_letter.get("I")),
        _index(by_letter.get("J")),
        _cache(by_letter.get("K")),
        _reranking(by_letter.get("H")),
        _learned(by_letter.get("G")),
    ]
    return [_HEAD, *(row for row in rows if row), _TAIL]


def _calibration(fusions: Sequence[Result]) -> str:
    for result in fusions:
        if "with calibration" in result.fusion and result.profile == "reference":
            for row in result.comparisons:
                if (row.set_name, row.dimension, row.value) == ("mixed", "kind", "name"):
                    gain = format_difference(row.difference)
                    return _row(
                        "texts and images in one index",
                        "the default: calibrated fusion",
                        f"nDCG@10 {gain} against taking turns, on names of `mixed`",
                    )
    return ""


def _int8(compression: Experiment | None) -> str:
    figures = [
        f"{cells[6]} ({table.title})"
        for table in _tables(compression)
        for cells in _rows(table, "whole", values="int8")
    ]
    return (
        _row(
            "an index that outgrows its memory",
            "`store.index.type`: HNSW_SQ or IVF_SQ8, a byte a dimension",
            "Δ nDCG@10 " + "; ".join(figures),
        )
        if figures
        else ""
    )


def _fewer_dimensions(compression: Experiment | None) -> str:
    figures = [
        f"{table.title}: head {head[6]}, PCA {pca[6]}"
        for table in _tables(compression)
        for pca in _rows(table, "pca of documents and queries", values="fp32", dimensions="128")
        for head in _rows(table, "matryoshka head", values="fp32", dimensions="128")
    ]
    if not figures:
        return ""
    return _row(
        "a thousand labelled questions, and an index that outgrows a byte a dimension too",
        "`penstock train compress --method matryoshka`",
        "Δ nDCG@10 at 128 dimensions: " + "; ".join(figures),
    )


def _index(indexes: Experiment | None) -> str:
    figures = []
    for table in _tables(indexes)[:1]:
        recalls = {(row[0], row[3]): row[4] for row in table.rows}
        for name in dict.fromkeys(row[0] for row in table.rows if row[0].startswith("HNSW ")):
            words, images = (recalls.get((name, f"{modality} → image.joint")) for modality in ("words", "images"))
            if words and images:
                figures.append(f"{name}: {words} for words and {images} for images")
    if not figures:
        return ""
    return _row(
        "a server with an approximate index",
        "`penstock tune` with questions of every modality",
        "recall@10 of the same images: " + "; ".join(figures[:3]),
    )


def _cache(serving: Experiment | None) -> str:
    for table in _tables(serving):
        if table.title == "cache of questions":
            cells = [row for row in table.rows if row[:2] == ["1.1", "10,000"] or row[:2] == ["0.7", "10,000"]]
            hits = ", ".join(f"{row[2]} at Zipf {row[0]}" for row in cells)
            return _row("people who ask the same", "the default: the cache of questions", f"hits: {hits}")
    return ""


def _reranking(reranked: Experiment | None) -> str:
    gains = [f"{table.title}: {row[3]}" for table in _tables(reranked) for row in table.rows if row[0] == "first 10"]
    return _row("100 ms to spare", "`query.rerank`", "Δ MRR@10 of ten reread: " + "; ".join(gains)) if gains else ""


def _learned(learned: Experiment | None) -> str:
    gains = [
        f"{table.title}: {row[3]}, p {row[5]} after Holm"
        for table in _tables(learned)
        for row in table.rows
        if row[0] == "cross-attention, all seven rules"
    ]
    return (
        _row(
            "some hundred labelled questions, and the wish for attention",
            "nothing: one tuned number does as well",
            "Δ MRR@10 of cross-attention with seven rules to that number: " + "; ".join(gains),
        )
        if gains
        else ""
    )


def _tables(experiment: Experiment | None) -> Sequence[Table]:
    return () if experiment is None else experiment.tables


def _rows(table: Table, method: str, *, values: str, dimensions: str | None = None) -> list[Sequence[str]]:
    return [
        row
        for row in table.rows
        if row[0] == method and row[2] == values and (dimensions is None or row[1] == dimensions)
    ]


def _row(have: str, switch_on: str, gave: str) -> str:
    return f"| {have} | {switch_on} | {gave} |"
