"""The Ray clusters of both planes: heads without work, groups with GPUs, and replicas on nodes of their own."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest
import yaml

from tests.helm.rendering import CHART, EVERYTHING, nested, render

_ALL = render(EVERYTHING)


def _group(name: str = "gpu", **changes: Any) -> dict[str, Any]:
    group = {"role": "gpu", "min": 0, "max": 8, "gpu": {"count": 2}, "resources": {"limits": {"memory": "8Gi"}}}
    return nested(f"ingest.groups.{name}", group | changes)


def _serve(*values: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(render(*values)["RayService/query"]["spec"]["serveConfigV2"])
    return config


def test_the_ray_version_is_that_of_the_environment() -> None:
    assert render()["RayCluster/ingest"]["spec"]["rayVersion"] == version("ray")


def test_the_chart_version_is_that_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["appVersion"] == version("penstock")


@pytest.mark.parametrize("where", ["RayCluster/ingest:spec", "RayService/query:spec.rayClusterConfig"])
def test_a_head_takes_no_work(where: str) -> None:
    params = _ALL.at(f"{where}.headGroupSpec.rayStartParams")
    assert (params["num-cpus"], params["num-gpus"]) == ("0", "0")


@pytest.mark.parametrize("where", ["RayCluster/ingest:spec", "RayService/query:spec.rayClusterConfig"])
def test_clusters_ask_for_a_token_and_survive_their_head(where: str) -> None:
    assert _ALL.at(f"{where}.authOptions") == {"mode": "token", "secretName": "ray"}
    assert _ALL.at(f"{where}.gcsFaultToleranceOptions.redisAddress") == "redis:6379"
    # Each cluster gets a namespace of its own in Redis: two generations of a RayService must not share one.
    assert "externalStorageNamespace" not in _ALL.at(f"{where}.gcsFaultToleranceOptions")


def test_the_driver_reads_the_token_that_kuberay_makes() -> None:
    where = "StatefulSet/driver:spec.template.spec.containers.0.env.RAY_AUTH_TOKEN.valueFrom.secretKeyRef"
    assert render().at(where) == {"name": "penstock-ingest", "key": "auth_token"}
    assert _ALL.at(where) == {"name": "ray", "key": "auth_token"}


def test_a_gpu_group_has_gpus_the_other_image_and_a_label() -> None:
    group = render(_group()).at("RayCluster/ingest:spec.workerGroupSpecs.gpu")
    container = group["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": 2}
    assert container["image"] == "penstock:0.1.0-gpu"
    assert group["labels"] == {"penstock/role": "gpu"}
    assert group["rayStartParams"] == {"num-gpus": "2"}


def test_a_part_of_a_gpu_goes_by_the_name_of_its_resource() -> None:
    limits = _ALL.at("RayCluster/ingest:spec.workerGroupSpecs.gpu.template.spec.containers.0.resources.limits")
    assert limits["nvidia.com/mig-1g.10gb"] == 1


def test_ingest_asks_for_gpus_where_a_group_has_them() -> None:
    where = "StatefulSet/driver:spec.template.spec.containers.0.env.PENSTOCK_DEVICE"
    assert render().at(where) is None
    assert render(_group()).at(f"{where}.value") == "cuda"


def test_query_without_gpus_does_not_wait_for_those_of_ingest() -> None:
    where = (
        "RayService/query:spec.rayClusterConfig.workerGroupSpecs.0.template.spec.containers.0.env.PENSTOCK_DEVICE.value"
    )
    assert render(_group()).at(where) == "cpu"
    assert render(_group(), nested("query.workers.gpu.count", 1)).at(where) == "cuda"


@pytest.mark.parametrize(
    ("spot", "label", "is_tainted"),
    [
        ("eks", "eks.amazonaws.com/capacityType", False),
        ("gke", "cloud.google.com/gke-spot", True),
        ("aks", "kubernetes.azure.com/scalesetpriority", True),
        ("karpenter", "karpenter.sh/capacity-type", False),
    ],
)
def test_a_spot_group_selects_interruptible_nodes(spot: str, label: str, is_tainted: bool) -> None:
    own = [{"key": "pool", "operator": "Exists"}]
    spec = render(_group(spot=spot, nodeSelector={"pool": "blue"}, tolerations=own)).at(
        "RayCluster/ingest:spec.workerGroupSpecs.gpu.template.spec"
    )
    assert spec["nodeSelector"].keys() == {"pool", label}
    assert [toleration["key"] for toleration in spec["tolerations"]] == ["pool", *([label] if is_tainted else [])]


def test_a_group_keeps_its_own_limits() -> None:
    group = render(_group(priorityClassName="low", idleTimeoutSeconds=120, sharedMemory="9Gi")).at(
        "RayCluster/ingest:spec.workerGroupSpecs.gpu"
    )
    assert (group["minReplicas"], group["maxReplicas"], group["idleTimeoutSeconds"]) == (0, 8, 120)
    assert group["template"]["spec"]["priorityClassName"] == "low"
    shm = next(volume for volume in group["template"]["spec"]["volumes"] if volume["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "9Gi"}


def test_a_group_that_is_null_is_left_out() -> None:
    groups = render(_group(), nested("ingest.groups.cpu", None)).at("RayCluster/ingest:spec.workerGroupSpecs")
    assert [group["groupName"] for group in groups] == ["gpu"]


def test_replicas_are_each_on_a_node_of_their_own() -> None:
    config = _serve()
    deployment = config["applications"][0]["deployments"][0]
    assert (deployment["num_replicas"], deployment["max_replicas_per_node"]) == (2, 1)
    assert config["proxy_location"] == "EveryNode"
    spec = render()["RayService/query"]["spec"]
    assert spec["excludeHeadPodFromServeSvc"] is True
    spread = spec["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]["topologySpreadConstraints"][0]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "DoNotSchedule")


def test_a_replica_reserves_cpus_so_that_its_node_is_not_idle() -> None:
    options = _serve()["applications"][0]["deployments"][0]["ray_actor_options"]
    assert options == {"num_cpus": 1, "num_gpus": 0}
    options = _serve(nested("query.workers.gpu.count", 1))["applications"][0]["deployments"][0]["ray_actor_options"]
    assert options["num_gpus"] == 1


def test_more_replicas_than_the_minimum_turn_both_autoscalers_on() -> None:
    assert _ALL.at("RayService/query:spec.rayClusterConfig.enableInTreeAutoscaling") is True
    scaling = yaml.safe_load(_ALL["RayService/query"]["spec"]["serveConfigV2"])
    config = scaling["applications"][0]["deployments"][0]
    assert (config["autoscaling_config"]["min_replicas"], config["autoscaling_config"]["max_replicas"]) == (2, 4)
    assert "num_replicas" not in config


def test_the_serve_configuration_is_one_that_ray_takes() -> None:
    from ray.serve.schema import ServeDeploySchema

    for values in ({}, EVERYTHING):
        config = ServeDeploySchema.model_validate(_serve(values))
        assert config.applications[0].import_path == "penstock.serve.application:app"


@pytest.mark.parametrize("group", ["headGroupSpec", "workerGroupSpecs.0"])
def test_every_pod_of_query_names_the_port_of_serve_as_the_operator_needs_it(group: str) -> None:
    ports = f"RayService/query:spec.rayClusterConfig.{group}.template.spec.containers.0.ports"
    assert render().at(f"{ports}.serve.containerPort") == 8000
    assert render().at(f"RayCluster/ingest:spec.{group}.template.spec.containers.0.ports.serve") is None


def test_each_plane_may_be_installed_alone() -> None:
    ingest = render(nested("query.enabled", False))
    assert ("RayCluster/ingest" in ingest, "RayService/query" in ingest, "Pod/test" in ingest) == (True, False, False)
    assert "query_url" not in ingest.settings()
    query = render(
        nested("ingest.enabled", False), nested("audit.enabled", False), nested("settings.kafka.bootstrap_servers", "")
    )
    assert ("RayService/query" in query, "StatefulSet/driver" in query) == (True, False)


def test_the_notes_stream_the_first_file_and_say_what_is_missing() -> None:
    notes = render().notes
    assert "penstock produce /tmp/cat.jpg" in notes
    assert 'penstock search "a cat" --url http://penstock-query-serve-svc.media:8000' in notes
    assert "ray.redis.address is unset" in notes
    assert "ray.redis.address" not in _ALL.notes
    assert "produce" not in render(nested("query.enabled", False)).notes
