"""Reads PromQL: the selectors of a query, and the labels by which it groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser

from ops.prometheus import with_variables


@dataclass(frozen=True)
class Query:
    """The selected metrics of a query with their matchers, and the labels of `by`, `on` and `group_left`."""

    metrics: dict[str, set[str]]
    groups: set[str]


def read(expression: str) -> Query:
    metrics: dict[str, set[str]] = {}
    groups: set[str] = set()
    for node in nodes(promql_parser.parse(with_variables(expression))):
        if isinstance(node, promql_parser.VectorSelector):
            matched = {matcher.name for matcher in node.matchers.matchers}
            metrics.setdefault(node.name, set()).update(matched)
        modifier = getattr(node, "modifier", None)
        if isinstance(modifier, promql_parser.AggModifier):
            groups.update(modifier.labels)
        if isinstance(modifier, promql_parser.BinModifier):
            groups.update(modifier.matching.labels if modifier.matching else ())
            groups.update(getattr(modifier, "group_labels", None) or ())
    return Query(metrics, groups)


def nodes(expression: Any) -> Iterator[Any]:
    """Every part of a query, outermost first."""
    yield expression
    for name in ("lhs", "rhs", "expr", "vector_selector", "param"):
        part = getattr(expression, name, None)
        if isinstance(part, promql_parser.Expr) or (name == "vector_selector" and part is not None):
            yield from nodes(part)
    for part in getattr(expression, "args", None) or ():
        yield from nodes(part)
