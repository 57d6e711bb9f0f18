"""Makes values.schema.json: the chart's values from values.yaml, and `settings:` from the product's configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.config import Settings
from tools.chart.fragments import FRAGMENTS, Schema, strict
from tools.chart.values import ChartValue

_SET_BY_THE_CHART = frozenset({"data_dir", "ray_address"})
_DROPPED = frozenset({"title", "default", "format"})
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def values_schema(values: Sequence[ChartValue]) -> Schema:
    """Returns the schema of the values, which takes no name that values.yaml does not have.

    Raises:
        KeyError: an `@schema` names an unknown fragment, or a value has no description.
    """
    properties = {value.path[-1]: _schema_of(value) for value in values}
    # What every chart gets from Helm.
    properties["global"] = {"type": "object", "description": "Values that Helm shares between charts; none is read."}
    return {"$schema": "http://json-schema.org/draft-07/schema#", **strict(properties)}


def settings_schema() -> Schema:
    """Returns the schema of `settings:`: the product's settings, less secrets and what the chart sets itself."""
    document = Settings.model_json_schema()
    schema: Schema = _inlined(document, document["$defs"])
    for name in _SET_BY_THE_CHART:
        del schema["properties"][name]
    return schema


def _schema_of(value: ChartValue) -> Schema:
    if value.children:
        below = {child.path[-1]: _schema_of(child) for child in value.children}
        return strict(below, description=value.description)
    if not value.description:
        raise KeyError(f"{value.name} has no comment that describes it")
    described: Schema = {"description": value.description}
    if value.schema == "settings":
        return settings_schema() | described
    if isinstance(value.schema, str):
        return dict(FRAGMENTS[value.schema]) | described
    return {"type": _TYPES[type(value.default)], **(value.schema or {}), **described}


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:
    """Returns a schema with its references replaced, for Helm before 4, and without secrets, titles and defaults."""
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, Mapping):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        node = {**target, **{name: value for name, value in node.items() if name != "$ref"}}
    schema: Schema = {}
    for name, value in node.items():
        if name == "properties":
            schema[name] = {
                setting: _inlined(below, definitions) for setting, below in value.items() if not _is_secret(below)
            }
        elif name not in _DROPPED and name != "$defs":
            schema[name] = _inlined(value, definitions)
    return _with_names(schema)


def _with_names(schema: Schema) -> Schema:
    """Returns a mapping whose names are an enumeration as an object: Helm then says where a wrong name is."""
    names = schema.get("propertyNames", {}).get("enum")
    if names is None:
        return schema
    rest = {key: value for key, value in schema.items() if key not in ("propertyNames", "additionalProperties")}
    return rest | strict(dict.fromkeys(names, schema["additionalProperties"]))


def _is_secret(schema: Mapping[str, Any]) -> bool:
    return any(choice.get("writeOnly") for choice in (schema, *schema.get("anyOf", ())))
