"""Writes the search for an attribute among many values, for a store that reads each comparison row by row.

Milvus Lite takes no list of values for an attribute, and reads the row's JSON again for each comparison of a long `or`:
1,000 values took six times as long as 10. Sorted values are searched by halves instead, with a dozen comparisons a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penstock.store.filters import Scalar

# Fewer are compared one by one, and so are those that the halving arrives at: another half costs 1.5 comparisons a row.
_MAX_COMPARED = 4
MIN_SEARCHED = 12


def search_expression(column: str, values: Sequence[Scalar], literal: Callable[[Scalar], str]) -> str:
    """Returns an expression that is true if an attribute equals one of the values.

    An order exists within a type only: a value of another one makes a comparison unknown, which would not end the
    search early. So a row without the attribute, or with one of another type, is left out first, as strings alone are
    `like` something. Rows whose attribute is a list are compared with all numbers.

    Args:
        column: the attribute in the syntax of the store.
        values: at least one.
        literal: writes a value in that syntax.
    """
    strings = sorted({value for value in values if isinstance(value, str)})
    numbers = sorted({value for value in values if isinstance(value, int | float) and not isinstance(value, bool)})
    booleans = sorted({value for value in values if isinstance(value, bool)})
    parts = [f"{column} == {literal(value)}" for value in booleans]
    if strings:
        parts.append(f'({column} like "%" and {_halves(column, [literal(value) for value in strings])})')
    if numbers:
        parts.append(f'(not ({column} like "%") and {_halves(column, [literal(value) for value in numbers])})')
    return f"((exists {column}) and ({' or '.join(parts)}))"


def _halves(column: str, written: Sequence[str]) -> str:
    """Returns the search among sorted values; each side is read only if the row's value is on it."""
    if len(written) <= _MAX_COMPARED:
        return "(" + " or ".join(f"{column} == {value}" for value in written) + ")"
    middle = len(written) // 2
    pivot = written[middle]
    below, above = _halves(column, written[:middle]), _halves(column, written[middle:])
    return f"(({column} >= {pivot} or {below}) and ({column} < {pivot} or {above}))"
