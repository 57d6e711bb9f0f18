"""Dashboards are what Grafana's own types say, and the check notices what is not."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from ops.schema import schema_errors

DASHBOARDS = {
    path.stem: json.loads(path.read_text("utf-8"))
    for path in sorted((Path(__file__).parents[2] / "ops/dashboards").glob("*.json"))
}


@pytest.mark.operate
@pytest.mark.timeout(900)
def test_every_dashboard_has_grafanas_types() -> None:
    assert DASHBOARDS
    assert schema_errors(DASHBOARDS) == []


@pytest.mark.operate
@pytest.mark.timeout(900)
def test_what_grafana_does_not_know_is_noticed() -> None:
    broken = copy.deepcopy(DASHBOARDS["penstock-query"])
    lines = next(panel for panel in broken["panels"] if panel["type"] == "timeseries")
    lines["fieldConfig"]["defaults"]["custom"]["lineWidth"] = "thick"
    lines["options"]["legend"]["placement"] = "left"
    broken["refreshed"] = "30s"
    known, placement, width = schema_errors({"broken": broken})
    assert "refreshed" in known
    assert "LegendPlacement" in placement
    assert "'string' is not assignable to type 'number'" in width
