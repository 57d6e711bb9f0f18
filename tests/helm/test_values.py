"""Each value of the chart changes what it says it changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.helm.rendering import CHART, nested, render
from tools.chart.values import leaves, read_values

_HEAD = "RayCluster/ingest:spec.headGroupSpec.template"
_WORKER = "RayCluster/ingest:spec.workerGroupSpecs.cpu.template"
_DRIVER = "StatefulSet/driver:spec.template"
_QUERY = "RayService/query:spec.rayClusterConfig"
_QUERY_HEAD = f"{_QUERY}.headGroupSpec.template"
_REPLICA = f"{_QUERY}.workerGroupSpecs.replicas.template"
_RESOURCES = {"requests": {"cpu": "3", "memory": "5Gi"}, "limits": {"memory": "5Gi"}}
_SELECTOR = {"pool": "blue"}
_TOLERATIONS = [{"key": "pool", "operator": "Exists", "effect": "NoSchedule"}]
_PEERS = [{"ipBlock": {"cidr": "192.0.2.0/24"}}]
_DIGEST = "sha256:" + "0" * 64
_GPU_GROUP = {
    "ingest": {"groups": {"gpu": {"role": "gpu", "min": 0, "max": 2, "gpu": {"count": 1}, "resources": _RESOURCES}}}
}
_REDIS = {"ray": {"redis": {"address": "redis:6379", "passwordSecret": "redis"}}}
_SCALING = {"query": {"replicas": {"max": 4}}}
_INCREMENTAL = {"query": {"upgrade": {"type": "NewClusterWithIncrementalUpgrade", "gatewayClassName": "istio"}}}
_TRACED = nested("settings.tracing.endpoint", "http://collector:4318")
_MONITORED = {"monitoring": {"prometheusOperator": "on"}}
_KEDA = {"keda": {"enabled": True}}
_BACKUP = nested("backup.url", "s3://backups/penstock")


def _env(name: str, template: str = _DRIVER) -> str:
    return f"{template}.spec.containers.0.env.{name}"


def _serve(line: str) -> tuple[str, str]:
    return "RayService/query:spec.serveConfigV2", line


# value, what it is set to, where that is seen, what is there; and what else has to be set for it.
_CASES: tuple[tuple[str, Any, str, Any, Mapping[str, Any]], ...] = (
    ("nameOverride", "search", "StatefulSet/search-driver:metadata.name", "penstock-search-driver", {}),
    ("commonLabels", {"team": "media"}, "ServiceAccount/:metadata.labels.team", "media", {}),
    ("image.repository", "registry.test/p", f"{_DRIVER}.spec.containers.0.image", "registry.test/p:0.1.0-cpu", {}),
    ("image.tag", "7-cpu", f"{_DRIVER}.spec.containers.0.image", "penstock:7-cpu", {}),
    ("image.digest", _DIGEST, f"{_DRIVER}.spec.containers.0.image", f"penstock@{_DIGEST}", {}),
    (
        "image.gpuTag",
        "7-gpu",
        "RayCluster/ingest:spec.workerGroupSpecs.gpu.template.spec.containers.0.image",
        "penstock:7-gpu",
        _GPU_GROUP,
    ),
    (
        "image.gpuDigest",
        _DIGEST,
        "RayCluster/ingest:spec.workerGroupSpecs.gpu.template.spec.containers.0.image",
        f"penstock@{_DIGEST}",
        _GPU_GROUP,
    ),
    ("image.pullPolicy", "Always", f"{_WORKER}.spec.containers.0.imagePullPolicy", "Always", {}),
    ("image.pullSecrets", ["registry"], f"{_DRIVER}.spec.imagePullSecrets.0.name", "registry", {}),
    (
        "secrets.kafkaPassword.name",
        "k",
        f"{_DRIVER}.spec.volumes.settings.projected.sources.1.secret.name",
        "k",
        {},
    ),
    (
        "secrets.kafkaPassword.key",
        "pw",
        f"{_DRIVER}.spec.volumes.settings.projected.sources.1.secret.items.0.key",
        "pw",
        nested("secrets.kafkaPassword.name", "k"),
    ),
    (
        "secrets.storeToken.name",
        "m",
        f"{_REPLICA}.spec.volumes.settings.projected.sources.1.secret.name",
        "m",
        {},
    ),
    (
        "secrets.storeToken.key",
        "t",
        f"{_DRIVER}.spec.volumes.settings.projected.sources.1.secret.items.0.key",
        "t",
        nested("secrets.storeToken.name", "m"),
    ),
    (
        "secrets.tracingHeaders.name",
        "otel",
        f"{_WORKER}.spec.volumes.settings.projected.sources.1.secret.name",
        "otel",
        {},
    ),
    (
        "secrets.tracingHeaders.key",
        "key",
        f"{_DRIVER}.spec.volumes.settings.projected.sources.1.secret.items.0.key",
        "key",
        nested("secrets.tracingHeaders.name", "otel"),
    ),
    ("secrets.assets.name", "s3", f"{_env('AWS_ACCESS_KEY_ID', _WORKER)}.valueFrom.secretKeyRef.name", "s3", {}),
    (
        "secrets.assets.accessKeyIdKey",
        "id",
        f"{_env('AWS_ACCESS_KEY_ID')}.valueFrom.secretKeyRef.key",
        "id",
        nested("secrets.assets.name", "s3"),
    ),
    (
        "secrets.assets.secretAccessKeyKey",
        "sk",
        f"{_env('AWS_SECRET_ACCESS_KEY')}.valueFrom.secretKeyRef.key",
        "sk",
        nested("secrets.assets.name", "s3"),
    ),
    ("assets.endpoint", "http://s3:8333", f"{_env('AWS_ENDPOINT_URL_S3')}.value", "http://s3:8333", {}),
    ("assets.region", "eu-west-1", f"{_env('AWS_DEFAULT_REGION')}.value", "eu-west-1", {}),
    ("secrets.kafkaCa.name", "ca", f"{_WORKER}.spec.volumes.settings.projected.sources.1.secret.name", "ca", {}),
    (
        "secrets.kafkaCa.key",
        "root.pem",
        f"{_DRIVER}.spec.volumes.settings.projected.sources.1.secret.items.0.key",
        "root.pem",
        nested("secrets.kafkaCa.name", "ca"),
    ),
    (
        "secrets.files",
        {"store.readonly_token": {"name": "m", "key": "reader"}},
        f"{_REPLICA}.spec.volumes.settings.projected.sources.4.secret.items.0",
        {"key": "reader", "path": "secrets/store.readonly_token"},
        {},
    ),
    ("secrets.rayToken", "ray", "RayCluster/ingest:spec.authOptions.secretName", "ray", {}),
    ("ray.version", "2.61.0", "RayCluster/ingest:spec.rayVersion", "2.61.0", {}),
    ("ray.redis.address", "r:6379", "RayCluster/ingest:spec.gcsFaultToleranceOptions.redisAddress", "r:6379", {}),
    (
        "ray.redis.passwordSecret",
        "rs",
        f"{_QUERY}.gcsFaultToleranceOptions.redisPassword.valueFrom.secretKeyRef.name",
        "rs",
        _REDIS,
    ),
    (
        "ray.redis.passwordKey",
        "pw",
        "RayCluster/ingest:spec.gcsFaultToleranceOptions.redisPassword.valueFrom.secretKeyRef.key",
        "pw",
        _REDIS,
    ),
    ("ray.serviceAccountAnnotations", {"role": "reader"}, "ServiceAccount/:metadata.annotations.role", "reader", {}),
    ("models.source", "fetch", f"{_WORKER}.spec.initContainers.0.command", ["penstock", "models", "fetch"], {}),
    (
        "models.claim",
        "weights",
        f"{_REPLICA}.spec.volumes.models.persistentVolumeClaim",
        {"claimName": "weights", "readOnly": True},
        {"models": {"source": "claim", "claim": "another"}},
    ),
    (
        "models.sizeLimit",
        "3Gi",
        f"{_DRIVER}.spec.volumes.models.emptyDir.sizeLimit",
        "3Gi",
        nested("models.source", "fetch"),
    ),
    ("ingest.enabled", False, "RayCluster/ingest:metadata.name", None, {}),
    ("ingest.head.resources", _RESOURCES, f"{_HEAD}.spec.containers.0.resources", _RESOURCES, {}),
    ("ingest.head.nodeSelector", _SELECTOR, f"{_HEAD}.spec.nodeSelector", _SELECTOR, {}),
    ("ingest.head.tolerations", _TOLERATIONS, f"{_HEAD}.spec.tolerations", _TOLERATIONS, {}),
    ("ingest.head.priorityClassName", "high", f"{_HEAD}.spec.priorityClassName", "high", {}),
    ("ingest.head.disruptionBudget", True, "PodDisruptionBudget/ingest-head:spec.minAvailable", 1, {}),
    ("ingest.driver.resources", _RESOURCES, f"{_DRIVER}.spec.containers.0.resources", _RESOURCES, {}),
    ("ingest.driver.nodeSelector", _SELECTOR, f"{_DRIVER}.spec.nodeSelector", _SELECTOR, {}),
    ("ingest.driver.tolerations", _TOLERATIONS, f"{_DRIVER}.spec.tolerations", _TOLERATIONS, {}),
    ("ingest.driver.priorityClassName", "high", f"{_DRIVER}.spec.priorityClassName", "high", {}),
    ("ingest.driver.disruptionBudget", True, "PodDisruptionBudget/ingest-driver:spec.minAvailable", 1, {}),
    ("ingest.autoscaler.enabled", False, "RayCluster/ingest:spec.enableInTreeAutoscaling", False, {}),
    (
        "ingest.autoscaler.idleTimeoutSeconds",
        1200,
        "RayCluster/ingest:spec.autoscalerOptions.idleTimeoutSeconds",
        1200,
        {},
    ),
    (
        "ingest.autoscaler.upscalingMode",
        "Conservative",
        "RayCluster/ingest:spec.autoscalerOptions.upscalingMode",
        "Conservative",
        {},
    ),
    ("ingest.autoscaler.resources", _RESOURCES, "RayCluster/ingest:spec.autoscalerOptions.resources", _RESOURCES, {}),
    (
        "ingest.groups",
        {"big": {"role": "cpu", "min": 2, "max": 9, "resources": _RESOURCES}},
        "RayCluster/ingest:spec.workerGroupSpecs.big.maxReplicas",
        9,
        {},
    ),
    ("query.enabled", False, "RayService/query:metadata.name", None, {}),
    ("query.port", 9000, f"{_REPLICA}.spec.containers.0.ports.serve.containerPort", 9000, {}),
    ("query.replicas.min", 3, f"{_QUERY}.workerGroupSpecs.0.minReplicas", 3, nested("query.replicas.max", 3)),
    ("query.replicas.max", 5, f"{_QUERY}.workerGroupSpecs.0.maxReplicas", 5, {}),
    ("query.replicas.targetOngoingRequests", 7, *_serve("target_ongoing_requests: 7"), _SCALING),
    ("query.replicas.maxOngoingRequests", 99, *_serve("max_ongoing_requests: 99"), {}),
    ("query.replicas.upscaleDelaySeconds", 11, *_serve("upscale_delay_s: 11"), _SCALING),
    ("query.replicas.downscaleDelaySeconds", 12, *_serve("downscale_delay_s: 12"), _SCALING),
    ("query.head.resources", _RESOURCES, f"{_QUERY_HEAD}.spec.containers.0.resources", _RESOURCES, {}),
    ("query.head.nodeSelector", _SELECTOR, f"{_QUERY_HEAD}.spec.nodeSelector", _SELECTOR, {}),
    ("query.head.tolerations", _TOLERATIONS, f"{_QUERY_HEAD}.spec.tolerations", _TOLERATIONS, {}),
    ("query.head.priorityClassName", "high", f"{_QUERY_HEAD}.spec.priorityClassName", "high", {}),
    (
        "query.workers.resources",
        _RESOURCES,
        f"{_REPLICA}.spec.containers.0.resources.requests",
        _RESOURCES["requests"],
        {},
    ),
    (
        "query.workers.gpu",
        {"count": 1, "resource": "nvidia.com/mig-1g.10gb"},
        f"{_REPLICA}.spec.containers.0.resources.limits.[nvidia.com/mig-1g.10gb]",
        1,
        {},
    ),
    ("query.workers.nodeSelector", _SELECTOR, f"{_REPLICA}.spec.nodeSelector", _SELECTOR, {}),
    ("query.workers.tolerations", _TOLERATIONS, f"{_REPLICA}.spec.tolerations", _TOLERATIONS, {}),
    ("query.workers.priorityClassName", "high", f"{_REPLICA}.spec.priorityClassName", "high", {}),
    ("query.autoscalerResources", _RESOURCES, f"{_QUERY}.autoscalerOptions.resources", _RESOURCES, _SCALING),
    ("query.upgrade.type", "None", "RayService/query:spec.upgradeStrategy.type", "None", {}),
    ("query.upgrade.deletionDelaySeconds", 5, "RayService/query:spec.rayClusterDeletionDelaySeconds", 5, {}),
    (
        "query.upgrade.gatewayClassName",
        "envoy",
        "RayService/query:spec.upgradeStrategy.clusterUpgradeOptions.gatewayClassName",
        "envoy",
        _INCREMENTAL,
    ),
    (
        "query.upgrade.stepSizePercent",
        5,
        "RayService/query:spec.upgradeStrategy.clusterUpgradeOptions.stepSizePercent",
        5,
        _INCREMENTAL,
    ),
    (
        "query.upgrade.intervalSeconds",
        6,
        "RayService/query:spec.upgradeStrategy.clusterUpgradeOptions.intervalSeconds",
        6,
        _INCREMENTAL,
    ),
    (
        "query.upgrade.maxSurgePercent",
        50,
        "RayService/query:spec.upgradeStrategy.clusterUpgradeOptions.maxSurgePercent",
        50,
        _INCREMENTAL,
    ),
    ("query.disruptionBudget", False, "PodDisruptionBudget/query-worker:metadata.name", None, {}),
    ("volumes.data", "1Gi", f"{_DRIVER}.spec.volumes.data.emptyDir.sizeLimit", "1Gi", {}),
    ("volumes.temporary", "1Gi", f"{_WORKER}.spec.volumes.tmp.emptyDir.sizeLimit", "1Gi", {}),
    ("volumes.sharedMemory", "1Gi", f"{_REPLICA}.spec.volumes.shm.emptyDir.sizeLimit", "1Gi", {}),
    ("monitoring.prometheusOperator", "on", "PodMonitor/penstock:spec.podMetricsEndpoints.0.port", "penstock", {}),
    ("monitoring.interval", "30s", "PodMonitor/ray:spec.podMetricsEndpoints.2.interval", "30s", _MONITORED),
    ("monitoring.labels", {"release": "kps"}, "PodMonitor/penstock:metadata.labels.release", "kps", _MONITORED),
    ("networkPolicy.enabled", False, "NetworkPolicy/deny:metadata.name", None, {}),
    ("networkPolicy.kafka", _PEERS, "NetworkPolicy/kafka:spec.egress.0.to", _PEERS, {}),
    ("networkPolicy.kafkaPorts", [9999], "NetworkPolicy/kafka:spec.egress.0.ports.0.port", 9999, {}),
    ("networkPolicy.store", _PEERS, "NetworkPolicy/store:spec.egress.0.to", _PEERS, {}),
    ("networkPolicy.storePorts", [9999], "NetworkPolicy/store:spec.egress.0.ports.0.port", 9999, {}),
    ("networkPolicy.assets", _PEERS, "NetworkPolicy/assets:spec.egress.0.to", _PEERS, {}),
    ("networkPolicy.assetsPorts", [9999], "NetworkPolicy/assets:spec.egress.0.ports.0.port", 9999, {}),
    ("networkPolicy.collector", _PEERS, "NetworkPolicy/collector:spec.egress.0.to", _PEERS, _TRACED),
    ("networkPolicy.collectorPorts", [9999], "NetworkPolicy/collector:spec.egress.0.ports.0.port", 9999, _TRACED),
    ("networkPolicy.redis", _PEERS, "NetworkPolicy/redis:spec.egress.0.to", _PEERS, _REDIS),
    ("networkPolicy.redisPorts", [9999], "NetworkPolicy/redis:spec.egress.0.ports.0.port", 9999, _REDIS),
    ("networkPolicy.apiServer", _PEERS, "NetworkPolicy/api-server:spec.egress.0.to", _PEERS, {}),
    ("networkPolicy.apiServerPorts", [9999], "NetworkPolicy/api-server:spec.egress.0.ports.0.port", 9999, {}),
    ("networkPolicy.dns", _PEERS, "NetworkPolicy/dns:spec.egress.0.to", _PEERS, {}),
    ("networkPolicy.internet", _PEERS, "NetworkPolicy/claim-checks:spec.egress.0.to", _PEERS, {}),
    ("networkPolicy.clients", _PEERS, "NetworkPolicy/clients:spec.ingress.0.from", _PEERS, {}),
    ("networkPolicy.prometheus", _PEERS, "NetworkPolicy/prometheus:spec.ingress.0.from", _PEERS, {}),
    ("networkPolicy.operator", _PEERS, "NetworkPolicy/operator:spec.ingress.0.from", _PEERS, {}),
    ("keda.enabled", True, "ScaledObject/driver:spec.scaleTargetRef.kind", "StatefulSet", {}),
    ("keda.pollingIntervalSeconds", 7, "ScaledObject/driver:spec.pollingInterval", 7, _KEDA),
    ("keda.cooldownSeconds", 8, "ScaledObject/driver:spec.cooldownPeriod", 8, _KEDA),
    ("keda.activationLag", 9, "ScaledObject/driver:spec.triggers.0.metadata.activationLagThreshold", "9", _KEDA),
    ("audit.enabled", False, "CronJob/audit:metadata.name", None, {}),
    ("audit.schedule", "0 * * * *", "CronJob/audit:spec.schedule", "0 * * * *", {}),
    (
        "audit.sample",
        0.25,
        "CronJob/audit:spec.jobTemplate.spec.template.spec.containers.0.command",
        ["penstock", "audit", "--json", "--sample", "0.25"],
        {},
    ),
    ("audit.deadlineSeconds", 77, "CronJob/audit:spec.jobTemplate.spec.activeDeadlineSeconds", 77, {}),
    (
        "audit.resources",
        _RESOURCES,
        "CronJob/audit:spec.jobTemplate.spec.template.spec.containers.0.resources",
        _RESOURCES,
        {},
    ),
    (
        "backup.url",
        "s3://b/c",
        "CronJob/backup:spec.jobTemplate.spec.template.spec.containers.0.command",
        ["penstock", "backup", "s3://b/c", "--keep", "14", "--json"],
        {},
    ),
    ("backup.schedule", "0 * * * *", "CronJob/backup:spec.schedule", "0 * * * *", _BACKUP),
    (
        "backup.keep",
        3,
        "CronJob/backup:spec.jobTemplate.spec.template.spec.containers.0.command.4",
        "3",
        _BACKUP,
    ),
    ("backup.deadlineSeconds", 78, "CronJob/backup:spec.jobTemplate.spec.activeDeadlineSeconds", 78, _BACKUP),
    (
        "backup.resources",
        _RESOURCES,
        "CronJob/backup:spec.jobTemplate.spec.template.spec.containers.0.resources",
        _RESOURCES,
        _BACKUP,
    ),
    ("test.timeoutSeconds", 30, "Pod/test:spec.activeDeadlineSeconds", 150, {}),
    ("test.resources", _RESOURCES, "Pod/test:spec.containers.0.resources", _RESOURCES, {}),
)
# Checked by tests of their own: in test_settings.py, test_monitoring.py, test_reindex.py and below.
_ELSEWHERE = {
    "settings",
    "fullnameOverride",
    "monitoring.dashboards",
    "monitoring.dashboardLabels",
    "monitoring.runbooks",
    # test_reindex.py
    "reindex.enabled",
    "reindex.profile",
    "reindex.maxRate",
}


@pytest.mark.parametrize(("value", "given", "where", "expected", "besides"), _CASES, ids=lambda part: str(part)[:40])
def test_a_value_is_seen_where_it_belongs(
    value: str, given: Any, where: str, expected: Any, besides: Mapping[str, Any]
) -> None:
    before, after = render(besides).at(where), render(besides, nested(value, given)).at(where)
    if isinstance(expected, str) and where.endswith("serveConfigV2"):
        assert (expected in after, expected in before) == (True, False)
    else:
        assert after == expected
        assert before != expected


def test_the_full_name_replaces_release_and_chart() -> None:
    names = {manifest["metadata"]["name"] for manifest in render({"fullnameOverride": "search"}).all}
    assert all(name == "search" or name.startswith("search-") for name in names)


def test_every_value_has_a_case() -> None:
    values = leaves(read_values((CHART / "values.yaml").read_text("utf-8")))
    assert {value.name for value in values} == {case[0] for case in _CASES} | _ELSEWHERE
