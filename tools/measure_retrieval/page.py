"""Writes docs/measured-retrieval.md from the results in benchmarks/results: nothing in its tables is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from penstock.evaluate.report import comparison_table, format_difference, format_figure, set_tables
from penstock.evaluate.result import Result, Row, parse_result, read_result
from tools.measure_retrieval.experiments import experiment_page, read_experiment
from tools.measure_retrieval.two_minutes import two_minutes

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "measured-retrieval.md"
METRICS = ("hit@1", "hit@10", "MRR@10", "nDCG@10")

_HEAD = """\
# Retrieval: what was measured

How well labelled queries find their documents, by profile, set and fusion. `make measure` builds the sets, evaluates
them and writes this page from `benchmarks/results/retrieval-*.json`; [evaluate.md](evaluate.md) says what each figure
means and where the sets come from.

Figures are percent of the test split with 95 % intervals over groups. Ties count against the system. `chance` is a
random order, `text.passage`, `text.lexical` and `image.joint` are the channels alone, and `search` is what a query of
the profile gives by the default fusion. Rows that lost are here too.
"""


def write_page() -> str:
    """Returns the page of the results that are committed."""
    results = [read_result(file) for file in sorted(RESULTS.glob("retrieval-*.json"))]
    experiments = [read_experiment(file) for file in sorted(RESULTS.glob("experiment-*.json"))]
    fusions = [result for file in sorted(RESULTS.glob("fusions-*.json")) for result in _read_list(file)]
    lines = [_HEAD, *two_minutes(fusions, experiments)]
    for profile in dict.fromkeys(result.profile for result in results):
        of_profile = [result for result in results if result.profile == profile]
        lines += [f"## Profile `{profile}`", "", *_provenance(of_profile[0]), *_summary(of_profile)]
        for result in of_profile:
            for of_set in result.sets:
                lines += [f"### {profile}: {of_set.name}", "", *set_tables(of_set, METRICS)]
        lines += [f"### {profile}: the default fusion against taking turns", ""]
        lines += comparison_table(row for result in of_profile for row in result.comparisons)
    if fusions:
        lines += ["## Fusions", "", *_fusion_tables(fusions)]
    for experiment in experiments:
        lines += experiment_page(experiment)
    return "\n".join(lines).rstrip() + "\n"


def _read_list(file: Path) -> list[Result]:
    return [parse_result(document) for document in json.loads(file.read_text(encoding="utf-8"))]


def _provenance(result: Result) -> list[str]:
    encoders = ", ".join(f"{role} `{identity}`" for role, identity in result.encoders.items())
    return [
        f"Fusion: {result.fusion}. Commit {result.commit}; {result.machine}; {result.draws:,} draws, seed "
        f"{result.seed}. Encoders: {encoders}.",
        "",
    ]


def _summary(results: Sequence[Result]) -> list[str]:
    """Returns one line for each set and direction: the search on all its queries, beside chance."""
    header = ["set", "queries", *(f"chance {metric}" for metric in METRICS[:2]), *METRICS]
    rows = []
    for of_set in (of_set for result in results for of_set in result.sets):
        by_system: Mapping[str, Row] = {row.system: row for row in of_set.rows if row.dimension == "all"}
        base, search = by_system["chance"].figures, by_system["search"]
        chance = (format_figure(base[metric], exact=True) for metric in METRICS[:2])
        figures = (format_figure(search.figures[metric]) for metric in METRICS)
        rows.append([of_set.name, f"{search.queries:,}", *chance, *figures])
    return [*_table(header, rows), ""]


def _fusion_tables(results: Sequence[Result]) -> Iterator[str]:
    """Yields a table for each profile, set and slice: every fusion, with its difference to taking turns."""
    slices = dict.fromkeys(
        (result.profile, row.set_name, row.dimension, row.value) for result in results for row in result.comparisons
    )
    header = ["fusion", "queries", *METRICS, "Δ nDCG@10 to rrf", "p", "fuse p95, ms (computing)"]
    for profile, set_name, dimension, value in slices:
        if dimension not in ("all", "kind") and value != "en":
            continue
        label = "all" if dimension == "all" else f"{dimension} {value}"
        rows = []
        for result in results:
            match = [
                row
                for row in result.comparisons
                if (result.profile, row.set_name, row.dimension, row.value) == (profile, set_name, dimension, value)
            ]
            if match:
                of_set = next(of_set for of_set in result.sets if of_set.name == set_name)
                search = next(row for row in of_set.rows if (row.dimension, row.value) == (dimension, value))
                computing = next(step for step in of_set.latency if step.step == "fuse, computing")
                rows.append([
                    result.fusion,
                    f"{search.queries:,}",
                    *(format_figure(search.figures[metric]) for metric in METRICS),
                    format_difference(match[0].difference),
                    f"{match[0].p:.4f}",
                    f"{computing.p95_ms:.2f}",
                ])  # fmt: skip
        yield f"### {profile}: {set_name}, {label}"
        yield ""
        yield from _table(header, rows)
        yield ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]
