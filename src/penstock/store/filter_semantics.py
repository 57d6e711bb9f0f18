"""Defines the meaning of a filter: `matches` decides for one entry, `to_expression` writes it for Milvus.

Both start from the same form without negations, so that they cannot differ in how "not" treats a missing attribute.
"""

from __future__ import annotations

import json
import operator as operators
from collections.abc import Callable, Mapping
from typing import Any

from penstock.records import Entry
from penstock.store.filters import ATTRIBUTES, Combination, Comparison, Filter, Operator, Scalar, attribute_name
from penstock.store.value_search import MIN_SEARCHED, search_expression

_OPPOSITE: Mapping[Operator, Operator] = {
    "eq": "ne",
    "ne": "eq",
    "gt": "lte",
    "lte": "gt",
    "gte": "lt",
    "lt": "gte",
    "contains": "lacks",
    "lacks": "contains",
}
# What one of several values is compared by, and whether one of them is enough.
_OF_EACH: Mapping[Operator, tuple[Operator, bool]] = {
    "in": ("eq", True),
    "contains_any": ("contains", True),
    "contains_all": ("contains", False),
}
_SYMBOL: Mapping[Operator, str] = {"eq": "==", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "in": "in"}
_COMPARE: Mapping[Operator, Callable[[Any, Any], Any]] = {
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
    "page": lambda entry: entry.page,
    "partition": lambda entry: entry.origin.partition,
    "offset": lambda entry: entry.origin.offset,
    "event_time": lambda entry: entry.event_time_ms,
    "indexed_at": lambda entry: entry.indexed_at_ms,
}


def without_negation(condition: Filter, *, negated: bool = False, keep_lists: bool = False) -> Filter:
    """Returns the filter without `not`: negations moved to the comparisons (De Morgan), lists of values expanded.

    Only `in` of a field keeps its list, as a server takes a thousand values there as fast as ten; Milvus Lite takes
    no such list for an attribute. With `keep_lists` a long one of an attribute is kept for `search_expression`, also
    below a `not` if it is of strings.

    Milvus before 2.5 takes `not (attributes["x"] == 1)` as true where x is missing, Lite as false. Without `not` they
    agree. A comparison whose attribute is missing or of another type does not match, and neither does its opposite;
    except that `ne` matches a value of another type, and the opposite of `contains` one that is no list.
    """
    if isinstance(condition, Comparison):
        return _comparison_without_negation(condition, negated, keep_lists)
    if condition.operator == "not":
        return without_negation(condition.conditions[0], negated=not negated, keep_lists=keep_lists)
    joined_by_and = (condition.operator == "and") != negated
    conditions = tuple(
        without_negation(member, negated=negated, keep_lists=keep_lists) for member in condition.conditions
    )
    return Combination("and" if joined_by_and else "or", conditions)


def _comparison_without_negation(compare: Comparison, negated: bool, keep_lists: bool) -> Filter:
    if not isinstance(compare.value, tuple):
        return Comparison(compare.name, _OPPOSITE[compare.operator], compare.value) if negated else compare
    if compare.operator == "in" and not compare.name.startswith(ATTRIBUTES) and not negated:
        return compare
    if keep_lists and compare.operator == "in" and len(compare.value) >= MIN_SEARCHED:
        if not negated:
            return compare
        if all(isinstance(value, str) for value in compare.value):
            return Combination("not", (compare,))
    operator, one_is_enough = _OF_EACH[compare.operator]
    operator = _OPPOSITE[operator] if negated else operator
    comparisons = tuple(Comparison(compare.name, operator, value) for value in compare.value)
    return Combination("and" if one_is_enough == negated else "or", comparisons)


# --- matches ---------------------------------------------------------------------------------------------------------


def matches(condition: Filter, entry: Entry) -> bool:
    """Returns whether an entry satisfies the filter; agrees with Milvus's answer to `to_expression`.

    One difference is known: Milvus Lite treats true as 1 and false as 0 when it compares an attribute.
    """
    return _holds(without_negation(condition), entry, json.loads(entry.attributes_json))


def _holds(condition: Filter, entry: Entry, attributes: Mapping[str, Any]) -> bool:
    if isinstance(condition, Combination):
        joined = all if condition.operator == "and" else any
        return joined(_holds(member, entry, attributes) for member in condition.conditions)
    if not condition.name.startswith(ATTRIBUTES):
        return _satisfies(_COLUMNS[condition.name](entry), condition.operator, condition.value)
    actual = attributes.get(attribute_name(condition.name))
    return actual is not None and _satisfies(actual, condition.operator, condition.value)


def _satisfies(actual: Any, operator: Operator, value: Any) -> bool:
    if isinstance(value, tuple):
        return any(_satisfies(actual, "eq", member) for member in value)
    if operator in ("contains", "lacks"):
        members = actual if isinstance(actual, list) else ()
        return any(_satisfies(member, "eq", value) for member in members) == (operator == "contains")
    if not _comparable(actual, value):
        return operator == "ne"
    return bool(_COMPARE[operator](actual, value))


def _comparable(actual: Any, value: Any) -> bool:
    if isinstance(actual, bool) or isinstance(value, bool):
        return isinstance(actual, bool) and isinstance(value, bool)
    numbers = isinstance(actual, int | float) and isinstance(value, int | float)
    return numbers or (isinstance(actual, str) and isinstance(value, str))


# --- to_expression ---------------------------------------------------------------------------------------------------


def to_expression(condition: Filter, *, search_lists: bool = False) -> str:
    """Returns a Milvus boolean expression. Values are escaped (`literal`); `parse_filter` has checked the names.

    Args:
        condition: the filter.
        search_lists: whether an attribute is searched among many values by halves (`search_expression`).
    """
    return _expression(without_negation(condition, keep_lists=search_lists))


def _expression(condition: Filter) -> str:
    if isinstance(condition, Combination):
        return _combined(condition)
    value = literal(condition.value)
    if not condition.name.startswith(ATTRIBUTES):
        return f"{condition.name} {_SYMBOL[condition.operator]} {value}"
    column = _column(condition)
    if isinstance(condition.value, tuple):
        return search_expression(column, condition.value, literal)
    if condition.operator == "contains":
        return f"json_contains_any({column}, [{value}])"
    if condition.operator == "lacks":
        return f"((exists {column}) and not json_contains_any({column}, [{value}]))"
    comparison = f"{column} {_SYMBOL[condition.operator]} {value}"
    return f"((exists {column}) and {comparison})" if condition.operator == "ne" else comparison


def _combined(condition: Combination) -> str:
    if condition.operator == "not":  # of a search, which is true or false for every row that has the attribute
        (searched,) = condition.conditions
        assert isinstance(searched, Comparison)
        return f"((exists {_column(searched)}) and not {_expression(searched)})"
    return "(" + f" {condition.operator} ".join(_expression(member) for member in condition.conditions) + ")"


def _column(compare: Comparison) -> str:
    return f"attributes[{literal(attribute_name(compare.name))}]"


def literal(value: Scalar | tuple[Scalar, ...]) -> str:
    """Writes a value in the syntax that Milvus and Milvus Lite share.

    In strings, `"`, `\\`, line feed, carriage return and tab are the escapes that both know; every other character
    stands for itself in both, control characters included.
    """
    if isinstance(value, tuple):
        return "[" + ", ".join(literal(member) for member in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPES)}"'
    return repr(value)


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
