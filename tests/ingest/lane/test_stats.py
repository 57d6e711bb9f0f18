from __future__ import annotations

from penstock.errors import Reason
from penstock.ingest.lane.stats import LaneStats
from penstock.observability import metrics
from penstock.records import Modality


def test_every_reason_of_a_dead_letter_is_exported_before_the_first_one() -> None:
    metrics.DEAD_LETTERS.clear()
    LaneStats("lane-0", {"media.text": Modality.TEXT}, clock=lambda: 0.0, wall_ms=lambda: 0)
    (family,) = metrics.DEAD_LETTERS.collect()
    counted = {sample.labels["reason"]: sample.value for sample in family.samples if sample.name.endswith("_total")}
    assert counted == dict.fromkeys(map(str, Reason), 0.0)
