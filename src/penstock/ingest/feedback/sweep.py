"""Removes choices that count for nothing any more: of deleted assets, and those that are too old."""

from __future__ import annotations

from penstock.ingest.feedback.settle import AssetRows
from penstock.records import Outcome
from penstock.store.clicks import ClickTable

HALF_LIVES = 6
"""After as many a choice counts for less than 2 %."""
_DAY_MS = 86_400_000


def oldest_ms(now_ms: int, half_life_days: float) -> int:
    """Returns the time before which a choice is too old, milliseconds since the epoch."""
    return round(now_ms - HALF_LIVES * half_life_days * _DAY_MS)


def sweep_clicks(clicks: ClickTable, assets: AssetRows, *, now_ms: int, half_life_days: float) -> int:
    """Removes them, a page at a time, and returns how many there were.

    The change feed names deleted assets before, but not where there is none, and not to a plane that did not run while
    Kafka kept the change.
    """
    before_ms, removed = oldest_ms(now_ms, half_life_days), 0
    for page in clicks.scan():
        rows = assets.asset_rows(sorted({choice.asset.id for choice in page}))
        deleted = {id_ for id_, row in rows.items() if row.outcome is not Outcome.INDEXED}
        ids = [choice.id for choice in page if choice.time_ms < before_ms or choice.asset.id in deleted]
        clicks.drop(ids)
        removed += len(ids)
    return removed
