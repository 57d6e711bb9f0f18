"""Checks that alerts are few and complete, and by promtool that each fires, does not fire, and resolves."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from ops.__main__ import ROOT
from ops.alerts import MAX_ALERTS, every_alert
from ops.rules_model import Alert
from ops.slos import read_objectives

ALERTS = every_alert(read_objectives())
of_every_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)


def test_alerts_are_few_and_have_names_of_their_own() -> None:
    assert len({alert.name for alert in ALERTS}) == len(ALERTS) <= MAX_ALERTS
    assert {alert.severity for alert in ALERTS} == {"page", "ticket"}


@of_every_alert
def test_the_summary_names_the_thing(alert: Alert) -> None:
    assert re.search(r"\{\{ \$labels\.\w+ \}\}", alert.summary)
    assert alert.description.endswith(".")


@of_every_alert
def test_the_cases_fire_resolve_and_stay_quiet(alert: Alert) -> None:
    firing = [case for case in alert.cases if case.fires]
    assert firing
    assert [case for case in alert.cases if not case.fires and case.quiet_m]
    for case in firing:
        assert min(case.quiet_m) < min(case.fires) <= max(case.fires) < max(case.quiet_m)


@pytest.fixture(scope="module")
def promtool() -> str:
    path = shutil.which("promtool")
    if path is None:
        pytest.fail("there is no promtool on the PATH: run `apt-get install prometheus`", pytrace=False)
    return path


@pytest.mark.operate
def test_promtool_takes_the_rules(promtool: str) -> None:
    files = sorted((ROOT / "ops" / "rules").glob("*.yaml"))
    done = subprocess.run([promtool, "check", "rules", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.operate
@of_every_alert
def test_an_alert_fires_does_not_fire_and_resolves(alert: Alert, promtool: str) -> None:
    file = ROOT / "ops" / "rules" / "tests" / f"{alert.name}.yaml"
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
