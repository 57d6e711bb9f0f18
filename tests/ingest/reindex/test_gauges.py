from __future__ import annotations

import math

from penstock.ingest.reindex.gauges import ProgressGauges
from penstock.observability import metrics
from penstock.versions import Progress
from tests.counted import counted


def test_each_count_is_shown_in_the_metrics() -> None:
    gauges = ProgressGauges(7)
    gauges.show(Progress(done=30, total=90, missing=2, rate_per_s=4.0, updated_ms=1, lag=11))
    states = {
        state: counted(metrics.REINDEX_ASSETS, "", version="7", state=state) for state in ("done", "total", "missing")
    }
    assert states == {"done": 30, "total": 90, "missing": 2}
    assert counted(metrics.REINDEX_RATE, "", version="7") == 4.0
    assert counted(metrics.REINDEX_LEFT, "", version="7") == 15.0
    assert counted(metrics.REINDEX_LAG, "", version="7") == 11
    gauges.show(Progress(done=30, total=90, missing=2, rate_per_s=0.0, updated_ms=1))
    assert math.isnan(counted(metrics.REINDEX_LEFT, "", version="7"))
