"""Translates what a pod mounts and reads into folders and variables, as a kubelet does before it starts a container."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]
# Returns an object by kind and name from the pod's namespace.
Lookup = Callable[[str, str], Manifest]

_REFERENCE = re.compile(r"\$\((\w+)\)")
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "m": 1e-3, "": 1}


def make_volumes(pod: Manifest, folder: Path, lookup: Lookup) -> Mapping[str, Path]:
    """Makes a folder for each volume, with what it projects, and returns them by name."""
    return {volume["name"]: _make_volume(volume, folder / volume["name"], lookup) for volume in pod["spec"]["volumes"]}


def _make_volume(volume: Manifest, folder: Path, lookup: Lookup) -> Path:
    if volume.get("emptyDir", {}).get("medium") == "Memory":
        folder = Path("/dev/shm") / f"{folder.parent.name}-{folder.name}"
    folder.mkdir(parents=True, exist_ok=True)
    for source in volume.get("projected", {}).get("sources", [volume]):
        _project(source, folder, lookup)
    if "emptyDir" in volume:
        os.chown(folder, 10001, 10001)
    return folder


def _project(source: Manifest, folder: Path, lookup: Lookup) -> None:
    if "configMap" in source:
        _write(folder, source["configMap"], lookup("configmaps", source["configMap"]["name"])["data"])
    if "secret" in source:
        secret = source["secret"]
        _write(folder, secret, _decoded(lookup("secrets", secret.get("secretName") or secret["name"])))


def _write(folder: Path, source: Manifest, data: Mapping[str, str]) -> None:
    items = source.get("items") or [{"key": key, "path": key} for key in data]
    for item in items:
        (folder / item["path"]).parent.mkdir(parents=True, exist_ok=True)
        (folder / item["path"]).write_text(data[item["key"]], encoding="utf-8")


def _decoded(secret: Manifest) -> Mapping[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in secret.get("data", {}).items()}


def environment(pod: Manifest, container: Manifest, lookup: Lookup) -> dict[str, str]:
    """Returns the variables of a container, with those that refer to others or to the pod replaced."""
    variables: dict[str, str] = {}
    for entry in container.get("env", []):
        source = entry.get("valueFrom")
        value = entry.get("value", "") if source is None else _value_from(source, pod, container, lookup)
        variables[entry["name"]] = expanded(value, variables)
    return variables


def _value_from(source: Manifest, pod: Manifest, container: Manifest, lookup: Lookup) -> str:
    match source:
        case {"secretKeyRef": reference}:
            return _decoded(lookup("secrets", reference["name"]))[reference["key"]]
        case {"configMapKeyRef": reference}:
            return str(lookup("configmaps", reference["name"])["data"][reference["key"]])
        case {"fieldRef": {"fieldPath": path}}:
            return _field(pod, path)
        case {"resourceFieldRef": {"resource": resource}}:
            kind, _, name = resource.partition(".")
            return str(int(quantity(container["resources"][kind][name])))
    raise ValueError(f"no kubelet here knows a variable from {source}")


def _field(pod: Manifest, path: str) -> str:
    label = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if label:
        return str(pod["metadata"][label[1]].get(label[2], ""))
    node: Any = pod
    for name in path.split("."):
        node = node[name]
    return str(node)


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Returns a text with $(NAME) replaced, as Kubernetes does in commands, arguments and values."""
    return _REFERENCE.sub(lambda match: variables.get(match[1], match[0]), text)


def quantity(text: str | float) -> float:
    """Returns a quantity such as 500m, 2Gi or 4 as a number."""
    match = re.fullmatch(r"([\d.]+)(Ki|Mi|Gi|Ti|m|)", str(text))
    if match is None:
        raise ValueError(f"{text} is no quantity that the chart uses")
    return float(match[1]) * _UNITS[match[2]]
