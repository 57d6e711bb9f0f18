"""Reads the values of the chart with the comments that describe them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

_SCHEMA = re.compile(r"^@schema\s+(.+)$")


@dataclass(frozen=True, slots=True)
class ChartValue:
    """One value, or a group of values.

    Attributes:
        path: its names, from the top.
        description: the comment above it, on one line; empty if there is none.
        default: as in values.yaml.
        schema: what `@schema` adds: a JSON schema, the name of a fragment, or None.
        children: the values below it; empty for a value that is described as a whole.
    """

    path: tuple[str, ...]
    description: str
    default: Any
    schema: Mapping[str, Any] | str | None
    children: tuple[ChartValue, ...]

    @property
    def name(self) -> str:
        """The dotted name: `ingest.head.resources`."""
        return ".".join(self.path)


def read_values(text: str) -> tuple[ChartValue, ...]:
    """Returns the values at the top of a values.yaml, in order.

    A mapping is a group of values, unless `@schema` names a fragment for it: then it is one value.

    Raises:
        ValueError: an `@schema` line is not JSON.
    """
    root = yaml.compose(text)
    if not isinstance(root, yaml.MappingNode):
        raise ValueError("values.yaml is not a mapping")
    return tuple(_read(root, yaml.safe_load(text), text.splitlines(), ()))


def leaves(values: Sequence[ChartValue]) -> Iterator[ChartValue]:
    """Yields the values that are not groups, in order."""
    for value in values:
        if value.children:
            yield from leaves(value.children)
        else:
            yield value


def _read(
    node: yaml.MappingNode, default: Mapping[str, Any], lines: Sequence[str], above: tuple[str, ...]
) -> Iterator[ChartValue]:
    for key, below in node.value:
        path = (*above, key.value)
        description, schema = _comment(lines, key.start_mark.line)
        value = default[key.value]
        is_group = isinstance(below, yaml.MappingNode) and below.value and schema is None
        children = tuple(_read(below, value, lines, path)) if is_group else ()
        yield ChartValue(path, description, value, schema, children)


def _comment(lines: Sequence[str], line: int) -> tuple[str, Mapping[str, Any] | str | None]:
    """Returns the description and the `@schema` of the comment that ends directly above a line."""
    start = line
    while start > 0 and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    words: list[str] = []
    schema = None
    for comment in lines[start:line]:
        text = comment.lstrip().removeprefix("#").strip()
        if match := _SCHEMA.match(text):
            schema = json.loads(match[1])
        else:
            words.append(text)
    return " ".join(words), schema
