"""Explains each setting: its value, and where that came from."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from penstock.config.secrets import mask_userinfo
from penstock.config.settings import ENV_PREFIX, Settings, config_file


@dataclass(frozen=True, slots=True)
class ExplainedSetting:
    """One setting, its value, and the source of that value.

    Attributes:
        name: dotted: `ingest.lanes`.
        value: the value in use; secrets are masked.
        source: "command line", "environment: NAME", "file: PATH" or "default".
        variable: its environment variable.
        default: the value if no source sets it.
        description: as in docs/settings.md.
    """

    name: str
    value: Any
    source: str
    variable: str
    default: Any
    description: str


def explain(settings: Settings, overrides: Mapping[str, object]) -> tuple[ExplainedSetting, ...]:
    """Returns every setting with its source, in order. Secrets are masked.

    Args:
        settings: as loaded.
        overrides: the arguments that `load_settings` received.
    """
    file = _read_toml(config_file())
    explained: list[ExplainedSetting] = []
    for path, info, value in _leaves(settings):
        default = info.get_default(call_default_factory=True)
        shown = _shown(value)
        source = _source_of(path, overrides, file)
        explained.append(
            ExplainedSetting(".".join(path), shown, source, _variable(path), default, info.description or "")
        )
    return tuple(explained)


def _shown(value: Any) -> Any:
    """Returns a value with secrets masked, and user and password of URLs."""
    if isinstance(value, SecretStr):
        return str(value)
    if isinstance(value, str):
        return mask_userinfo(value)
    if isinstance(value, (list, tuple)):
        return tuple(_shown(part) for part in value)
    return value


def _source_of(path: tuple[str, ...], overrides: Mapping[str, object], file: Mapping[str, object]) -> str:
    if _contains(overrides, path):
        return "command line"
    if variable := _variable_that_sets(path):
        return f"environment: {variable}"
    return f"file: {config_file()}" if _contains(file, path) else "default"


def _read_toml(file: Path) -> Mapping[str, object]:
    return tomllib.loads(file.read_text()) if file.is_file() else {}


def _leaves(model: BaseModel, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo, Any]]:
    """Yields (path, field, value) of every setting that is not a section, in order."""
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), info, value


def _contains(tree: Mapping[str, object], path: tuple[str, ...]) -> bool:
    """Returns whether nested mappings have a value at the path."""
    node: object = tree
    for name in path:
        if not isinstance(node, Mapping) or name not in node:
            return False
        node = node[name]
    return True


def _variable(path: tuple[str, ...]) -> str:
    return ENV_PREFIX + "__".join(path).upper()


def _variable_that_sets(path: tuple[str, ...]) -> str | None:
    """Returns the environment variable that sets it: its own, or its section's as a JSON object."""
    environment = {name.upper(): value for name, value in os.environ.items() if value}
    if _variable(path) in environment:
        return _variable(path)
    section = _variable(path[:1])
    if len(path) > 1 and section in environment and _contains(json.loads(environment[section]), path[1:]):
        return section
    return None
