"""Prometheus rule files, and the files of promtool that test them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ops.alerts import every_alert
from ops.recordings import shared_recordings, slo_recordings
from ops.rules_model import Alert, Case, Recording
from ops.slos import Objectives
from ops.time_scale import divided, divided_expression

RULE_FILES = ("recordings.yaml", "alerts.yaml")
_HEADER = "# Rendered by `python -m ops render`: change ops/*.py or ops/slo.toml instead.\n"


def rule_files(objectives: Objectives, *, divisor: float = 1) -> Mapping[str, str]:
    """Returns the rule files by name.

    Args:
        divisor: of all times, `for`, ranges and offsets alike, for tests that cannot wait for hours. Thresholds stay.
    """
    groups = [{"name": "penstock-shared", "rules": [_recording(rule, divisor) for rule in shared_recordings()]}]
    for slo in objectives.slos:
        rules = [rule for rule in slo_recordings(objectives) if rule.labels.get("slo") == slo.name]
        groups.append({"name": f"penstock-slo-{slo.name}", "rules": [_recording(rule, divisor) for rule in rules]})
    alerts = [_alert(alert, objectives, divisor) for alert in every_alert(objectives)]
    return {
        "recordings.yaml": _dump({"groups": groups}),
        "alerts.yaml": _dump({"groups": [{"name": "penstock-alerts", "rules": alerts}]}),
    }


def rule_tests(objectives: Objectives) -> Mapping[str, str]:
    """Returns a file of promtool tests for each alert, by name."""
    return {f"{alert.name}.yaml": _dump(_tests(alert, objectives)) for alert in every_alert(objectives)}


def _recording(rule: Recording, divisor: float) -> dict[str, Any]:
    rendered: dict[str, Any] = {"record": rule.record, "expr": divided_expression(rule.expr, divisor)}
    return rendered | ({"labels": dict(rule.labels)} if rule.labels else {})


def _alert(alert: Alert, objectives: Objectives, divisor: float) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": divided_expression(alert.expr, divisor),
        "for": divided(alert.lasts, divisor),
        "labels": {"severity": alert.severity},
        "annotations": alert.annotations(objectives.runbooks),
    }


def _tests(alert: Alert, objectives: Objectives) -> dict[str, Any]:
    return {
        "rule_files": [f"../{name}" for name in RULE_FILES],
        "evaluation_interval": "1m",
        "tests": [_test(alert, case, objectives) for case in alert.cases],
    }


def _test(alert: Alert, case: Case, objectives: Objectives) -> dict[str, Any]:
    expected: dict[int, Sequence[Mapping[str, str]]] = dict.fromkeys(case.quiet_m, ())
    expected.update(case.fires)
    return {
        "name": f"{alert.name}: {case.title}",
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "alert_rule_test": [
            {
                "eval_time": f"{minute}m",
                "alertname": alert.name,
                "exp_alerts": [_firing(alert, labels, objectives) for labels in expected[minute]],
            }
            for minute in sorted(expected)
        ],
    }


def _firing(alert: Alert, labels: Mapping[str, str], objectives: Objectives) -> dict[str, Any]:
    return {
        "exp_labels": {"severity": alert.severity, **labels},
        "exp_annotations": alert.annotations_of(labels, objectives.runbooks),
    }


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a literal block."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _dump(document: Mapping[str, Any]) -> str:
    return _HEADER + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
