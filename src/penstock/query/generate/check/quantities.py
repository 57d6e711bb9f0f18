"""Compares the numbers of a claim with those of a passage."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.query.generate.check.matching import Matches
from penstock.query.generate.check.numbers import Quantity
from penstock.query.generate.check.statement import Statement

_MIN_REST = 0.5  # of the other words that must agree for another number to contradict
_MIN_ALIKE = 0.8
_MAX_SURPASSED = 2.0  # "over 300" is true of 412, and odd of 4,000


@dataclass(frozen=True, slots=True)
class NumberVerdict:
    """The result of comparing the numbers of a claim with a passage.

    Attributes:
        contradiction: in words; None: there is none.
        missing: numbers that the source does not have.
        elsewhere: numbers that the source has of something else.
    """

    contradiction: str | None = None
    missing: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()


def compare_numbers(claim: Statement, passage: Statement, context: Statement, matches: Matches) -> NumberVerdict:
    """Returns what a passage, or else its source, says about the numbers of a claim."""
    missing: list[str] = []
    elsewhere: list[str] = []
    used: set[int] = set()
    for quantity in claim.quantities:
        same = [other for other in passage.quantities if _agrees(quantity, other)]
        again = bool(same) and used.issuperset(other.start for other in same)
        used.update(other.start for other in same)
        if again and (left := _unused(claim, passage, matches)) is not None:
            return NumberVerdict(f"the source says “{left.text}”, not “{quantity.text}” again")
        if same:
            reason = _bound_reason(quantity, same)
            if reason is not None:
                return NumberVerdict(reason)
            rival = _of_another_thing(quantity, same, passage)
            if rival is not None:
                return NumberVerdict(f"the source says “{rival.text}” of it, not “{quantity.text}”")
            continue
        rival = _rival(quantity, passage, matches)
        if rival is not None:
            return NumberVerdict(f"the source says “{rival.text}”, not “{quantity.text}”")
        if quantity.loose:
            continue
        if any(_agrees(quantity, other) for other in context.quantities):
            elsewhere.append(quantity.text)
        else:
            missing.append(quantity.text)
    return NumberVerdict(None, tuple(missing), tuple(elsewhere))


def _unused(claim: Statement, passage: Statement, matches: Matches) -> Quantity | None:
    """Returns a number of the passage that a claim of nearly all its words does not have."""
    if matches.coverage < _MIN_ALIKE:
        return None
    left = [other for other in passage.quantities if not any(_agrees(mine, other) for mine in claim.quantities)]
    return left[0] if left else None


def _agrees(quantity: Quantity, other: Quantity) -> bool:
    if quantity.equals(other):
        return True
    if quantity.bound == ">" and quantity.comparable(other) and quantity.values and other.values:
        return quantity.values[0] <= other.values[0] <= _MAX_SURPASSED * quantity.values[0]
    return False


def _bound_reason(quantity: Quantity, same: list[Quantity]) -> str | None:
    """Returns why "less than 40" contradicts "more than 40"; None if the bounds agree with any of the same numbers."""
    if not quantity.bound or any(other.bound in ("", quantity.bound) for other in same):
        return None
    return f"the source says “{'more' if quantity.bound == '<' else 'less'} than {same[0].text}”"


def _of_another_thing(quantity: Quantity, same: list[Quantity], passage: Statement) -> Quantity | None:
    """Returns the number that the passage has of what the claim counts, if its own number counts other things."""
    if not quantity.heads or any(_share(quantity, other) for other in same):
        return None
    for other in passage.quantities:
        if other not in same and quantity.comparable(other) and quantity.heads[0] in other.heads[:2]:
            return other
    return None


def _share(quantity: Quantity, other: Quantity) -> bool:
    return bool(set(quantity.heads) & set(other.heads)) or bool(quantity.near & other.near)


def _rival(quantity: Quantity, passage: Statement, matches: Matches) -> Quantity | None:
    """Returns another number that the passage has in place of this one."""
    candidates = [other for other in passage.quantities if quantity.comparable(other) or _share(quantity, other)]
    if quantity.loose:
        candidates = [other for other in candidates if quantity.heads[:1] and quantity.heads[0] in other.heads[:2]]
    close = [
        other
        for other in candidates
        if _share(quantity, other) or (quantity.dimension and quantity.dimension == other.dimension)
    ]
    if close:
        return max(close, key=lambda other: len(quantity.near & other.near))
    return candidates[0] if candidates and not quantity.loose and matches.coverage >= _MIN_REST else None
