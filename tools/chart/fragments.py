"""The JSON schemas of values that have the shape of a Kubernetes type. None takes a name that it does not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]


def strict(properties: Mapping[str, Any], required: tuple[str, ...] = (), description: str = "") -> Schema:
    """Returns the schema of an object with these properties and no others."""
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": dict(properties)}
    if required:
        schema["required"] = list(required)
    return schema | ({"description": description} if description else {})


def _map_of(value: Schema) -> Schema:
    return {"type": "object", "additionalProperties": value}


_STRING: Schema = {"type": "string"}
_QUANTITY: Schema = {
    "type": ["string", "number"],
    "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$",
}
_LABELS = _map_of(_STRING)
_RESOURCES = strict({"requests": _map_of(_QUANTITY), "limits": _map_of(_QUANTITY)})
_TOLERATIONS: Schema = {
    "type": "array",
    "items": strict(
        {
            "key": _STRING,
            "operator": {"enum": ["Exists", "Equal"]},
            "value": _STRING,
            "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
            "tolerationSeconds": {"type": "integer"},
        }
    ),
}
_SELECTOR = strict(
    {
        "matchLabels": _LABELS,
        "matchExpressions": {
            "type": "array",
            "items": strict(
                {
                    "key": _STRING,
                    "operator": {"enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
                    "values": {"type": "array", "items": _STRING},
                },
                ("key", "operator"),
            ),
        },
    }
)
_PEERS: Schema = {
    "type": "array",
    "items": strict(
        {
            "namespaceSelector": _SELECTOR,
            "podSelector": _SELECTOR,
            "ipBlock": strict({"cidr": _STRING, "except": {"type": "array", "items": _STRING}}, ("cidr",)),
        }
    ),
}
_PORTS: Schema = {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 65535}, "minItems": 1}
_GPU = strict(
    {
        "count": {"type": "integer", "minimum": 0, "description": "GPUs of a pod; 0: none."},
        "resource": {
            "type": "string",
            "pattern": r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
            "description": "Resource of the device plugin, such as nvidia.com/gpu or nvidia.com/mig-1g.10gb.",
        },
    },
    description="GPUs of a pod.",
)
_GROUP = strict(
    {
        "role": {
            "enum": ["cpu", "gpu"],
            "description": "Label `penstock/role` of its Ray nodes; gpu also takes the image with CUDA.",
        },
        "min": {"type": "integer", "minimum": 0, "description": "Minimum of pods."},
        "max": {"type": "integer", "minimum": 1, "description": "Maximum of pods."},
        "resources": _RESOURCES | {"description": "Resources of a pod, without GPUs."},
        "gpu": _GPU,
        "nodeSelector": _LABELS | {"description": "Labels of the nodes that they may run on."},
        "tolerations": _TOLERATIONS | {"description": "Taints that they tolerate."},
        "priorityClassName": _STRING | {"description": "Name of their PriorityClass."},
        "spot": {
            "enum": ["none", "eks", "gke", "aks", "karpenter"],
            "description": "Whose interruptible nodes the pods ask for, by selector and toleration.",
        },
        "idleTimeoutSeconds": {
            "type": "integer",
            "minimum": 60,
            "description": "Time without actors after which a pod is removed, seconds.",
        },
        "sharedMemory": _QUANTITY
        | {"description": "Size limit of the shared memory, instead of volumes.sharedMemory."},
    },
    ("role", "min", "max", "resources"),
)
_GROUPS: Schema = {
    "type": "object",
    "propertyNames": {"pattern": "^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$"},
    "additionalProperties": _GROUP | {"type": ["object", "null"]},
}

FRAGMENTS: Mapping[str, Schema] = {
    "gpu": _GPU,
    "groups": _GROUPS,
    "labels": _LABELS,
    "peers": _PEERS,
    "ports": _PORTS,
    "quantity": _QUANTITY,
    "resources": _RESOURCES,
    "tolerations": _TOLERATIONS,
}
