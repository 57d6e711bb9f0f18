"""Summarizes the metrics of a re-index: what `penstock status` shows of the version that is filled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from penstock.cli.scrape import Scrape
from penstock.observability import metrics


def reindex_metrics(now: Scrape) -> Mapping[str, Mapping[str, float]]:
    """Returns by version: the assets done, total and missing, the rate, the seconds left, and the group's lag."""
    by_version: dict[str, dict[str, float]] = {}
    for labels, value in now.samples.get(metrics.name_of(metrics.REINDEX_ASSETS), ()):
        by_version.setdefault(labels["version"], {})[labels["state"]] = value
    named = (("per_s", metrics.REINDEX_RATE), ("left_s", metrics.REINDEX_LEFT), ("lag", metrics.REINDEX_LAG))
    for name, metric in named:
        for version, value in now.by(metric, "version").items():
            by_version.setdefault(version, {})[name] = value
    return by_version


def reindex_lines(by_version: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Yields a line for each version that is filled."""
    for version, values in by_version.items():
        done, total = values.get("done", 0), values.get("total", 0)
        left = f"{values['left_s']:,.0f} s left" if "left_s" in values else "time left not known"
        yield (
            f"re-index to version {version}: {done:,.0f} of {total:,.0f} assets, {values.get('missing', 0):,.0f} "
            f"missing, {values.get('per_s', 0):,.1f}/s, {left}, lag {values.get('lag', 0):,.0f}"
        )
