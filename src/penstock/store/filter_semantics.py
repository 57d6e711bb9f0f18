"""What a filter means: `matches` decides for one entry, `to_expression` writes it for Milvus. Both start from the same
`positive` form, so that they cannot differ in what "not" does to a missing attribute.
"""

from __future__ import annotations

import json
import operator as operators
from collections.abc import Callable, Mapping
from typing import Any

from penstock.records import Entry
from penstock.store.filters import ATTRIBUTES, Combination, Comparison, Filter, Operator, Scalar, attribute_path

_OPPOSITE: Mapping[Operator, Operator] = {"eq": "ne", "ne": "eq", "gt": "lte", "lte": "gt", "gte": "lt", "lt": "gte"}
_SYMBOL: Mapping[Operator, str] = {"eq": "==", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_DECIDE: Mapping[Operator, Callable[[Any, Any], Any]] = {
    "eq": operators.eq,
    "ne": operators.ne,
    "gt": operators.gt,
    "gte": operators.ge,
    "lt": operators.lt,
    "lte": operators.le,
}
_COLUMNS: Mapping[str, Callable[[Entry], Scalar]] = {
    "title": lambda entry: entry.title,
    "uri": lambda entry: entry.uri,
    "mime": lambda entry: entry.mime,
    "key": lambda entry: entry.asset.key,
    "topic": lambda entry: entry.asset.topic,
    "start_ms": lambda entry: entry.start_ms,
    "end_ms": lambda entry: entry.end_ms,
    "part": lambda entry: entry.part,
    "partition": lambda entry: entry.origin.partition,
    "offset": lambda entry: entry.origin.offset,
    "event_time": lambda entry: entry.event_time_ms,
    "indexed_at": lambda entry: entry.indexed_at_ms,
}


def without_negation(condition: Filter, *, negated: bool = False) -> Filter:
    """The same without `not` and `in`: negations pushed down to the comparisons (De Morgan), lists spelt out.

    Milvus before 2.5 takes `not (attributes["x"] == 1)` as true where x is missing, Lite as false. Without `not` they
    agree. A comparison whose attribute is missing or of another type does not match, and neither does its opposite;
    except that `ne` matches a value of another type.
    """
    if isinstance(condition, Comparison):
        return _comparison_without_negation(condition, negated)
    if condition.operator == "not":
        return without_negation(condition.conditions[0], negated=not negated)
    joined_by_and = (condition.operator == "and") != negated
    conditions = tuple(without_negation(each, negated=negated) for each in condition.conditions)
    return Combination("and" if joined_by_and else "or", conditions)


def _comparison_without_negation(compare: Comparison, negated: bool) -> Filter:
    if isinstance(compare.value, tuple):
        each_operator: Operator = "ne" if negated else "eq"
        each = tuple(Comparison(compare.name, each_operator, value) for value in compare.value)
        return Combination("and" if negated else "or", each)
    return Comparison(compare.name, _OPPOSITE[compare.operator], compare.value) if negated else compare


# --- deciding --------------------------------------------------------------------------------------------------------


def matches(condition: Filter, entry: Entry) -> bool:
    """Whether an entry satisfies it; the same as Milvus answers to `to_expression`.

    One difference is known: Milvus Lite takes true for 1 and false for 0 where an attribute is compared.
    """
    return _holds(without_negation(condition), entry, json.loads(entry.attributes_json))


def _holds(condition: Filter, entry: Entry, attributes: Mapping[str, Any]) -> bool:
    if isinstance(condition, Combination):
        joined = all if condition.operator == "and" else any
        return joined(_holds(each, entry, attributes) for each in condition.conditions)
    if not condition.name.startswith(ATTRIBUTES):
        return _satisfies(_COLUMNS[condition.name](entry), condition.operator, condition.value)
    found: Any = attributes
    for segment in attribute_path(condition.name):
        found = found.get(segment) if isinstance(found, Mapping) else None
    return found is not None and _satisfies(found, condition.operator, condition.value)


def _satisfies(found: Any, operator: Operator, value: Any) -> bool:
    if not _comparable(found, value):
        return operator == "ne"
    return bool(_DECIDE[operator](found, value))


def _comparable(found: Any, value: Any) -> bool:
    if isinstance(found, bool) or isinstance(value, bool):
        return isinstance(found, bool) and isinstance(value, bool)
    numbers = isinstance(found, int | float) and isinstance(value, int | float)
    return numbers or (isinstance(found, str) and isinstance(value, str))


# --- writing ---------------------------------------------------------------------------------------------------------


def to_expression(condition: Filter) -> str:
    """A Milvus boolean expression. Values are escaped (`literal`), names were checked by `parse_filter`."""
    return _expression(without_negation(condition))


def _expression(condition: Filter) -> str:
    if isinstance(condition, Combination):
        return "(" + f" {condition.operator} ".join(_expression(each) for each in condition.conditions) + ")"
    value = literal(condition.value)
    if not condition.name.startswith(ATTRIBUTES):
        return f"{condition.name} {_SYMBOL[condition.operator]} {value}"
    column = "attributes" + "".join(f"[{literal(segment)}]" for segment in attribute_path(condition.name))
    comparison = f"{column} {_SYMBOL[condition.operator]} {value}"
    return f"((exists {column}) and {comparison})" if condition.operator == "ne" else comparison


def literal(value: Scalar | tuple[Scalar, ...]) -> str:
    """A value as Milvus and Milvus Lite both read it.

    In strings, `"`, `\\`, line feed, carriage return and tab are the escapes that both know; every other character
    stands for itself in both, control characters included.
    """
    if isinstance(value, tuple):
        return "[" + ", ".join(literal(each) for each in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPES)}"'
    return repr(value)


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
