"""The pods that the operator of Ray makes from the chart run with the real image, and find what is streamed in."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from penstock.auth import Permission
from penstock.auth.key_changes import KeyGrant, create_key
from penstock.samples import load_concepts, load_rendering
from tests.operate.control_plane import Cluster, control_plane, wait_until
from tests.operate.guide import commands_of
from tests.operate.kubelet import Kubelet
from tests.operate.network import bridge
from tests.operate.services import Addresses, services

pytestmark = [pytest.mark.operate, pytest.mark.timeout(7200)]  # the first run builds, for an hour at the worst

_NAMESPACE = "penstock"
_RELEASE = "penstock"
_DRIVER = "penstock-driver-0"
_START_S = 900.0


@dataclass(frozen=True, slots=True)
class House:
    """A release that runs, and the services behind it."""

    cluster: Cluster
    kubelet: Kubelet
    addresses: Addresses

    def why(self) -> str:
        """Returns what the pods wrote last, for a message."""
        names = [pod["metadata"]["name"] for pod in self.cluster.items("pods", _NAMESPACE)]
        states = self.cluster.kubectl("-n", _NAMESPACE, "get", "pods,raycluster,rayservice", "-o", "wide")
        return "\n".join([states, *self.kubelet.errors[-5:], *(self.kubelet.logs(name, 25) for name in names)])


@pytest.fixture(scope="module")
def house(cpu_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Yields the chart installed, with all of its pods Ready."""
    folder = tmp_path_factory.mktemp("pods")
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        network = stack.enter_context(bridge("penstock-tests", cpu_image))
        addresses = stack.enter_context(services(network.gateway, folder))
        (folder / "control").mkdir()
        cluster = stack.enter_context(control_plane(folder / "control", pods_by_kwok=False))
        house = House(cluster, Kubelet(cluster, _NAMESPACE, network, folder, cpu_image), addresses)
        stack.callback(house.kubelet.stop)
        _make_kafka_secrets(cluster)
        keys = _keys(folder / "keys.json")
        for command in (*commands_of("kubectl apply -f deploy/examples/namespace"), *commands_of("kubectl create")):
            cluster.shell(command, S3_KEY_ID=addresses.key_id, S3_KEY=addresses.key, **keys)
        house.kubelet.start()
        values = folder / "values.json"
        values.write_text(json.dumps(_values(addresses, cpu_image)), encoding="utf-8")
        try:
            (command,) = commands_of("helm install penstock")
            cluster.shell(f"{command} --values {values}")
            wait_until(lambda: _is_ready(cluster), "all pods are Ready and the RayService is", _START_S)
        except pytest.fail.Exception as exc:
            pytest.fail(f"{exc}\n{house.why()}", pytrace=False)
        yield house


def test_an_image_that_is_streamed_in_is_found(house: House) -> None:
    copy, produce, search = (_inside(command) for command in commands_of("kubectl exec"))
    cat = next(concept for concept in load_concepts() if concept.name == "cat")
    file = BytesIO()
    load_rendering(cat).save(file, "PNG")
    assert house.kubelet.exec(_DRIVER, *copy, stdin=file.getvalue()).returncode == 0
    produced = house.kubelet.exec(_DRIVER, *produce)
    assert produced.returncode == 0, produced.stdout + produced.stderr

    def is_first() -> bool:
        done = house.kubelet.exec(_DRIVER, *search, "--json")
        hits = json.loads(done.stdout)["hits"] if done.returncode == 0 else []
        return bool(hits) and hits[0]["key"].endswith("cat.png")

    wait_until(is_first, "the picture is the first hit", 120)
    assert house.addresses.bucket().find("media/penstock"), "its bytes are in the asset store"


def _inside(command: str) -> list[str]:
    """Returns what `kubectl exec` runs in the pod."""
    _, _, inside = command.partition(f" {_DRIVER} -- ")
    return shlex.split(inside.partition(" < ")[0])


def test_what_the_probes_ask_answers(house: House) -> None:
    assert house.kubelet.failing_probes() == []


def test_the_release_test_finds_one_of_each(house: House) -> None:
    house.cluster.helm("-n", _NAMESPACE, "test", _RELEASE, "--timeout=10m")


def test_the_audit_balances(house: House) -> None:
    house.cluster.kubectl("-n", _NAMESPACE, "create", "job", "audit-now", "--from", f"cronjob/{_RELEASE}-audit")
    house.cluster.kubectl("-n", _NAMESPACE, "wait", "--for=condition=complete", "job/audit-now", "--timeout=300s")


def _values(addresses: Addresses, image: str) -> dict[str, Any]:
    """Returns the values of a small release. Ray's autoscaler would need an API server that pods reach."""
    repository, _, tag = image.rpartition(":")
    small = {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "3Gi"}}
    worker = {"requests": {"cpu": "4", "memory": "1Gi"}, "limits": {"memory": "4Gi"}}
    replica = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "4Gi"}}
    group = {"role": "cpu", "min": 1, "max": 1, "resources": worker}
    no_sasl = {"sasl_mechanism": None, "sasl_username": None}
    return {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "settings": {
            "profile": "reference",
            "kafka": {"bootstrap_servers": addresses.kafka, "security_protocol": "PLAINTEXT", **no_sasl},
            "store": {"uri": addresses.store},
            "assets": {"url": "s3://media/penstock"},
            "ingest": {"lanes": 1},
        },
        "assets": {"endpoint": addresses.s3, "region": "us-east-1"},
        "secrets": {"kafkaPassword": {"name": ""}, "kafkaCa": {"name": ""}},
        "ingest": {
            "autoscaler": {"enabled": False},
            "head": {"resources": small},
            "driver": {"resources": small},
            "groups": {"cpu": group},
        },
        "query": {"head": {"resources": small}, "workers": {"resources": replica}, "replicas": {"min": 1, "max": 1}},
        "volumes": {"sharedMemory": "1Gi"},
    }


def _keys(file: Path) -> dict[str, str]:
    """Makes the file of keys, as the guide says it. Returns the variables that its commands name."""
    permissions = [Permission.SEARCH, Permission.ASK, Permission.STATUS]
    text, _ = create_key(file, KeyGrant(["*"], permissions, ["*"]), now=datetime.now(UTC), key_id="cluster")
    return {"KEYS_FILE": str(file), "PENSTOCK_API_KEY": text}


def _make_kafka_secrets(cluster: Cluster) -> None:
    """Makes what Strimzi does in its namespace. The Kafka of this test needs neither."""
    cluster.kubectl("create", "namespace", "kafka")
    for name, literal in (("penstock", "password=not-asked-for"), ("penstock-cluster-ca-cert", "ca.crt=none")):
        cluster.kubectl("-n", "kafka", "create", "secret", "generic", name, f"--from-literal={literal}")


def _is_ready(cluster: Cluster) -> bool:
    pods = cluster.items("pods", _NAMESPACE)
    services_ready = [_holds(service, "Ready") for service in cluster.items("rayservices", _NAMESPACE)]
    return len(pods) >= 5 and all(_holds(pod, "Ready") for pod in pods) and services_ready == [True]


def _holds(manifest: dict[str, Any], kind: str) -> bool:
    conditions = manifest.get("status", {}).get("conditions", [])
    return any(condition["type"] == kind and condition["status"] == "True" for condition in conditions)
