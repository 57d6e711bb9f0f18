"""The commands from an empty cluster to the first image are few, and all but those that need a registry are run."""

from __future__ import annotations

from tests.operate.guide import commands
from tests.operate.programs import KUBERAY

# Run by tests/operate/test_pods.py; the first is the build of its image, by buildah.
_RUN = (
    "docker build",
    "kubectl apply -f deploy/examples/namespace",
    "kubectl create",
    "helm install penstock",
    "kubectl exec",
)
# These need a registry, and images of the operators of Kafka and Milvus.
_NOT_RUN = (
    "docker push",
    "helm install kuberay-operator",
    "helm install strimzi",
    "helm install milvus-operator",
    "kubectl apply -f deploy/examples/kafka-strimzi.yaml -f deploy/examples/milvus-operator.yaml",
    "kubectl wait -n kafka",
)


def test_there_are_at_most_fifteen() -> None:
    assert 5 <= len(commands()) <= 15


def test_every_command_is_run_or_needs_what_no_test_has() -> None:
    for command in commands():
        assert command.startswith(_RUN) != command.startswith(_NOT_RUN), command


def test_the_operator_of_ray_is_the_one_that_the_tests_build() -> None:
    (command,) = [command for command in commands() if command.startswith("helm install kuberay-operator")]
    assert f"--version {KUBERAY.removeprefix('v')} " in command
