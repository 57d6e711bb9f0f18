"""Each fault raises its alert in time and no other page; healthy load raises none. Real processes, a real Prometheus.

The faults run with rules whose times are divided by `OPS_DIVISOR` (5), and strike one house one after the
other, so that what a fault leaves in the windows of the rules is there when the next one strikes. The healthy load runs
with the rules as they are, for `OPS_MINUTES` (30).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops.alerts import every_alert
from ops.slos import read_objectives
from tests.e2e.prometheus import Prometheus
from tests.e2e.stack import eventually
from tests.ops.faults import FAULTS, Fault
from tests.ops.house import House, firing, standing, watched
from tests.ops.load import flowing, settled

pytestmark = [pytest.mark.operate, pytest.mark.services, pytest.mark.timeout(7_200)]

DIVISOR = float(os.environ.get("OPS_DIVISOR", "5"))
HEALTHY_MINUTES = float(os.environ.get("OPS_MINUTES", "30"))
ALERTS = {alert.name: alert for alert in every_alert(read_objectives())}
_STAY = {fault.alert for fault in FAULTS if ALERTS[fault.name].lasts == "0m"}
_LATE_S = 60.0  # that an alert may fire after its `for`
_LOOK_S = 1.0
_CALM_S = 600.0  # until nothing of a fault is left


@dataclass(frozen=True)
class Scene:
    """Keeps what the tests of faults share.

    Attributes:
        table: the file of the measured times, a line for each fault.
    """

    house: House
    prometheus: Prometheus
    table: Path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("faults")
    # Hung workers are killed after this time, which the rules' divided times do not know.
    with (
        standing(call_timeout_s=3_600) as house,
        flowing(house, folder),
        watched(house, folder, divisor=DIVISOR) as prometheus,
    ):
        yield Scene(house, prometheus, folder / "table.md")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.strike.__name__)
def test_a_fault_raises_its_alert_in_time_and_no_other_page(fault: Fault, scene: Scene) -> None:
    calm(scene)
    before = firing(scene.prometheus)
    struck_s = time.monotonic()
    seen: dict[str, float] = {}
    severities: dict[str, str] = {}

    def look() -> None:
        for name, severity in firing(scene.prometheus).items():
            if name not in before:
                seen.setdefault(name, time.monotonic() - struck_s)
                severities[name] = severity

    lasts_s = minutes(ALERTS[fault.name].lasts) * 60 / DIVISOR
    due_s = lasts_s + fault.window_s / DIVISOR + _LATE_S - fault.window_s
    with fault.strike(scene.house):
        struck_s = struck_s if lasts_s else time.monotonic()
        while fault.alert not in seen and time.monotonic() - struck_s < due_s + _LATE_S:
            time.sleep(_LOOK_S)
            look()
        for _ in range(int(lasts_s / 2)):  # a second page comes later than the first
            time.sleep(_LOOK_S)
            look()
    ended_s = time.monotonic() - struck_s
    calm(scene, look)
    others = {name: at_s for name, at_s in seen.items() if name != fault.alert}
    reported = ", ".join(f"{severities[name]} {name} after {at_s:.0f} s" for name, at_s in others.items()) or "nothing"
    with scene.table.open("a", encoding="utf-8") as table:
        first = seen.get(fault.alert, math.nan)
        table.write(
            f"| {fault.title} | {fault.alert} | {lasts_s:.0f} s | {first:.0f} s | {ended_s:.0f} s | {reported} |\n"
        )
    assert fault.alert in seen
    assert seen[fault.alert] <= due_s
    assert [name for name in others if severities[name] == "page" and name not in fault.also] == []


def calm(scene: Scene, look: Callable[[], None] = lambda: None) -> None:
    """Waits until all events are settled and no page fires or is about to, but for those that stay for an hour."""

    def is_calm() -> bool:
        look()
        alerts = firing(scene.prometheus, "firing", "pending")
        pages = [name for name, severity in alerts.items() if severity == "page" and name not in _STAY]
        return not pages and settled(scene.house)

    eventually(is_calm, f"no page, and all is settled; {scene.house.settings.data_dir}/logs says why not", _CALM_S)


def minutes(duration: str) -> float:
    """Returns the minutes of a duration such as `5m`."""
    return float(duration.removesuffix("m"))


@pytest.mark.exhaustive
def test_half_an_hour_of_healthy_load_raises_nothing(tmp_path: Path) -> None:
    with standing() as house, flowing(house, tmp_path, turn_s=2.0), watched(house, tmp_path) as prometheus:
        seen: dict[str, Mapping[str, str]] = {}
        until_s = time.monotonic() + HEALTHY_MINUTES * 60
        while time.monotonic() < until_s:
            seen.update({name: {"severity": severity} for name, severity in firing(prometheus).items()})
            time.sleep(_LOOK_S)
        assert settled(house)
        assert prometheus.query("sum(increase(penstock_events_total[5m]))")[0] > 150
        assert prometheus.query('sum(increase(penstock_query_seconds_count{status="200"}[5m]))')[0] > 50
        assert seen == {}
