"""The examples fit the chart and the product."""

from __future__ import annotations

import re
import subprocess
import tomllib
from itertools import takewhile
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from penstock.config import Settings
from penstock.ingest.tenant_topics import check_tenants
from penstock.records import Modality
from tests.helm.rendering import nested, render, render_alone

_EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
_KAFKA = Settings.model_fields["kafka"].default
_RIGHTS = {"Read", "Write", "Describe", "DescribeConfigs", "Create"}


@pytest.mark.parametrize("name", ["values", "values-gpu"])
def test_values_render_alone_and_their_plane_would_start(name: str) -> None:
    rendered = render_alone(yaml.safe_load((_EXAMPLES / f"{name}.yaml").read_text("utf-8")))
    check_tenants(Settings.model_validate(tomllib.loads(rendered.settings())))


def test_the_values_with_gpus_render() -> None:
    rendered = render(yaml.safe_load((_EXAMPLES / "values-gpu.yaml").read_text("utf-8")))
    group = rendered.at("RayCluster/ingest:spec.workerGroupSpecs.gpu.template.spec")
    assert group["nodeSelector"] == {"karpenter.sh/capacity-type": "spot"}
    assert not rendered.of_kind("Secret")


def test_the_values_with_gpus_place_workers_and_encoders_on_the_groups_of_the_chart() -> None:
    rendered = render(yaml.safe_load((_EXAMPLES / "values-gpu.yaml").read_text("utf-8")))
    groups = {group["groupName"]: group for group in rendered.at("RayCluster/ingest:spec.workerGroupSpecs")}
    placement = Settings.model_validate(tomllib.loads(rendered.settings())).placement
    assert set(placement.workers) == set(placement.encoders) == {"penstock/role"}
    for role, group in ((placement.workers, "cpu"), (placement.encoders, "gpu")):
        assert role["penstock/role"] == groups[group]["labels"]["penstock/role"]


def test_the_values_for_the_services_of_the_examples_name_them() -> None:
    rendered = render(yaml.safe_load((_EXAMPLES / "values.yaml").read_text("utf-8")))
    for name in ("kafka-strimzi", "milvus-operator"):
        text = (_EXAMPLES / f"{name}.yaml").read_text("utf-8")
        addresses = re.findall(r'(?:bootstrap_servers|uri): "([^"]+)"', text)
        assert addresses
        assert all(f'"{address}"' in rendered.settings() for address in addresses)
    assert not rendered.of_kind("Secret")


@pytest.mark.parametrize("name", ["kafka-strimzi", "milvus-operator", "redis", "external-secrets"])
def test_the_chart_takes_the_values_that_an_example_names(name: str) -> None:
    text = (_EXAMPLES / f"{name}.yaml").read_text("utf-8")
    _, _, rest = text.partition("# In the values of the chart:\n")
    lines = list(takewhile(lambda line: line.startswith("#   "), rest.splitlines()))
    values = yaml.safe_load("\n".join(line.removeprefix("# ") for line in lines))
    rendered = render(*(nested(path, value) for path, value in values.items()))
    assert rendered.all != render().all


def test_the_kafka_user_may_use_every_topic_and_group() -> None:
    documents = yaml.safe_load_all((_EXAMPLES / "kafka-strimzi.yaml").read_text("utf-8"))
    user = next(document for document in documents if document["kind"] == "KafkaUser")
    rules = user["spec"]["authorization"]["acls"]
    of_topics = [rule for rule in rules if rule["resource"]["type"] == "topic"]
    (of_groups,) = (rule for rule in rules if rule["resource"]["type"] == "group")
    topics = [*(_KAFKA.topic_of(modality) for modality in Modality), _KAFKA.dead_letter_topic, _KAFKA.changes_topic]
    assert all(topic.startswith(tuple(rule["resource"]["name"] for rule in of_topics)) for topic in topics)
    assert all(set(rule["operations"]) == _RIGHTS for rule in of_topics)
    assert _KAFKA.group.startswith(of_groups["resource"]["name"])
    assert set(of_groups["operations"]) == {"Read", "Describe"}


def test_the_script_gives_the_same_rights(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    tool = tmp_path / "kafka-acls"
    tool.write_text(f'#!/bin/bash\necho "$@" >> {log}\n', encoding="utf-8")
    tool.chmod(0o755)
    subprocess.run(
        ["bash", _EXAMPLES / "kafka-acls.sh", "kafka:9092", "penstock"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        check=True,
    )
    media, own, group = log.read_text("utf-8").splitlines()
    for topics, prefix in ((media, "media."), (own, "penstock.")):
        assert set(re.findall(r"--operation (\w+)", topics)) == _RIGHTS
        assert f"--topic {prefix}" in topics
    assert set(re.findall(r"--operation (\w+)", group)) == {"Read", "Describe"}
    assert "--allow-principal User:penstock" in group


@pytest.mark.parametrize("kind", ["StatefulSet", "Service", "NetworkPolicy"])
def test_redis_is_valid_and_restricted(kind: str) -> None:
    documents = list(yaml.safe_load_all((_EXAMPLES / "redis.yaml").read_text("utf-8")))
    document = next(document for document in documents if document["kind"] == kind)
    kubernetes_validate.validate(document, "1.33", strict=True)
    if kind == "StatefulSet":
        container = document["spec"]["template"]["spec"]["containers"][0]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_redis_is_reached_by_the_heads_of_the_chart() -> None:
    documents = yaml.safe_load_all((_EXAMPLES / "redis.yaml").read_text("utf-8"))
    policy = next(document for document in documents if document["kind"] == "NetworkPolicy")
    allowed = policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchExpressions"][0]["values"]
    heads = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]
        for name, pod in render().pod_templates()
        if name.endswith("/head")
    }
    assert set(allowed) == heads


def test_every_example_is_listed() -> None:
    listed = set(re.findall(r"\]\(([\w.-]+)\)", (_EXAMPLES / "README.md").read_text("utf-8")))
    assert listed == {file.name for file in _EXAMPLES.iterdir()} - {"README.md"}
