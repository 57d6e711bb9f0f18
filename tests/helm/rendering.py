"""Renders the chart as `helm template` does, and finds things in what comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parents[2] / "helm" / "penstock"
Manifest = dict[str, Any]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast

# What every installation has to say.
REQUIRED: Mapping[str, Any] = {
    "settings": {
        "kafka": {"bootstrap_servers": "kafka:9092", "tenants": "header"},
        "store": {"uri": "http://milvus:19530"},
        "assets": {"url": "s3://media/penstock"},
        "auth": {"mode": "keys"},
    },
    "secrets": {
        "files": {
            "auth.keys_file": {"name": "penstock-keys", "key": "keys.json"},
            "media_links.key": {"name": "penstock-keys", "key": "links"},
            "replay.key": {"name": "penstock-keys", "key": "replay"},
        }
    },
}
# Turns on all that the chart can render.
EVERYTHING: Mapping[str, Any] = {
    "models": {"source": "fetch"},
    "ray": {"redis": {"address": "redis:6379", "passwordSecret": "redis"}},
    "ingest": {
        "head": {"disruptionBudget": True},
        "driver": {"disruptionBudget": True},
        "groups": {
            "gpu": {
                "role": "gpu",
                "min": 0,
                "max": 8,
                "gpu": {"count": 1, "resource": "nvidia.com/mig-1g.10gb"},
                "resources": {"limits": {"cpu": 4, "memory": "16Gi"}},
                "spot": "gke",
            }
        },
    },
    "query": {"replicas": {"max": 4}},
    "secrets": {
        "kafkaPassword": {"name": "kafka"},
        "storeToken": {"name": "milvus"},
        "assets": {"name": "s3"},
        "kafkaCa": {"name": "kafka-ca"},
        "rayToken": "ray",
    },
    "monitoring": {"prometheusOperator": "on"},
    "keda": {"enabled": True},
    "backup": {"url": "s3://backups/penstock"},
}


class Rendered:
    """All manifests of one rendering, by kind and name."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.notes = next(text for path, text in files.items() if path.endswith("NOTES.txt"))
        texts = [text for path, text in files.items() if path.endswith(".yaml")]
        self.all: list[Manifest] = [manifest for text in texts for manifest in yaml.load_all(text, _LOADER) if manifest]

    def get(self, key: str) -> Manifest | None:
        """Returns the manifest of `Kind/name`, without the release's name before it; None if there is none."""
        kind, _, name = key.partition("/")
        full = f"penstock-{name}" if name else "penstock"
        return next((manifest for manifest in self.of_kind(kind) if manifest["metadata"]["name"] == full), None)

    def __getitem__(self, key: str) -> Manifest:
        """Returns the manifest of `Kind/name`, which has to be there."""
        manifest = self.get(key)
        assert manifest is not None, f"{key} is not among what was rendered"
        return manifest

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def of_kind(self, kind: str) -> list[Manifest]:
        """Returns all manifests of a kind."""
        return [manifest for manifest in self.all if manifest["kind"] == kind]

    def at(self, where: str) -> Any:
        """Returns the value at `Kind/name:a.b.0.c`; names in brackets may have dots. None if there is none."""
        key, _, path = where.partition(":")
        node: Any = self.get(key)
        for name in _names(path):
            node = _item(node, name) if isinstance(node, list) else (node or {}).get(name)
        return node

    def settings(self) -> str:
        """Returns the settings file."""
        text: str = self["ConfigMap/settings"]["data"]["penstock.toml"]
        return text

    def pod_templates(self) -> Iterator[tuple[str, Manifest]]:
        """Yields every pod template, or pod, with its name."""
        for manifest in self.all:
            name = f"{manifest['kind']}/{manifest['metadata']['name']}"
            spec = manifest.get("spec", {})
            match manifest["kind"]:
                case "StatefulSet":
                    yield name, spec["template"]
                case "CronJob":
                    yield name, spec["jobTemplate"]["spec"]["template"]
                case "Pod":
                    yield name, manifest
                case "RayCluster" | "RayService":
                    cluster = spec.get("rayClusterConfig", spec)
                    yield f"{name}/head", cluster["headGroupSpec"]["template"]
                    for group in cluster["workerGroupSpecs"]:
                        yield f"{name}/{group['groupName']}", group["template"]


def render(*values: Mapping[str, Any]) -> Rendered:
    """Renders the chart with the required values and these, the last of which wins."""
    merged: dict[str, Any] = {}
    for layer in (REQUIRED, *values):
        merged = merge(merged, layer)
    return _rendered(json.dumps(merged))


def render_alone(values: Mapping[str, Any]) -> Rendered:
    """Renders the chart with these values and nothing beside them."""
    return _rendered(json.dumps(values))


def nested(path: str, value: Any) -> dict[str, Any]:
    """Returns values with one value at a dotted path."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Returns both, as Helm merges values: mappings name by name, everything else whole."""
    merged = dict(base)
    for name, value in over.items():
        both = isinstance(merged.get(name), Mapping) and isinstance(value, Mapping)
        merged[name] = merge(merged[name], value) if both else value
    return merged


@cache
def _rendered(values: str) -> Rendered:
    return Rendered(_chart().render(json.loads(values), name="penstock", namespace="media"))


@cache
def _chart() -> helm_python.Chart:
    return helm_python.Chart.load(CHART)


def _names(path: str) -> Iterator[str]:
    while path:
        if path.startswith("["):
            name, _, path = path[1:].partition("]")
            path = path.removeprefix(".")
        else:
            name, _, path = path.partition(".")
        yield name


def _item(items: list[Any], name: str) -> Any:
    """Returns an item by its position, or by its name."""
    if name.isdigit():
        return items[int(name)] if int(name) < len(items) else None
    return next((item for item in items if name in (item.get("name"), item.get("groupName"))), None)
