"""Dashboards are drawn with what a real Prometheus has, by Grafana's components."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from ops.drawing import board_with_data, draw
from ops.prometheus import Prometheus, Span, series_name, with_variables
from tests.e2e.prometheus import scraping
from tests.e2e.stack import eventually


def test_variables_become_all_of_their_values() -> None:
    assert with_variables('up{job=~"$job"}[$__rate_interval]') == 'up{job=~".*"}[1m]'
    assert with_variables('up{job=~"$job"}', {"$job": "ingest"}) == 'up{job=~"ingest"}'


def test_a_legend_has_the_labels_of_its_series() -> None:
    assert series_name("p95 {{topic}} {{ lane }}{{absent}}", {"topic": "images", "lane": "2"}) == "p95 images 2"


DASHBOARD = {
    "title": "The river",
    "panels": [
        {"type": "row", "title": "Alone", "gridPos": {"x": 0, "y": 0, "w": 24, "h": 1}},
        {
            "type": "timeseries",
            "title": "Boats",
            "gridPos": {"x": 0, "y": 1, "w": 24, "h": 8},
            "options": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}},
            "fieldConfig": {"defaults": {"unit": "short", "custom": {"lineWidth": 2}}},
            "targets": [
                {"expr": 'boats{job=~"$job"}', "legendFormat": "the {{kind}}"},
                {"expr": 'up{job="of nobody"}', "legendFormat": ""},
            ],
        },
    ],
}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus that scrapes a gauge of 7."""
    registry = CollectorRegistry()
    Gauge("boats", "Boats on the river", ["kind"], registry=registry).labels("ferry").set(7)
    exporter, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        target = f"http://127.0.0.1:{exporter.server_port}/metrics"
        with scraping(target, tmp_path_factory.mktemp("prometheus")) as server:
            eventually(lambda: server.query("count_over_time(boats[1m]) >= 4") != [], "four scrapes", timeout_s=60)
            yield server.url
    finally:
        exporter.shutdown()
        thread.join()


@pytest.mark.operate
def test_a_panel_has_the_series_that_prometheus_has(prometheus: str) -> None:
    now = time.time()
    board = board_with_data(DASHBOARD, Prometheus(prometheus), Span(now - 30, now, 1))
    assert [panel["title"] for panel in board["panels"]] == ["Alone", "Boats"]
    (series,) = board["panels"][1]["series"]
    assert series["name"] == "the ferry"
    assert set(series["values"]) == {7.0}
    assert now - 31 <= series["times"][0] <= series["times"][-1] <= now + 1


@pytest.mark.operate
@pytest.mark.timeout(900)
def test_a_dashboard_is_drawn(prometheus: str, tmp_path: Path) -> None:
    (tmp_path / "river.json").write_text(json.dumps(DASHBOARD))
    now = time.time()
    (image,) = draw([tmp_path / "river.json"], Prometheus(prometheus), Span(now - 3, now, 1), tmp_path / "out")
    with Image.open(image) as drawn:
        assert drawn.width == 1640
        pixels = np.asarray(drawn.convert("RGB"), np.int16)
    # The first colour of Grafana's palette, antialiased: the line and its mark in the legend.
    line = (np.abs(pixels - (86, 166, 75)).max(axis=2) < 24).sum()
    assert line > 200
