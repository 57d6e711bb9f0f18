"""Proposes a filter that the words of a question imply, such as "from last week" or "by camera x100".

A proposal is in the answer and nowhere else: it is the client that sends it as `filter`, or does not. Periods are those
of the calendar in UTC; weeks begin on Monday.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from penstock.config import QuerySettings
from penstock.errors import ConfigError
from penstock.query.routing.phrases import PhraseLine, fold, pattern_of, read_phrases

SHIPPED_PROPOSALS = Path(__file__).with_name("proposal_words.txt")

FilterJson: TypeAlias = Mapping[str, object]

_ATTRIBUTE, _IN_YEAR = "attribute", "in-year"
_VALUE = r"[ :=]+([\w][\w.\-]*)"
_YEAR = r" ((?:19|20)\d\d)(?![\d\-])"
_PERIODS = (
    "today",
    "yesterday",
    *(f"{which}-{unit}" for unit in ("week", "month", "year") for which in ("this", "last")),
)


class FilterProposals:
    """The words of one or more files.

    Args:
        files: in the format that the shipped one explains.

    Raises:
        ConfigError: a file cannot be read or has an invalid line, whose number it says.
    """

    def __init__(self, files: Iterable[Path] = (SHIPPED_PROPOSALS,)) -> None:
        phrases_of: dict[str, list[str]] = {}
        for file in files:
            for line in read_phrases(file):
                phrases_of.setdefault(_name_of(line, file), []).extend(line.phrases)
        then = {_IN_YEAR: _YEAR} | {name: _VALUE for name in phrases_of if name.startswith(_ATTRIBUTE)}
        self._patterns = {name: pattern_of(words, then=then.get(name, "")) for name, words in phrases_of.items()}

    @classmethod
    def of_settings(cls, settings: QuerySettings) -> FilterProposals:
        """Reads the shipped file and that of the settings. Raises ConfigError as the constructor does."""
        return cls(file for file in (SHIPPED_PROPOSALS, settings.proposal_words) if file is not None)

    def propose(self, question: str, now_ms: int) -> FilterJson | None:
        """Returns the filter, as a request takes it; None if the question implies none.

        Args:
            question: in words.
            now_ms: milliseconds since the epoch, UTC.
        """
        # Values of attributes may differ by case, so that words are found in the folded question and taken from this.
        text = " ".join(question.split())
        conditions = dict(self._conditions(text, datetime.fromtimestamp(now_ms / 1000, UTC)))
        return conditions or None

    def _conditions(self, text: str, now: datetime) -> Iterator[tuple[str, object]]:
        folded = fold(text)
        for name, pattern in self._patterns.items():
            match = pattern.search(folded)
            if match is None:
                continue
            if name.startswith(_ATTRIBUTE):
                yield f"attributes.{name.split()[1]}", _as_written(match.group(1), text)
                continue
            begin, end = _year(int(match.group(1))) if name == _IN_YEAR else _period(name, now)
            yield "event_time", {"gte": _rfc3339(begin), "lt": _rfc3339(end)}


def _name_of(line: PhraseLine, file: Path) -> str:
    """Returns the period of a line, or `attribute` and a name.

    Raises:
        ConfigError: it is neither.
    """
    first, *others = line.names
    if first == _ATTRIBUTE and others:
        return f"{_ATTRIBUTE} {others[0]}"
    if first in (*_PERIODS, _IN_YEAR):
        return first
    raise ConfigError(
        f"{file}, line {line.number}: expected one of {', '.join((*_PERIODS, _IN_YEAR))}, or `attribute` and its name, "
        "before the colon"
    )


def _as_written(value: str, text: str) -> str:
    """Returns a value as the question has it, in its upper and lower case."""
    match = re.search(re.escape(value), text, re.IGNORECASE)
    return match.group() if match else value


def _period(name: str, now: datetime) -> tuple[datetime, datetime]:
    """Returns the beginning and the end of a period of the calendar."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if name == "today":
        return day, day + timedelta(days=1)
    if name == "yesterday":
        return day - timedelta(days=1), day
    which, unit = name.split("-")
    begin, end = _unit_around(unit, day)
    return _unit_around(unit, begin - timedelta(days=1)) if which == "last" else (begin, end)


def _unit_around(unit: str, day: datetime) -> tuple[datetime, datetime]:
    """Returns the beginning and the end of the week, month or year that holds a day."""
    if unit == "week":
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=7)
    if unit == "month":
        first = day.replace(day=1)
        return first, (first + timedelta(days=31)).replace(day=1)
    return _year(day.year)


def _year(year: int) -> tuple[datetime, datetime]:
    return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
