"""Every query of every panel and rule, on a real Prometheus that scraped a loaded Penstock.

All modalities on the reference models, rejected events, a deletion, searches of each kind and an outage of the store.
Each query has to return data where it should, finite and in the range of its unit.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import httpx
import pytest

from ops.__main__ import ROOT
from ops.boards import every_board
from ops.panels import Panel, Query
from ops.prometheus import with_variables
from ops.recordings import (
    DRIVER_ABSENT,
    INGEST_CAUSE,
    INGEST_EXPLAINED,
    QUERY_CAUSE,
    QUERY_EXPLAINED,
    shared_recordings,
    slo_recordings,
)
from ops.slos import read_objectives
from penstock.broker.base import Message
from penstock.records import Modality
from tests.e2e.prometheus import Prometheus, scraping
from tests.e2e.stack import Stack, eventually
from tests.ops.load import document, images, timed_media

pytestmark = [pytest.mark.operate, pytest.mark.services, pytest.mark.timeout(1200)]

OBJECTIVES = read_objectives()
BOARDS = every_board(OBJECTIVES)
RECORDINGS = (*shared_recordings(), *slo_recordings(OBJECTIVES))
_MAX_OF_UNIT = {
    "percentunit": 1.0,
    "percent": 100.0,
    "s": 3_600.0,
    "bytes": 2.0**36,
    "reqps": 10_000.0,
    "eps": 10_000.0,
    "ops": 10_000.0,
    "short": 1e9,
}
# Have no value while all is well.
_MAY_BE_ABSENT = {INGEST_CAUSE, INGEST_EXPLAINED, QUERY_CAUSE, QUERY_EXPLAINED, DRIVER_ABSENT}
_OUTAGE_S = 10.0
_START_TIMEOUT_S = 480.0  # of the models of all modalities, on a machine that runs pods and images as well
_TEXTS = 60


class Loaded:
    """A Prometheus, and since when it has scraped."""

    def __init__(self, prometheus: Prometheus, since_s: float) -> None:
        self.server = prometheus
        self._span = {"start": str(since_s), "end": str(time.time()), "step": "2"}

    def values(self, expression: str) -> list[float]:
        """Returns the values of all series of a query since then, as Prometheus gives them."""
        series = self.server.get("query_range", query=expression, **self._span)["result"]
        return [float(text) for line in series for _, text in line["values"]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    folder = tmp_path_factory.mktemp("loaded")
    environment = {
        "PENSTOCK_PROFILE": "reference",
        "PENSTOCK_QUERY__PORT": "0",
        "PENSTOCK_CANARY__INTERVAL_S": "2",
        "PENSTOCK_INGEST__MODALITIES": json.dumps(list(Modality)),
        "PENSTOCK_STORE__TIMEOUT_S": "2",
    }
    stack = Stack(folder / "data", environment)
    rules = sorted((ROOT / "ops" / "rules").glob("*.yaml"))
    try:
        stack.start(_START_TIMEOUT_S)
        url = stack.endpoints.metrics_url
        assert url is not None
        with scraping(url, folder, rules=rules, labels={"cluster": "c1", "namespace": "prod"}) as prometheus:
            since_s = time.time()
            load(stack, folder)
            scraped = 'count_over_time(slo:sli_error:ratio_rate5m{slo="query-latency"}[1m]) > 3'
            eventually(lambda: prometheus.query(scraped) != [], "recording rules have seen the load", 60)
            yield Loaded(prometheus, since_s)
    finally:
        stack.close()


def load(stack: Stack, folder: Path) -> None:
    """Streams events of each modality and outcome, searches, and stops the store for a while."""
    texts = [Message("media.text", f"t{n}".encode(), f"Ship {n} enters the harbour.".encode()) for n in range(_TEXTS)]
    rejected = [Message("media.image", b"bad", b"no image"), Message("media.audio", b"bad", b"no sound")]
    stack.produce([*texts, *islice(images(), 8), *timed_media(folder), document(), *rejected])
    stack.settle()
    stack.produce([Message("media.text", b"t1", None), Message("media.text", b"t2", b"A second version.")])
    for number in range(20):
        hits = stack.search(("a ship in the harbour", "a dog", f"something else {number}")[number % 3])
    assert hits
    assert stack.post({"text": ""}).status_code == 400
    media = next(hit for hit in stack.search("an animal", modalities=["image"]) if hit["media_url"])["media_url"]
    assert httpx.get(f"{stack.endpoints.query_url}{media}", timeout=30).status_code == 200
    store = stack.process_with("milvus_lite")
    store.suspend()
    try:
        stack.produce([Message("media.text", b"late", b"A text during the outage.")])
        until_s = time.monotonic() + _OUTAGE_S
        while time.monotonic() < until_s:
            assert stack.post({"text": "a ship", "deadline_ms": 500}).status_code in (200, 503)
    finally:
        store.resume()
    stack.settle()
    for number in range(10):
        stack.search(f"after the outage {number}")
        stack.ask(f"ship {number} in the harbour")


def test_every_query_of_every_panel_has_data_in_the_range_of_its_unit(loaded: Loaded) -> None:
    problems = [
        f"{board.uid}: {panel.title}: {query.legend}: {problem}"
        for board in BOARDS
        for panel in board.panels()
        for query in panel.queries
        for problem in problems_of(panel, query, loaded.values(with_variables(query.expr)))
    ]
    assert problems == []


def problems_of(panel: Panel, query: Query, values: Sequence[float]) -> Iterator[str]:
    """Yields what is wrong with the values of a query."""
    # A quantile of no observations is not a number, and a gap in the panel.
    if "histogram_quantile(" in query.expr:
        values = [value for value in values if not math.isnan(value)]
    if not values and not query.may_be_empty:
        yield "no data"
    if not all(math.isfinite(value) for value in values):
        yield "not finite"
    elif values and not (panel.may_be_negative or min(values) >= 0):
        yield f"{min(values)} {panel.unit}, below 0"
    elif values and max(values) > _MAX_OF_UNIT[panel.unit]:
        yield f"{max(values)} {panel.unit}, above {_MAX_OF_UNIT[panel.unit]}"


@pytest.mark.parametrize(
    ("unit", "values", "expected"),
    [
        ("s", [0.0, 2.5], []),
        ("s", [], ["no data"]),
        ("s", [1.0, math.nan], ["not finite"]),
        ("s", [1.0, math.inf], ["not finite"]),
        ("percentunit", [0.2, 1.2], ["1.2 percentunit, above 1.0"]),
        ("bytes", [-1.0], ["-1.0 bytes, below 0"]),
    ],
)
def test_a_wrong_value_is_found(unit: str, values: Sequence[float], expected: Sequence[str]) -> None:
    query = Query("sum(a)", "a")
    assert list(problems_of(Panel("A", "A.", unit, [query]), query, values)) == expected


def test_every_rule_is_evaluated_without_an_error(loaded: Loaded) -> None:
    rules = [rule for group in loaded.server.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > len(RECORDINGS)
    assert [(rule["name"], rule["health"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []


def test_every_recording_has_finite_values_in_range(loaded: Loaded) -> None:
    problems = []
    for rule in RECORDINGS:
        labels = ", ".join(f"{name}={json.dumps(value)}" for name, value in rule.labels.items())
        values = loaded.values(f"{rule.record}{{{labels}}}")
        is_share = "ratio_rate" in rule.record
        if not values and rule.record not in _MAY_BE_ABSENT:
            problems.append(f"{rule.record}{{{labels}}}: no data")
        elif not all(math.isfinite(value) for value in values):
            problems.append(f"{rule.record}{{{labels}}}: not finite")
        elif values and is_share and not 0 <= min(values) <= max(values) <= 1:
            problems.append(f"{rule.record}{{{labels}}}: {min(values)} to {max(values)}")
    assert problems == []


def test_a_short_outage_of_the_store_is_no_alert(loaded: Loaded) -> None:
    alerts = loaded.server.get("alerts")["alerts"]
    assert [alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"] == []
