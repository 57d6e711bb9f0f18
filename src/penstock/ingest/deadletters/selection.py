"""Selects dead letters, one an event: the newest, if a filter matches it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from penstock.broker.base import DeadLetter
from penstock.broker.deadletters import DeadLetterFilter
from penstock.errors import UsageError
from penstock.records import Position


class ReadDeadLetters(Protocol):
    """Reads the dead-letter topic (`broker.deadletters.read_dead_letters`)."""

    def __call__(self, within: Callable[[int], range] = ..., /) -> Iterable[DeadLetter]: ...


@dataclass(frozen=True, slots=True)
class Selection:
    """Selected dead letters.

    Attributes:
        letters: partition and offset of each, one an event.
        ends: the offset up to which each partition was read to find them.
    """

    letters: frozenset[tuple[int, int]]
    ends: Mapping[int, int]


class _Newest(NamedTuple):
    """The newest dead letter of an event, and whether the filter matches it. Compares by age."""

    failed_at_ms: int
    offset: int
    partition: int
    matches: bool


def select(
    read: ReadDeadLetters,
    letter_filter: DeadLetterFilter,
    positions: Collection[tuple[int, int]] = (),
    show: Callable[[str, int, int | None], None] = lambda _activity, _done, _total: None,
) -> Selection:
    """Selects the newest dead letter of each event that the filter matches.

    Reads the whole topic, and keeps a few numbers an event.

    Args:
        read: reads the dead-letter topic.
        letter_filter: the conditions.
        positions: partition and offset of dead letters, to select from their events only; none: from all.
        show: receives the present activity, how much of it is done, and the total if that is known.

    Raises:
        UsageError: there is no dead letter at one of the positions.
    """
    newest: dict[Position, _Newest] = {}
    named: dict[tuple[int, int], Position] = {}
    ends: dict[int, int] = {}
    for number, letter in enumerate(read(), 1):
        partition, offset = letter.position.partition, letter.position.offset
        ends[partition] = offset + 1
        if (partition, offset) in positions:
            named[partition, offset] = letter.origin
        candidate = _Newest(letter.failed_at_ms, offset, partition, letter_filter.matches(letter))
        newest[letter.origin] = max(candidate, newest.get(letter.origin, candidate))
        show("dead letters read", number, None)
    if missing := sorted(set(positions) - named.keys()):
        raise UsageError(f"there is no dead letter {missing[0][0]}@{missing[0][1]}; `deadletters list` shows them")
    origins = set(named.values()) if positions else newest.keys()
    selected = [newest[origin] for origin in origins if newest[origin].matches]
    return Selection(frozenset((letter.partition, letter.offset) for letter in selected), ends)


def read_selected(read: ReadDeadLetters, selection: Selection) -> Iterator[DeadLetter]:
    """Yields the selected dead letters with their values, which were too large to keep."""
    offsets: dict[int, list[int]] = {}
    for partition, offset in selection.letters:
        offsets.setdefault(partition, []).append(offset)
    ranges = {partition: range(min(selected), max(selected) + 1) for partition, selected in offsets.items()}
    for letter in read(lambda partition: ranges.get(partition, range(0))):
        if (letter.position.partition, letter.position.offset) in selection.letters:
            yield letter
