"""Checks that docs/metrics.md lists all metrics, and that their names follow Prometheus."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import Counter

from penstock.observability import metrics

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_page_lists_every_metric() -> None:
    rows = [line.strip("|\n").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `penstock_")]
    listed = [tuple(cell.strip() for cell in row[:4]) for row in rows]
    assert listed == [_described(metric) for metric in metrics.every_metric()]
    assert all(len(row) == 5 and row[4].strip() for row in rows)


def test_names_are_in_base_units() -> None:
    for metric in metrics.every_metric():
        name = metrics.name_of(metric)
        assert name.startswith(metrics.PREFIX)
        assert not name.endswith(("_ms", "_mb", "_total"))


def _described(metric: metrics.Metric) -> tuple[str, str, str, str]:
    (family,) = metric.describe()
    name = family.name + ("_total" if isinstance(metric, Counter) else "")
    return f"`{name}`", family.type, ", ".join(metric._labelnames), family.documentation
