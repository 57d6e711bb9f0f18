"""Parses and checks the JSON filter of a search. Each store turns the result into an expression of its own.

    {"mime": "image/png"}                                        equal
    {"attributes.camera": {"in": ["x100", "gr3"]}}               one of
    {"event_time": {"gte": "2026-01-01T00:00:00Z", "lt": …}}     range; times as RFC 3339 or milliseconds
    {"attributes.tags": {"contains": "river"}}                   a list that has the value; any or all of several by
                                                                 contains_any and contains_all
    {"and": […]} {"or": […]} {"not": …}                          combined

Several names in one object are joined by "and". The fields that can be filtered are those of `FILTERABLE`, and
`attributes.` before the name of an attribute, dots in it included: attributes are not nested. A missing (or null)
attribute matches nothing, not even `ne` or a `not`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Literal, TypeAlias, get_args

from penstock.errors import QueryError

Scalar: TypeAlias = str | int | float | bool
Operator: TypeAlias = Literal[
    "eq", "ne", "in", "gt", "gte", "lt", "lte", "contains", "contains_any", "contains_all", "lacks"
]
INTERNAL_OPERATORS = ("lacks",)  # the opposite of contains
OPERATORS: tuple[str, ...] = tuple(name for name in get_args(Operator) if name not in INTERNAL_OPERATORS)
LIST_OPERATORS = ("contains", "contains_any", "contains_all")
_OF_SEVERAL = ("in", "contains_any", "contains_all")

ATTRIBUTES = "attributes."
_STORED = "asset:"
MAX_DEPTH = 8
MAX_COMPARISONS = 100
MAX_VALUES = 1_000
MAX_STRING_BYTES = 4_096
_INT64 = range(-(2**63), 2**63)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# No quote, backslash or control character: then a name needs no escaping anywhere.
_ATTRIBUTE = re.compile(r"[^\"'\\\x00-\x1f\x7f]{1,256}")


class ValueType(Enum):
    """The values that a filterable field is compared with, in words for messages."""

    TEXT = "a string"
    INTEGER = "a whole number"
    TIME = "an RFC 3339 time with its offset, or milliseconds since the epoch"
    ATTRIBUTE = "a string, a number, true or false"


FILTERABLE: Mapping[str, ValueType] = {
    "title": ValueType.TEXT,
    "uri": ValueType.TEXT,
    "mime": ValueType.TEXT,
    "key": ValueType.TEXT,
    "topic": ValueType.TEXT,
    "start_ms": ValueType.INTEGER,
    "end_ms": ValueType.INTEGER,
    "part": ValueType.INTEGER,
    "page": ValueType.INTEGER,
    "partition": ValueType.INTEGER,
    "offset": ValueType.INTEGER,
    "event_time": ValueType.TIME,
    "indexed_at": ValueType.TIME,
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison. `name` is a filterable field, or an attribute (`attributes.camera`)."""

    name: str
    operator: Operator
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Combination:
    """Several conditions joined by `and` or `or`; `not` has one."""

    operator: Literal["and", "or", "not"]
    conditions: tuple[Filter, ...]


Filter: TypeAlias = Comparison | Combination


def parse_filter(raw: Mapping[str, object], *, at: str = "/filter") -> Filter | None:
    """Parses and checks a filter; an empty object gives None.

    Args:
        raw: the JSON object.
        at: JSON pointer to it within the request; errors carry the pointer of the part at fault.

    Raises:
        QueryError: an unknown field or operator, a value of the wrong type, or a filter over a limit; the message lists
            the allowed ones.
    """
    if isinstance(raw, Mapping) and not raw:
        return None
    parsed = _parse_object(raw, at, depth=1)
    comparisons = list(_comparisons(parsed))
    values = sum(len(compared.value) if isinstance(compared.value, tuple) else 1 for compared in comparisons)
    if len(comparisons) > MAX_COMPARISONS or values > MAX_VALUES:
        raise QueryError(
            f"the filter has {len(comparisons)} comparisons with {values} values; "
            f"{MAX_COMPARISONS} and {MAX_VALUES} are allowed",
            field=at,
        )
    return parsed


def check_addresses(condition: Filter, *, at: str = "/filter") -> None:
    """Refuses comparisons of a caller's filter by which it would read addresses that hits do not have.

    Addresses of claim checks may be hidden (`fetch.allow` without `show`), and the index has them nevertheless: ranges
    would spell them out, and equality confirms a guess. Every reader of a hit gets those of the asset store.

    Raises:
        QueryError: `uri` is compared by another operator than `eq` and `in`, or with another address.
    """
    for compared in _comparisons(condition):
        if compared.name != "uri":
            continue
        addresses = compared.value if isinstance(compared.value, tuple) else (compared.value,)
        if compared.operator not in ("eq", "in") or not all(str(uri).startswith(_STORED) for uri in addresses):
            raise QueryError(
                f'uri is compared by "eq" and "in" alone, with addresses of stored media ({_STORED}<sha256>): other '
                "addresses are not for all readers. Filter by the key or an attribute",
                field=at,
            )


def _parse_object(raw: Any, at: str, depth: int) -> Filter:
    if not isinstance(raw, Mapping) or not raw:
        raise QueryError('a condition is an object with at least one name, such as {"mime": "image/png"}', field=at)
    if depth > MAX_DEPTH:
        raise QueryError(f"the filter is nested deeper than {MAX_DEPTH} levels", field=at)
    return _joined([_parse_member(str(name), value, _below(at, name), depth) for name, value in raw.items()])


def _parse_member(name: str, value: Any, at: str, depth: int) -> Filter:
    if name == "not":
        return Combination("not", (_parse_object(value, at, depth + 1),))
    if name not in ("and", "or"):
        return _parse_comparison(name, value, at)
    if not isinstance(value, list | tuple) or not value:
        raise QueryError(f'"{name}" takes a list of conditions, not empty', field=at)
    conditions = tuple(_parse_object(member, _below(at, index), depth + 1) for index, member in enumerate(value))
    return Combination("and" if name == "and" else "or", conditions)


def _parse_comparison(name: str, raw: Any, at: str) -> Filter:
    value_type = _value_type(name, at)
    if not isinstance(raw, Mapping):
        return Comparison(name, "eq", _value(name, value_type, raw, at))
    if not raw:
        raise QueryError(f"{name} has no operator; use one of {', '.join(OPERATORS)}", field=at)
    return _joined([_parse_operator(name, value_type, str(op), value, _below(at, op)) for op, value in raw.items()])


def _parse_operator(name: str, value_type: ValueType, operator: str, raw: Any, at: str) -> Filter:
    if operator not in OPERATORS:
        raise QueryError(f"unknown operator {operator!r} of {name}; use one of {', '.join(OPERATORS)}", field=at)
    if operator in LIST_OPERATORS and value_type is not ValueType.ATTRIBUTE:
        raise QueryError(f"{name} is never a list: {operator!r} is for attributes", field=at)
    if operator in _OF_SEVERAL:
        if not isinstance(raw, list | tuple) or not raw:
            raise QueryError(f'"{operator}" of {name} takes a list of values, not empty', field=at)
        values = tuple(_value(name, value_type, member, _below(at, i)) for i, member in enumerate(raw))
        return Comparison(name, operator, values)  # type: ignore[arg-type]  # one of OPERATORS, as checked
    value = _value(name, value_type, raw, at)
    if isinstance(value, bool) and operator not in ("eq", "ne", "contains"):
        raise QueryError(f"true and false have no order: {operator!r} of {name} takes a string or a number", field=at)
    return Comparison(name, operator, value)  # type: ignore[arg-type]  # one of OPERATORS, as checked


def _value_type(name: str, at: str) -> ValueType:
    if name.startswith(ATTRIBUTES):
        if _ATTRIBUTE.fullmatch(attribute_name(name)):
            return ValueType.ATTRIBUTE
        raise QueryError(
            f"{name!r} names no attribute that can be filtered: 1 to 256 characters without quotes and backslashes",
            field=at,
        )
    if name not in FILTERABLE:
        allowed = ", ".join([*FILTERABLE, "attributes.<name>"])
        raise QueryError(f"unknown field {name!r}; use one of {allowed}, and, or, not", field=at)
    return FILTERABLE[name]


def _value(name: str, value_type: ValueType, raw: Any, at: str) -> Scalar:
    value = _converted(value_type, raw)
    if value is None:
        raise QueryError(f"{name} is compared with {value_type.value}, not with {str(raw)[:80]!r}", field=at)
    if isinstance(value, str) and len(value.encode()) > MAX_STRING_BYTES:
        raise QueryError(f"a value of {name} is longer than {MAX_STRING_BYTES} bytes", field=at)
    return value


def _converted(value_type: ValueType, raw: Any) -> Scalar | None:
    """Returns the value in the form that this type of field is compared with; None if it cannot be."""
    if isinstance(raw, bool):
        return raw if value_type is ValueType.ATTRIBUTE else None
    if isinstance(raw, str):
        if value_type is ValueType.TIME:
            return _milliseconds(raw)
        return raw if value_type in (ValueType.TEXT, ValueType.ATTRIBUTE) and _is_unicode(raw) else None
    if isinstance(raw, float) and math.isfinite(raw):
        if value_type is ValueType.ATTRIBUTE:
            return raw
        raw = int(raw) if raw.is_integer() else None
    return raw if isinstance(raw, int) and raw in _INT64 and value_type is not ValueType.TEXT else None


def _milliseconds(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else (moment - _EPOCH) // timedelta(milliseconds=1)


def _is_unicode(text: str) -> bool:
    """Returns False for half a surrogate pair, which JSON can express and UTF-8 cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _joined(conditions: list[Filter]) -> Filter:
    return conditions[0] if len(conditions) == 1 else Combination("and", tuple(conditions))


def _below(pointer: str, name: object) -> str:
    """Returns the JSON pointer to a member (RFC 6901)."""
    return f"{pointer}/{str(name).replace('~', '~0').replace('/', '~1')}"


def _comparisons(condition: Filter) -> Iterator[Comparison]:
    if isinstance(condition, Comparison):
        yield condition
    else:
        for member in condition.conditions:
            yield from _comparisons(member)


def attribute_name(name: str) -> str:
    """Returns the name of the attribute that a comparison names: `attributes.lens.wide` gives `lens.wide`."""
    return name.removeprefix(ATTRIBUTES)
