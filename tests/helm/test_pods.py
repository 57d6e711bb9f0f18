"""Every pod of the chart is admitted under the standard `restricted`, and has no more access than it needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.helm.rendering import EVERYTHING, Manifest, merge, nested, render

_ALL = render(EVERYTHING)
_WITH_CLAIM = render(EVERYTHING, {"models": {"source": "claim", "claim": "weights"}})
_TEMPLATES = [*_ALL.pod_templates(), *_WITH_CLAIM.pod_templates()]
# What the standard allows beside claims and projections of the API.
_ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}

of_every_pod = pytest.mark.parametrize(
    "pod", [template for _, template in _TEMPLATES], ids=[name for name, _ in _TEMPLATES]
)


def _containers(pod: Manifest) -> Iterator[Manifest]:
    yield from pod["spec"].get("initContainers", [])
    yield from pod["spec"]["containers"]


def test_there_are_pods_of_every_kind() -> None:
    kinds = {name.partition("/")[0] for name, _ in _TEMPLATES}
    assert kinds == {"StatefulSet", "RayCluster", "RayService", "CronJob", "Pod"}


@of_every_pod
def test_a_pod_is_restricted(pod: Manifest) -> None:
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    for volume in spec["volumes"]:
        assert volume.keys() - {"name"} <= _ALLOWED_VOLUMES
    for container in _containers(pod):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert not any("hostPort" in port for port in container.get("ports", []))


@of_every_pod
def test_the_root_is_read_only_and_what_is_written_has_a_volume(pod: Manifest) -> None:
    for container in _containers(pod):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert {"/tmp", "/data"} <= mounts.keys()
        assert not any(mounts[path].get("readOnly") for path in ("/tmp", "/data"))


@of_every_pod
def test_every_mount_has_a_volume_and_every_volume_a_limit(pod: Manifest) -> None:
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    for container in _containers(pod):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
    for volume in volumes.values():
        if "emptyDir" in volume:
            assert volume["emptyDir"]["sizeLimit"]


@of_every_pod
def test_no_mount_is_below_a_read_only_one(pod: Manifest) -> None:
    for container in _containers(pod):
        mounts = container["volumeMounts"]
        closed = [mount["mountPath"] + "/" for mount in mounts if mount.get("readOnly")]
        assert not any(mount["mountPath"].startswith(tuple(closed)) for mount in mounts if closed)


@of_every_pod
def test_no_container_of_ours_has_a_token_of_the_api(pod: Manifest) -> None:
    assert pod["spec"]["automountServiceAccountToken"] is False
    for container in _containers(pod):
        assert not [mount for mount in container["volumeMounts"] if "serviceaccount" in mount["mountPath"]]


@of_every_pod
def test_every_container_has_requests_and_a_limit_of_memory(pod: Manifest) -> None:
    for container in _containers(pod):
        resources = container["resources"]
        assert resources.get("requests", resources["limits"])["memory"]
        assert resources["limits"]["memory"]


@of_every_pod
def test_a_pod_restarts_for_its_settings_and_only_then(pod: Manifest) -> None:
    labels = pod["metadata"]["labels"]
    if labels["penstock/plane"] == "tools":
        return  # made for one run
    assert pod["metadata"]["annotations"].keys() >= {"penstock/settings", "penstock/secrets"}


def test_a_changed_setting_changes_the_checksum() -> None:
    where = "StatefulSet/driver:spec.template.metadata.annotations.penstock/settings"
    changed = render(nested("settings.ingest.lanes", 3)).at(where)
    assert changed != render().at(where)
    assert render(nested("audit.schedule", "1 1 * * *")).at(where) == render().at(where)


def test_another_secret_changes_the_checksum() -> None:
    where = "RayCluster/ingest:spec.headGroupSpec.template.metadata.annotations.penstock/secrets"
    assert render(nested("secrets.kafkaPassword.name", "k")).at(where) != render().at(where)


def test_the_autoscaler_alone_has_a_token() -> None:
    cluster = _ALL["RayCluster/ingest"]["spec"]
    mounts = cluster["autoscalerOptions"]["volumeMounts"]
    assert [mount["mountPath"] for mount in mounts] == ["/tmp", "/var/run/secrets/kubernetes.io/serviceaccount"]
    volumes = {volume["name"] for volume in cluster["headGroupSpec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in mounts} <= volumes
    without = render(nested("ingest.autoscaler.enabled", False))["RayCluster/ingest"]["spec"]
    names = {volume["name"] for volume in without["headGroupSpec"]["template"]["spec"]["volumes"]}
    assert "api-token" not in names


def test_the_autoscaler_is_restricted_too() -> None:
    security = _ALL["RayCluster/ingest"]["spec"]["autoscalerOptions"]["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False


def test_no_manifest_holds_a_secret() -> None:
    assert not _ALL.of_kind("Secret")
    names = [
        variable for _, pod in _ALL.pod_templates() for container in _containers(pod) for variable in container["env"]
    ]
    secret = [
        variable
        for variable in names
        if any(part in variable["name"] for part in ("PASSWORD", "TOKEN", "SECRET", "KEY_ID"))
    ]
    assert secret
    assert all("value" not in variable for variable in secret)


@pytest.mark.parametrize("kind", ["StatefulSet/driver:spec.template", "CronJob/audit:spec.jobTemplate.spec.template"])
def test_pods_that_serve_no_model_hold_no_gpu(kind: str) -> None:
    limits: dict[str, Any] = _ALL.at(f"{kind}.spec.containers.0.resources.limits")
    assert limits.keys() <= {"cpu", "memory"}


def test_probes_ask_the_driver_over_http() -> None:
    driver = _ALL.at("StatefulSet/driver:spec.template.spec.containers.0")
    assert driver["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "penstock"}
    assert driver["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "penstock"}
    assert driver["ports"][0] == {"name": "penstock", "containerPort": 8601}


def test_the_driver_has_time_to_drain() -> None:
    values = nested("settings.ingest.drain_timeout_s", 90.5)
    assert render(values).at("StatefulSet/driver:spec.template.spec.terminationGracePeriodSeconds") == 131
    worker = render(values).at("RayCluster/ingest:spec.workerGroupSpecs.cpu.template.spec")
    env = {variable["name"]: variable.get("value") for variable in worker["containers"][0]["env"]}
    # workers stay longer than the driver drains, and end by themselves before they are killed
    assert 91 < int(env["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]) < worker["terminationGracePeriodSeconds"]


def test_the_driver_runs_once() -> None:
    driver = render()["StatefulSet/driver"]["spec"]
    assert driver["replicas"] == 1
    assert "replicas" not in render(nested("keda.enabled", True))["StatefulSet/driver"]["spec"]  # KEDA's


def test_a_common_label_is_on_every_pod() -> None:
    everything = merge(EVERYTHING, {"commonLabels": {"team": "media"}})
    assert {template["metadata"]["labels"].get("team") for _, template in render(everything).pod_templates()} == {
        "media"
    }
