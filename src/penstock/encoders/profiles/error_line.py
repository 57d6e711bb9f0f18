"""Puts the first error of a profile's file into one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def first_error(exc: ValidationError, table: type[BaseModel], tagged: Mapping[str, type[BaseModel]]) -> str:
    """Returns the first error in one line: key, value, what is allowed; and the number of further ones.

    Args:
        exc: from the validation of a file's content.
        table: the model of the whole file.
        tagged: the tables by tag, of keys that take one of several tables. Pydantic puts the tag behind such a key.
    """
    errors = exc.errors()
    error = errors[0]
    path = [str(part) for part in error["loc"]]
    key, value = ".".join(part for part in path if part not in tagged), error["input"]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    match error["type"]:
        case "extra_forbidden":
            line = f"unknown key {key} = {value!r}; allowed here: {', '.join(_keys_of(path[:-1], table, tagged))}"
        case "missing":
            line = f"key {key} is missing"
        case "value_error":
            line = f"[{key}]: {error['ctx']['error']}"
        case _:
            line = f"{key} = {value!r}: {error['msg'][0].lower()}{error['msg'][1:]}"
    return " ".join(line.split()) + more


def _keys_of(path: list[str], table: type[BaseModel], tagged: Mapping[str, type[BaseModel]]) -> list[str]:
    """Returns the keys of a table, by the path to it."""
    for key in path:
        if key in tagged:
            table = tagged[key]
            continue
        annotation: Any = table.model_fields[key].annotation
        candidates = get_args(annotation) or (annotation,)
        table = next((part for part in candidates if isinstance(part, type) and issubclass(part, BaseModel)), table)
    return list(table.model_fields)
