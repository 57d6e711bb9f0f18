"""Reads numbers from words: digits and number words, with their units and what they count, dates and times of day."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import regex

from penstock.query.generate.check.number_words import MONTHS, ORDINALS, SCALES, UNITS, cjk_number, number_words
from penstock.query.generate.check.words import Word

_DIGITS = regex.compile(r"\p{Nd}")
_ORDINAL_DIGITS = regex.compile(r"(\d+)(?:st|nd|rd|th)")
_WITH_UNIT = regex.compile(r"(\d+(?:\.\d+)?)(\p{L}+)")
_ISO_DATE = regex.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})")
_DOTTED_DATE = regex.compile(r"(\d{1,2})([./])(\d{1,2})\.?\2(\d{4})")
_CLOCK = regex.compile(r"(\d{1,2}):(\d{2})")
_YEARS = range(1000, 2200)
_OVER_WORDS = "over above more least exceeds exceeding beyond uber mindestens plus mas"
_UNDER_WORDS = "under below less fewer most almost nearly unter hochstens moins menos"
_OVER, _UNDER = frozenset(_OVER_WORDS.split()), frozenset(_UNDER_WORDS.split())
_TO = frozenset({"to", "or", "and", "bis", "oder", "a", "ou", "o"})
_SKIPPED = frozenset({"of", "full", "whole", "de", "more", "other", "good"})
_ARTICLES = _SKIPPED | {"a", "an", "the"}
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of a sentence.

    Attributes:
        values: in the base unit of its dimension; two where the digits can be read in two ways.
        dimension: of its unit, such as `time` or `%`; "" without a unit.
        heads: the stems of the words behind it in its clause, of which the first is mostly what it counts.
        near: the stems around it in its clause.
        bound: `>` for "more than", `<` for "less than".
        date: year, month and day, as far as they are given; None: it is no date.
        start, end: its range among the words of the sentence.
        text: as it is written.
        loose: whether it may be no number, such as "one".
    """

    values: tuple[float, ...]
    dimension: str
    start: int
    end: int
    text: str
    heads: tuple[str, ...] = ()
    near: frozenset[str] = frozenset()
    bound: str = ""
    date: tuple[int | None, int | None, int | None] | None = None
    loose: bool = False

    def equals(self, other: Quantity) -> bool:
        """Returns whether both may be the same amount or date."""
        if self.date is not None and other.date is not None:
            pairs = list(zip(self.date, other.date, strict=True))
            shared = [(mine, theirs) for mine, theirs in pairs if mine is not None and theirs is not None]
            return bool(shared) and all(mine == theirs for mine, theirs in shared)
        if self.date is not None or other.date is not None:
            dated, plain = (self, other) if self.date is not None else (other, self)
            return dated.date is not None and not plain.dimension and dated.date[0] in plain.values
        if not self.comparable(other):
            return False
        return any(
            abs(mine - theirs) <= _TOLERANCE * max(1.0, abs(mine)) for mine in self.values for theirs in other.values
        )

    def comparable(self, other: Quantity) -> bool:
        """Returns whether both have the same dimension, or one has none."""
        return self.dimension == other.dimension or not self.dimension or not other.dimension


def read_quantities(words: Sequence[Word], language: str | None = None) -> list[Quantity]:
    """Returns the numbers of the words of a sentence, in order."""
    values = number_words(language)
    quantities: list[Quantity] = []
    at = 0
    while at < len(words):
        quantity = _date(words, at) or _clock(words, at) or _amount(words, at, values)
        if quantity is None:
            at += 1
            continue
        quantities.append(quantity)
        at = max(quantity.end, at + 1)
    return [_placed(quantity, words) for quantity in _shared_units(quantities, words)]


def _placed(quantity: Quantity, words: Sequence[Word]) -> Quantity:
    """Returns a quantity with the words around it."""
    clause = words[quantity.start].clause
    behind = [word for word in words[quantity.end : quantity.end + 4] if word.clause == clause]
    ahead = [word for word in words[max(0, quantity.start - 4) : quantity.start] if word.clause == clause]
    heads = tuple(word.stem for word in behind if word.weight)
    near = frozenset(word.stem for word in (*ahead, *behind) if word.weight)
    before = {word.folded for word in ahead[-3:]}
    bound = ">" if before & _OVER else "<" if before & _UNDER else ""
    return replace(quantity, heads=heads, near=near, bound=bound)


def _shared_units(quantities: list[Quantity], words: Sequence[Word]) -> list[Quantity]:
    """Gives the first of "nine or ten minutes" the unit of the second."""
    for index, (first, second) in reversed(list(enumerate(itertools.pairwise(quantities)))):
        between = [word.folded for word in words[first.end : second.start]]
        joined = all(word in _TO for word in between) and second.start - first.end <= 1
        if joined and second.dimension and not first.dimension and first.date is None:
            factor = _factor_of(second, words)
            quantities[index] = replace(
                first, dimension=second.dimension, values=tuple(value * factor for value in first.values)
            )
    return quantities


def _factor_of(quantity: Quantity, words: Sequence[Word]) -> float:
    for word in words[quantity.start : quantity.end]:
        unit = UNITS.get(word.folded) or UNITS.get(word.stem)
        if unit is not None:
            return unit[1]
    return 1.0


# --- dates and times -------------------------------------------------------------------------------------------------


def _date(words: Sequence[Word], at: int) -> Quantity | None:
    text = words[at].text
    if (match := _ISO_DATE.fullmatch(text)) is not None:
        return _dated(words, at, at + 1, (int(match[1]), int(match[2]), int(match[3])))
    if (match := _DOTTED_DATE.fullmatch(text)) is not None and match[2] == ".":
        return _dated(words, at, at + 1, (int(match[4]), int(match[3]), int(match[1])))
    month = MONTHS.get(words[at].folded)
    if month is not None and (words[at].text[:1].isupper() or not words[at].folded.startswith(("may", "mar"))):
        return _from_month(words, at, month)
    day = _day(words[at])
    following = at + 2 if at + 1 < len(words) and words[at + 1].folded in ("of", "de") else at + 1
    if day is not None and following < len(words) and (month := MONTHS.get(words[following].folded)) is not None:
        year, end = _year(words, following + 1)
        return _dated(words, at, end, (year, month, day))
    return None


def _from_month(words: Sequence[Word], at: int, month: int) -> Quantity | None:
    """Reads "January", "January 2024", "January 3" and "January 3, 2024"."""
    day = _day(words[at + 1]) if at + 1 < len(words) else None
    year, end = _year(words, at + (2 if day is not None else 1))
    if day is None and year is None and words[at].folded in ("may", "march", "mai", "mars"):
        return None
    return _dated(words, at, end, (year, month, day))


def _dated(words: Sequence[Word], start: int, end: int, date: tuple[int | None, int | None, int | None]) -> Quantity:
    text = " ".join(word.text for word in words[start:end])
    return Quantity(() if date[0] is None else (float(date[0]),), "", start, end, text, date=date)


def _day(word: Word) -> int | None:
    match = _ORDINAL_DIGITS.fullmatch(word.folded) or regex.fullmatch(r"(\d{1,2})", word.folded)
    if match is None:
        return int(ORDINALS[word.folded]) if word.folded in ORDINALS and ORDINALS[word.folded] <= 31 else None
    return int(match[1]) if 1 <= int(match[1]) <= 31 else None


def _year(words: Sequence[Word], at: int) -> tuple[int | None, int]:
    """Returns the year at a place, if there is one, and the place behind it."""
    if at < len(words) and regex.fullmatch(r"\d{4}", words[at].folded) and int(words[at].folded) in _YEARS:
        return int(words[at].folded), at + 1
    return None, at


def _clock(words: Sequence[Word], at: int) -> Quantity | None:
    """Reads times of day, as minutes: 16:30, 4 p.m., 4:30 pm."""
    match = _CLOCK.fullmatch(words[at].text)
    half = words[at + 1].folded if at + 1 < len(words) else ""
    end = at + 1
    if half in ("pm", "am"):
        end = at + 2
    elif half in ("p", "a") and at + 2 < len(words) and words[at + 2].folded == "m":
        half, end = half + "m", at + 3
    else:
        half = ""
    if match is not None:
        hour, minute = int(match[1]), int(match[2])
    elif half and regex.fullmatch(r"\d{1,2}", words[at].folded):
        hour, minute = int(words[at].folded), 0
    else:
        return None
    hour = hour % 12 + (12 if half == "pm" else 0) if half else hour
    text = " ".join(word.text for word in words[at:end])
    return Quantity((hour * 60.0 + minute,), "time of day", at, end, text)


# --- amounts ---------------------------------------------------------------------------------------------------------


def _amount(words: Sequence[Word], at: int, number_values: Mapping[str, float]) -> Quantity | None:
    """Reads a number with its unit: `1,000 kg`, "three and a half hours", "half an hour", `$5`, `30 %`."""
    word = words[at]
    if (halved := _and_a_half(words, at)) is not None:
        return halved
    values: tuple[float, ...] = ()
    end, dimension, factor = at, "", 1.0
    if (match := _WITH_UNIT.fullmatch(word.folded)) is not None and match[2] in UNITS:
        values, end = (float(match[1]),), at + 1
        dimension, factor = UNITS[match[2]]
    elif _ORDINAL_DIGITS.fullmatch(word.folded) or word.folded in ORDINALS:
        match = _ORDINAL_DIGITS.fullmatch(word.folded)
        value = float(match[1]) if match is not None else float(ORDINALS[word.folded])
        return Quantity((value,), "ordinal", at, at + 1, word.text, loose=match is None)
    else:
        values, end = _number(words, at, number_values)
    if not values:
        return None
    start = at
    if not dimension:
        start, end, dimension, factor = _unit(words, start, end)
    text = " ".join(word.text for word in words[start:end])
    loose = end - at == 1 and word.folded in _LOOSE and not dimension
    return Quantity(tuple(value * factor for value in values), dimension, start, end, text, loose=loose)


def _and_a_half(words: Sequence[Word], at: int) -> Quantity | None:
    """Reads "an hour and a half"."""
    if words[at].folded not in UNITS or [word.folded for word in words[at + 1 : at + 4]] != ["and", "a", "half"]:
        return None
    dimension, factor = UNITS[words[at].folded]
    text = " ".join(word.text for word in words[at : at + 4])
    return Quantity((1.5 * factor,), dimension, at, at + 4, text)


_LOOSE = frozenset({"one", "ein", "eine", "un", "une", "uno", "una", "um", "uma", "single", "half", "quarter"})


def _unit(words: Sequence[Word], start: int, end: int) -> tuple[int, int, str, float]:
    """Returns the range of a number with its unit, the dimension, and the factor to the base unit."""
    at = end
    parted = words[end - 1].folded in ("half", "quarter", "dozen")  # of an hour
    while (
        at < len(words)
        and at - end < 2
        and words[at].folded in (_ARTICLES if parted else _SKIPPED)
        and words[at].clause == words[start].clause
    ):
        at += 1
    if at < len(words) and (unit := UNITS.get(words[at].folded) or UNITS.get(words[at].stem)) is not None:
        behind = at + 1
        if unit[0] == "°" and behind < len(words) and words[behind].folded in ("celsius", "c", "fahrenheit", "f"):
            behind += 1
        return start, behind, *unit
    if start > 0 and words[start - 1].text in ("$", "€", "£", "¥"):
        return start - 1, end, *UNITS[words[start - 1].text]
    return start, end, "", 1.0


def _number(words: Sequence[Word], at: int, number_values: Mapping[str, float]) -> tuple[tuple[float, ...], int]:
    """Returns the values of the number that begins here, and the place behind it; no values if none does."""
    word = words[at]
    if _DIGITS.match(word.text) is not None:
        values = _digits(word.text)
        if values and at + 1 < len(words) and words[at + 1].folded in SCALES:
            return tuple(value * SCALES[words[at + 1].folded] for value in values), at + 2
        return values, at + 1
    if word.cjk and (value := cjk_number(word.text)) is not None:
        return (value,), at + 1
    return _in_words(words, at, number_values)


def _digits(text: str) -> tuple[float, ...]:
    """Returns the values of digits: 1,000 and 1 000 are thousands, 1.000 may be either, 1,5 is one and a half."""
    plain = regex.sub(r"[\s'’_\u00a0\u202f]", "", text)
    if regex.fullmatch(r"\p{Nd}+", plain):
        return (float(plain),)
    if regex.fullmatch(r"\p{Nd}{1,3}(?:,\p{Nd}{3})+(?:\.\p{Nd}+)?", plain):
        value = float(plain.replace(",", ""))
        return (
            (value,) if plain.count(",") > 1 or "." in plain or plain[0] != "0" else (float(plain.replace(",", ".")),)
        )
    if regex.fullmatch(r"\p{Nd}{1,3}(?:\.\p{Nd}{3})+(?:,\p{Nd}+)?", plain):
        grouped = float(plain.replace(".", "").replace(",", "."))
        return (grouped,) if plain.count(".") > 1 or "," in plain else (float(plain), grouped)
    if regex.fullmatch(r"\p{Nd}+[.,]\p{Nd}+", plain):
        return (float(plain.replace(",", ".")),)
    return ()


def _in_words(words: Sequence[Word], at: int, number_values: Mapping[str, float]) -> tuple[tuple[float, ...], int]:
    """Reads number words: "two hundred and fifty", "half a million", "three and a half", "a dozen"."""
    total, current, end, last = 0.0, None, at, at
    while end < len(words) and words[end].clause == words[at].clause:
        folded = words[end].folded
        if folded in number_values:
            value = number_values[folded]
            if value < 1 and current is not None and words[end - 1].folded not in ("a", "and"):
                break
            if (
                value >= 1
                and current is not None
                and not (current % 100 == 0 and value < 100)
                and not (current % 10 == 0 and current % 100 >= 20 and value < 10)
            ):
                break
            current = (current or 0.0) + value
        elif folded in SCALES and (current is not None or folded in ("hundred", "thousand", "million", "dozen")):
            scale = SCALES[folded]
            current = (1.0 if current is None else current) * scale
            if scale >= 1000:
                total, current = total + current, 0.0
        elif folded in ("and", "a", "an") and end > at:
            ahead = words[end + 1].folded if end + 1 < len(words) else ""
            if ahead not in number_values and ahead not in SCALES and ahead not in ("a", "half"):
                break
            if folded == "and" and ahead in number_values and (current or 0.0) % 100 and ahead != "half":
                break
            if ahead == "a" and (end + 2 >= len(words) or words[end + 2].folded not in ("half", "quarter")):
                break
            end += 1
            continue
        else:
            break
        end += 1
        last = end
    if current is None:
        return (), at
    return (total + current,), last
