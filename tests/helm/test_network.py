"""NetworkPolicies: everything is denied, and each rule that allows something names who needs it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helm.rendering import EVERYTHING, Manifest, nested, render

_ALL = render(EVERYTHING)
_POLICIES = {policy["metadata"]["name"].removeprefix("penstock-"): policy for policy in _ALL.of_kind("NetworkPolicy")}


def _selects(policy: Manifest, labels: dict[str, str]) -> bool:
    selector = policy["spec"]["podSelector"]
    exact = all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
    terms = selector.get("matchExpressions", [])
    return exact and all(labels.get(term["key"]) in term["values"] for term in terms)


def _ports(component: str, direction: str) -> dict[str, set[int | None]]:
    """Returns the ports that each policy opens to or from the pods of a component."""
    labels = next(
        pod["metadata"]["labels"]
        for _, pod in _ALL.pod_templates()
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] == component
    )
    return {
        name: {port["port"] for rule in policy["spec"][direction] for port in rule.get("ports", [{"port": None}])}
        for name, policy in _POLICIES.items()
        if direction in policy["spec"] and _selects(policy, labels)
    }


@pytest.mark.parametrize("name", sorted(_POLICIES))
def test_a_policy_says_who_needs_it(name: str) -> None:
    assert len(_POLICIES[name]["metadata"]["annotations"]["penstock/needed-by"].split()) > 3


def test_every_pod_is_denied_first() -> None:
    deny = _POLICIES["deny"]["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in deny
    assert "egress" not in deny
    for _, pod in _ALL.pod_templates():
        assert _selects(_POLICIES["deny"], pod["metadata"]["labels"])


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        ("ingest-driver", {"dns", "ingest-ray", "kafka", "store", "assets", "models", "canaries"}),
        ("ingest-worker", {"dns", "ingest-ray", "kafka", "store", "assets", "models", "claim-checks"}),
        ("ingest-head", {"dns", "ingest-ray", "kafka", "store", "assets", "redis", "api-server"}),
        ("query-worker", {"dns", "query-ray", "kafka", "store", "assets", "models"}),
        ("query-head", {"dns", "query-ray", "kafka", "store", "assets", "redis", "api-server"}),
        ("audit", {"dns", "kafka", "store"}),
        ("backup", {"dns", "kafka", "store", "backups"}),
        ("test", {"dns", "kafka", "store", "canaries"}),
    ],
)
def test_a_pod_reaches_what_it_needs_and_no_more(component: str, expected: set[str]) -> None:
    assert set(_ports(component, "egress")) == expected


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        ("ingest-driver", {"ingest-ray": {None}, "prometheus": {8601, 8080, 44217, 44227}, "status": {8601}}),
        (
            "query-worker",
            {"query-ray": {None}, "prometheus": {8601, 8080, 44217, 44227}, "clients": {8000}, "searches": {8000}},
        ),
        (
            "query-head",
            {"query-ray": {None}, "prometheus": {8601, 8080, 44217, 44227}, "operator": {8265, 52365, 8000}},
        ),
        ("audit", {}),
        ("backup", {}),
        ("test", {}),
    ],
)
def test_a_pod_is_reached_by_who_needs_it(component: str, expected: dict[str, set[int]]) -> None:
    assert _ports(component, "ingress") == expected


def test_planes_do_not_reach_each_others_ray() -> None:
    for plane in ("ingest", "query"):
        rule = _POLICIES[f"{plane}-ray"]["spec"]
        assert rule["podSelector"]["matchLabels"]["penstock/plane"] == plane
        assert rule["ingress"][0]["from"][0]["podSelector"] == rule["podSelector"]


def test_claim_checks_do_not_reach_the_cluster() -> None:
    blocks: list[dict[str, Any]] = _POLICIES["claim-checks"]["spec"]["egress"][0]["to"]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(blocks[0]["ipBlock"]["except"])
    assert "NetworkPolicy/claim-checks" not in render(nested("networkPolicy.internet", []))


def test_every_release_selects_its_own_pods_only() -> None:
    for policy in _POLICIES.values():
        assert policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "penstock"
