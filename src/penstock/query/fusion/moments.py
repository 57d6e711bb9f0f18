"""Moments: what was found of one recording close together in time, be it seen or said.

A moment grows around one entry, the best that is not part of another yet, and takes in what overlaps it or lies no
further from it than a gap. It does not grow on from what it took in: the passages of a talk follow each other without a
pause, so a chain of neighbours would end as one moment of an hour.

An entry without a place in time, or one that lasts longer than a moment may (a shot of a lecture that shows the same
for an hour), says something of its asset as a whole. It is no part of a moment, and stands alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from penstock.records import TIMED_COLLECTIONS, AssetRef, Collection, Entry, Position


@dataclass(frozen=True, slots=True)
class MomentRules:
    """What belongs together, milliseconds.

    Attributes:
        gap_ms: no more lies between an entry and the one that its moment grew around.
        longest_ms: no moment lasts longer.
    """

    gap_ms: int
    longest_ms: int


def group(entries: Sequence[Entry], rules: MomentRules) -> list[list[Entry]]:
    """Entries by the moment that they are part of; those that are part of none alone.

    Only entries of one asset, and of one version of it, are joined: those of a version that is just being replaced are
    of another recording.

    Args:
        entries: of recordings, the best first, each once. Their order decides what moments grow around.
        rules: see `MomentRules`.

    Returns:
        every entry once, in the order of the best of each group; within a group in the order of `entries`.
    """
    recordings: dict[tuple[AssetRef, Position], list[int]] = defaultdict(list)
    groups: list[list[int]] = []
    for number, entry in enumerate(entries):
        if _has_a_place(entry, rules):
            recordings[entry.asset, entry.origin].append(number)
        else:
            groups.append([number])
    for numbers in recordings.values():
        groups += _Recording(entries, numbers).moments(rules)
    return [[entries[number] for number in numbers] for numbers in sorted(groups)]


def span_ms(entries: Iterable[Entry]) -> tuple[int, int]:
    """From the first start to the last end."""
    starts, ends = zip(*((entry.start_ms, entry.end_ms) for entry in entries), strict=True)
    return min(starts), max(ends)


def has_times(entry: Entry) -> bool:
    """Whether the entry is a stretch of its recording. An asset without speech has one of `speech` that is none."""
    if entry.collection not in TIMED_COLLECTIONS or entry.end_ms < entry.start_ms:
        return False
    return entry.end_ms > 0 or entry.collection is Collection.FRAME or bool(entry.text.strip())


def _has_a_place(entry: Entry, rules: MomentRules) -> bool:
    return has_times(entry) and entry.end_ms - entry.start_ms <= rules.longest_ms


class _Recording:
    """The entries of one recording by the time at which they start, of which moments are taken out.

    Args:
        entries: of all recordings, the best first.
        numbers: which of them are this one's, in order.
    """

    def __init__(self, entries: Sequence[Entry], numbers: Sequence[int]) -> None:
        self._entries = entries
        self._numbers = numbers
        self._by_start = sorted(numbers, key=lambda number: (entries[number].start_ms, number))
        self._starts = [entries[number].start_ms for number in self._by_start]
        self._longest_ms = max(entries[number].end_ms - entries[number].start_ms for number in numbers)
        self._free = set(numbers)

    def moments(self, rules: MomentRules) -> list[list[int]]:
        """Every entry's number once."""
        made: list[list[int]] = []
        for best in self._numbers:
            if best in self._free:
                made.append(self._around(best, rules))
                self._free.difference_update(made[-1])
        return made

    def _around(self, best: int, rules: MomentRules) -> list[int]:
        """The better ones first, as long as the moment does not become too long."""
        taken = [best]
        start_ms, end_ms = self._entries[best].start_ms, self._entries[best].end_ms
        for number in self._near(self._entries[best], rules.gap_ms):
            entry = self._entries[number]
            longer = min(start_ms, entry.start_ms), max(end_ms, entry.end_ms)
            if number != best and longer[1] - longer[0] <= rules.longest_ms:
                taken.append(number)
                start_ms, end_ms = longer
        return taken

    def _near(self, best: Entry, gap_ms: int) -> list[int]:
        """Free entries no further away than the gap, the best first."""
        first = bisect_right(self._starts, best.start_ms - gap_ms - self._longest_ms - 1)
        last = bisect_right(self._starts, best.end_ms + gap_ms)
        return sorted(
            number
            for number in self._by_start[first:last]
            if number in self._free and self._entries[number].end_ms >= best.start_ms - gap_ms
        )
