"""Monitors, rules, dashboards, scaling to zero, budgets, the audit, and the test of a release."""

from __future__ import annotations

import ast
import json
import runpy
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from penstock.config import Settings
from penstock.media.sniff import sniff
from penstock.records import Modality
from tests.helm.rendering import CHART, EVERYTHING, REQUIRED, Manifest, merge, nested, render
from tools.chart.derived import derived_files, stale_copies

_ALL = render(EVERYTHING)
_SASL = nested(
    "settings.kafka", {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "p"}
)
_KUBERNETES = "1.33"
_OWN_KINDS = {"RayCluster", "RayService", "PodMonitor", "PrometheusRule", "ScaledObject", "TriggerAuthentication"}


def test_helm_lint_is_silent() -> None:
    for values in (REQUIRED, merge(REQUIRED, EVERYTHING)):
        report = helm_python.lint(CHART, dict(values), strict=True)
        assert [message for message in report["messages"] if message["severity"] > 1] == []
        assert report["errors"] == []


@pytest.mark.parametrize("values", [{}, EVERYTHING, merge(EVERYTHING, _SASL)], ids=["required", "everything", "sasl"])
def test_manifests_are_valid(values: dict[str, Any]) -> None:
    rendered = render(values)
    checked = [manifest for manifest in rendered.all if manifest["kind"] not in _OWN_KINDS]
    assert len(checked) > 10
    for manifest in checked:
        kubernetes_validate.validate(manifest, _KUBERNETES, strict=True)


@pytest.mark.parametrize(
    "template", [pod for _, pod in _ALL.pod_templates()], ids=[name for name, _ in _ALL.pod_templates()]
)
def test_pods_within_custom_resources_are_valid(template: Manifest) -> None:
    spec = {"restartPolicy": "Always"} | template["spec"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"] | {"name": "pod"}, "spec": spec}
    kubernetes_validate.validate(pod, _KUBERNETES, strict=True)


def test_no_two_things_have_one_name() -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in _ALL.all]
    assert len(names) == len(set(names))
    assert all(len(name) <= 63 for _, name in names)


def test_names_of_a_long_release_still_fit() -> None:
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(merge(REQUIRED, EVERYTHING), name="a" * 53, namespace="media")
    names = {line.split()[-1] for text in files.values() for line in text.splitlines() if line.startswith("  name: ")}
    # KubeRay adds `-serve-svc`, or a dash and five characters, and `-head-svc` to that
    assert max(map(len, names)) <= 63 - len("-abcde-head-svc")


def test_derived_files_are_in_step() -> None:
    assert [
        str(path) for path, text in derived_files().items() if not path.is_file() or path.read_text("utf-8") != text
    ] == []
    assert stale_copies() == []


def test_every_node_is_scraped() -> None:
    scraped: set[tuple[str, Any]] = set()
    for monitor in _ALL.of_kind("PodMonitor"):
        scraped |= {
            (endpoint["port"], monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"])
            for endpoint in monitor["spec"]["podMetricsEndpoints"]
        }
    assert {port for port, _ in scraped} == {"penstock", "metrics", "as-metrics", "dash-metrics"}
    for name, pod in _ALL.pod_templates():
        if pod["metadata"]["labels"]["penstock/plane"] == "tools":
            continue
        ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        assert {"penstock", "metrics"} <= ports, name


def test_port_names_are_ones_that_kubernetes_takes() -> None:
    for _, pod in _ALL.pod_templates():
        for container in pod["spec"]["containers"]:
            for port in container.get("ports", []):
                assert len(port["name"]) <= 15


def test_alerts_name_runbooks_where_they_are_published() -> None:
    def addresses(runbooks: str) -> set[str]:
        values = {"monitoring": {"prometheusOperator": "on", "runbooks": runbooks}}
        rules = render(values).of_kind("PrometheusRule")
        alerts = [rule for resource in rules for group in resource["spec"]["groups"] for rule in group["rules"]]
        return {alert["annotations"]["runbook_url"].rpartition("/")[0] for alert in alerts if "alert" in alert}

    assert addresses("") == {"ops/runbooks"}
    assert addresses("https://example.com/runbooks/") == {"https://example.com/runbooks"}


def test_monitors_and_rules_are_left_out_without_their_operator() -> None:
    for switch in ("auto", "off"):
        kinds = {manifest["kind"] for manifest in render(nested("monitoring.prometheusOperator", switch)).all}
        assert not kinds & {"PodMonitor", "PrometheusRule"}


def test_every_rule_file_is_a_prometheus_rule() -> None:
    files = sorted((CHART / "files" / "rules").glob("*.yaml"))
    rules = [rule["spec"]["groups"] for rule in _ALL.of_kind("PrometheusRule")]
    assert sorted(map(str, rules)) == sorted(str(yaml.safe_load(file.read_text("utf-8"))["groups"]) for file in files)


def test_every_dashboard_is_a_labelled_config_map() -> None:
    files = sorted((CHART / "files" / "dashboards").glob("*.json"))
    maps = [config for config in render().of_kind("ConfigMap") if "grafana_dashboard" in config["metadata"]["labels"]]
    shown = {name: json.loads(text) for manifest in maps for name, text in manifest["data"].items()}
    assert shown == {file.name: json.loads(file.read_text("utf-8")) for file in files}
    assert all(file.stat().st_size < 900_000 for file in files)  # a ConfigMap holds 1 MiB


def test_dashboards_may_be_left_out_or_labelled_otherwise() -> None:
    labels = {"grafana_dashboard": None, "grafana": "yes"}
    maps = [
        config
        for config in render(nested("monitoring.dashboardLabels", labels)).of_kind("ConfigMap")
        if "grafana" in config["metadata"]["labels"]
    ]
    assert len(maps) == len(list((CHART / "files" / "dashboards").glob("*.json")))
    without = render(nested("monitoring.dashboards", False)).of_kind("ConfigMap")
    assert {manifest["metadata"]["name"] for manifest in without} == {"penstock-settings", "penstock-test"}


def test_keda_scales_the_driver_between_nothing_and_one() -> None:
    spec = _ALL["ScaledObject/driver"]["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "penstock-driver"}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 1)


def test_keda_looks_at_every_topic_that_is_consumed() -> None:
    modalities = nested("settings.ingest.modalities", ["text", "video", "document"])
    topics = nested("settings.kafka", {"video_topic": "clips", "group": "g"})
    triggers = render(modalities, topics, nested("keda.enabled", True))["ScaledObject/driver"]["spec"]["triggers"]
    assert [trigger["metadata"]["topic"] for trigger in triggers] == ["media.text", "clips", "media.document"]
    assert {trigger["metadata"]["consumerGroup"] for trigger in triggers} == {"g"}


def test_topics_and_group_that_keda_assumes_are_the_products_defaults() -> None:
    kafka = Settings.model_fields["kafka"].default
    triggers = render(nested("keda.enabled", True))["ScaledObject/driver"]["spec"]["triggers"]
    assert [trigger["metadata"]["topic"] for trigger in triggers] == [kafka.text_topic, kafka.image_topic]
    assert triggers[0]["metadata"]["consumerGroup"] == kafka.group


def test_keda_signs_in_by_reference() -> None:
    rendered = render(EVERYTHING, _SASL)
    references = rendered["TriggerAuthentication/driver"]["spec"]["secretTargetRef"]
    assert references == [
        {"parameter": "password", "name": "kafka", "key": "password"},
        {"parameter": "ca", "name": "kafka-ca", "key": "ca.crt"},
    ]
    trigger = rendered["ScaledObject/driver"]["spec"]["triggers"][0]
    assert trigger["metadata"]["sasl"] == "scram_sha512"
    assert trigger["authenticationRef"] == {"name": "penstock-driver"}


def test_budgets_select_pods_that_there_are() -> None:
    components = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for _, pod in _ALL.pod_templates()}
    budgets = _ALL.of_kind("PodDisruptionBudget")
    assert len(budgets) == 3
    for budget in budgets:
        assert budget["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] in components
    assert _ALL["PodDisruptionBudget/query-worker"]["spec"]["minAvailable"] == 1
    three = render(nested("query.replicas", {"min": 3, "max": 3}))
    assert three["PodDisruptionBudget/query-worker"]["spec"]["minAvailable"] == 2
    assert not [budget for budget in _ALL.of_kind("PodDisruptionBudget") if "maxUnavailable" in budget["spec"]]


def test_an_audit_that_does_not_balance_fails_its_job_once() -> None:
    spec = _ALL["CronJob/audit"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert spec["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_there_are_backups_where_there_is_a_place_for_them() -> None:
    assert "CronJob/backup" not in render()
    assert "NetworkPolicy/backups" not in render()
    spec = _ALL["CronJob/backup"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    (container,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["penstock", "backup", "s3://backups/penstock", "--keep", "14", "--json"]


def test_a_release_is_tested_with_each_modality_that_it_consumes() -> None:
    modalities = [modality.value for modality in Modality]
    pod = render(nested("settings.ingest.modalities", modalities))["Pod/test"]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert pod["spec"]["containers"][0]["args"][2:] == modalities == ["text", "image", "audio", "video", "document"]


@pytest.mark.parametrize("modality", Modality)
def test_the_test_of_a_release_has_a_sample_of_each_modality(modality: Modality, tmp_path: Path) -> None:
    script = runpy.run_path(str(CHART / "files" / "find_one_of_each.py"))
    assert sniff(script["sample_of"](modality, tmp_path).read_bytes(), declared=None).modality is modality


def test_the_script_of_the_test_arrives_whole() -> None:
    text = _ALL["ConfigMap/test"]["data"]["find_one_of_each.py"]
    source = (CHART / "files" / "find_one_of_each.py").read_text("utf-8")
    assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(source))
