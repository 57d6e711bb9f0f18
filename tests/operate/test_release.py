"""The chart is installed, upgraded, rolled back and removed on a real API server, with the real operator of Ray."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helm.rendering import CHART, EVERYTHING, REQUIRED, Manifest, merge, nested, render
from tests.operate.control_plane import Cluster, control_plane, wait_until

pytestmark = [pytest.mark.operate, pytest.mark.timeout(7200)]  # the first run builds, for an hour at the worst

_SETTLE_S = 120.0
_NOT_ADMITTED = ("forbidden", "is invalid", "does not implement")
# What a namespace has by itself, and records of the past.
_ALWAYS_THERE = {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}
_PAST = {"Event"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with control_plane(tmp_path_factory.mktemp("control-plane")) as running:
        yield running


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Yields a namespace that admits restricted pods only, of which nothing is left afterwards."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-40:].strip("-")
    cluster.create_namespace(name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_a_namespace_refuses_a_pod_that_is_not_restricted(cluster: Cluster, namespace: str) -> None:
    _, pod = next(render().pod_templates())
    containers = [container | {"securityContext": {}} for container in pod["spec"]["containers"]]
    spec = pod["spec"] | {"serviceAccountName": "default", "containers": containers}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
    wait_until(lambda: "violates PodSecurity" in cluster.refusal(manifest, namespace), "the pod is refused", 30)


@pytest.mark.parametrize("name", ["required", "everything"])
def test_a_release_comes_changes_goes_back_and_leaves_nothing(
    cluster: Cluster, namespace: str, name: str, tmp_path: Path
) -> None:
    values = merge(REQUIRED, {"required": {}, "everything": _everything()}[name])
    before = _objects(cluster, namespace)
    _helm(cluster, namespace, tmp_path, "install", values)
    wait_until(lambda: _runs_whole(cluster, namespace, values), "all pods of the release run", _SETTLE_S)
    (first,) = _settings(cluster, namespace)

    _helm(cluster, namespace, tmp_path, "upgrade", merge(values, nested("settings.ingest.lanes", 5)))
    wait_until(lambda: first not in _settings(cluster, namespace), "no pod has the old settings", _SETTLE_S)
    wait_until(lambda: _runs_whole(cluster, namespace, values), "all pods of the upgrade run", _SETTLE_S)

    cluster.helm("-n", namespace, "rollback", "media", "1", "--wait=legacy", "--timeout=90s")
    wait_until(lambda: _settings(cluster, namespace) == {first}, "all pods have the old settings again", _SETTLE_S)
    wait_until(lambda: _runs_whole(cluster, namespace, values), "all pods run again", _SETTLE_S)

    assert _complaints(cluster, namespace) == []
    cluster.helm("-n", namespace, "uninstall", "media", "--timeout=90s")
    wait_until(lambda: _objects(cluster, namespace) == before, "nothing of the release is left", _SETTLE_S)


def test_the_pods_of_audit_and_test_are_admitted(cluster: Cluster, namespace: str) -> None:
    kinds = {"CronJob": "audit", "Pod": "test"}
    templates = {name.partition("/")[0]: pod for name, pod in render(EVERYTHING).pod_templates()}
    for kind, name in kinds.items():
        spec = templates[kind]["spec"] | {"serviceAccountName": "default"}
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        wait_until(lambda m=manifest: cluster.refusal(m, namespace) == "", f"the pod of {name} is admitted", 30)


def test_an_unknown_value_is_refused_before_anything_is_made(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(merge(REQUIRED, nested("settings.ingest.lane", 3))))
    before = _objects(cluster, namespace)
    with pytest.raises(pytest.fail.Exception, match="lane"):
        cluster.helm("-n", namespace, "install", "media", CHART, "--values", file)
    assert _objects(cluster, namespace) == before


def _everything() -> Mapping[str, Any]:
    """Returns the values that turn everything on, less KEDA: without its operator it would not start the driver."""
    return merge(EVERYTHING, nested("keda.enabled", False))


def _helm(cluster: Cluster, namespace: str, folder: Path, verb: str, values: Mapping[str, Any]) -> None:
    """Installs or upgrades, and waits as far as that is possible without a Ray: for pods, and not for Serve.

    An upgrade applies as the installation did.
    """
    file = folder / f"{verb}.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    options = ("--server-side=false",) if verb == "install" else ()
    cluster.helm("-n", namespace, verb, "media", CHART, "--values", file, "--wait=legacy", "--timeout=90s", *options)


def _expected_pods(values: Mapping[str, Any]) -> Mapping[str, int]:
    """Returns how many pods of each component there have to be, as the chart's own manifests say."""
    rendered = render(values)
    counts = {"ingest-driver": 1, "ingest-head": 1, "query-head": 1}
    counts["ingest-worker"] = sum(
        group["minReplicas"] for group in rendered["RayCluster/ingest"]["spec"]["workerGroupSpecs"]
    )
    counts["query-worker"] = sum(
        group["minReplicas"] for group in rendered["RayService/query"]["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    )
    return counts


def _runs_whole(cluster: Cluster, namespace: str, values: Mapping[str, Any]) -> bool:
    """Returns whether as many pods of each component run as there have to be, at least."""
    running = [_component(pod) for pod in cluster.items("pods", namespace) if _runs(pod)]
    return all(running.count(name) >= count for name, count in _expected_pods(values).items())


def _settings(cluster: Cluster, namespace: str) -> set[str]:
    """Returns the checksums of the settings that the pods of ingest have.

    Those of query change when the new cluster serves, which needs a Ray.
    """
    pods = [pod for pod in cluster.items("pods", namespace) if _component(pod).startswith("ingest")]
    return {pod["metadata"]["annotations"]["penstock/settings"] for pod in pods}


def _component(pod: Manifest) -> str:
    name: str = pod["metadata"]["labels"].get("app.kubernetes.io/component", "")
    return name


def _runs(pod: Manifest) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _complaints(cluster: Cluster, namespace: str) -> list[str]:
    """Returns what was not admitted or is not valid, as the controllers and the operator warn of it."""
    events = cluster.items("events", namespace)
    messages = {f"{event['reason']}: {event['message']}" for event in events if event["type"] == "Warning"}
    return sorted(message for message in messages if any(word in message for word in _NOT_ADMITTED))


def _objects(cluster: Cluster, namespace: str) -> set[str]:
    """Returns `Kind/name` of everything in a namespace."""
    kinds = cluster.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    listed = cluster.kubectl("-n", namespace, "get", ",".join(kinds), "-o", "json", "--ignore-not-found") or "{}"
    names = {f"{item['kind']}/{item['metadata']['name']}" for item in json.loads(listed or "{}").get("items", [])}
    return {name for name in names if name.partition("/")[0] not in _PAST} - _ALWAYS_THERE
