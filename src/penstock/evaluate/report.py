"""Writes a result as Markdown tables, with base and interval beside each figure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from penstock.evaluate.intervals import Interval
from penstock.evaluate.result import PairedComparison, Result, Row, SetResult

_PERCENT = 100


def to_markdown(result: Result) -> str:
    """Returns the tables of a result. Figures are in percent, with their 95 % interval."""
    lines = [
        f"Profile `{result.profile}`, fusion: {result.fusion}; {result.mode}. Commit {result.commit or 'unknown'}; "
        f"{result.machine}. Intervals: 95 %, bootstrap over groups, {result.draws:,} draws, seed {result.seed}.",
        "",
        f"    {result.command}",
        "",
    ]
    for of_set in result.sets:
        lines += [f"### {of_set.name}", "", *set_tables(of_set)]
    if result.comparisons:
        lines += [f"### Against {result.against}", "", *comparison_table(result.comparisons)]
    return "\n".join(lines).rstrip() + "\n"


def set_tables(of_set: SetResult, metrics: Sequence[str] | None = None) -> list[str]:
    """Returns the lines of a set's tables, with some metrics or all of them."""
    everything = of_set.rows[0]
    chosen = list(metrics or everything.figures)
    lines = [
        f"{of_set.documents:,} documents, {everything.queries:,} queries of split `{of_set.split}` in "
        f"{everything.groups:,} groups; {of_set.diagnostics.left_out} left out, as their documents are in two splits. "
        f"Set hash `{of_set.hash}`.",
        "",
        *_table(["queries", "n", "system", *chosen], (_cells(row, chosen) for row in of_set.rows)),
    ]
    if of_set.latency:
        cells = (
            [row.step, f"{row.queries:,}", *(f"{ms:.2f}" for ms in (row.p50_ms, row.p95_ms, row.p99_ms))]
            for row in of_set.latency
        )
        lines += _table(["step", "n", "p50, ms", "p95, ms", "p99, ms"], cells)
    return lines + _diagnostics(of_set)


def comparison_table(comparisons: Iterable[PairedComparison]) -> list[str]:
    """Returns the lines of the table of differences."""
    header = ["set", "queries", "n", "metric", "base", "difference", "p", "p (Holm)", "win / tie / loss"]
    return _table(
        header,
        (
            [
                row.set_name,
                _slice(row),
                f"{row.queries:,}",
                row.metric,
                f"{_PERCENT * row.base:.1f}",
                format_difference(row.difference),
                f"{row.p:.4f}",
                f"{row.p_holm:.4f}",
                f"{row.counts.win} / {row.counts.tie} / {row.counts.loss}",
            ]
            for row in comparisons
        ),
    )


def format_figure(interval: Interval, *, exact: bool = False) -> str:
    """Returns a figure in percent with its interval; without one if it is exact."""
    mean = f"{_PERCENT * interval.mean:.1f}"
    return mean if exact else f"{mean} [{_PERCENT * interval.low:.1f}, {_PERCENT * interval.high:.1f}]"


def format_difference(interval: Interval) -> str:
    """Returns a difference in percentage points, with signs."""
    return f"{_PERCENT * interval.mean:+.1f} [{_PERCENT * interval.low:+.1f}, {_PERCENT * interval.high:+.1f}]"


def _cells(row: Row, metrics: Sequence[str]) -> list[str]:
    figures = (format_figure(row.figures[metric], exact=row.system == "chance") for metric in metrics)
    return [_slice(row), f"{row.queries:,}", row.system, *figures]


def _slice(row: Row | PairedComparison) -> str:
    return row.value if row.dimension == row.value else f"{row.dimension} {row.value}"


def _diagnostics(of_set: SetResult) -> list[str]:
    diagnostics = of_set.diagnostics
    lines = [f"- near-duplicates across splits: {diagnostics.divided_groups} groups"]
    if len(diagnostics.relevant) > 1:
        shares = (
            f"{name} {_PERCENT * diagnostics.first_places.get(name, 0.0):.1f} of {_PERCENT * share:.1f}"
            for name, share in diagnostics.relevant.items()
        )
        lines.append(f"- first places of share of relevant documents, percent: {', '.join(shares)}")
    if diagnostics.cosines:
        cosines = (f"{name} {value:.3f}" for name, value in diagnostics.cosines.items())
        lines.append(f"- mean cosine: {'; '.join(cosines)}")
    if diagnostics.centroid_distances:
        distances = (f"{name} {value:.3f}" for name, value in diagnostics.centroid_distances.items())
        lines.append(f"- distance of centroids: {'; '.join(distances)}")
    return [*lines, ""]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [*_lines(header, rows), ""]


def _lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
