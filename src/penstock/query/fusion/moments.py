"""Moments, a part of step 5: entries of one asset that are close together in time, whether spoken or shown.

A moment grows around one entry, the best that is not part of another moment yet. It takes in entries that overlap it or
are at most a gap away from it. It does not grow further from these: the passages of a talk follow each other without a
pause, so a chain of neighbours would become one moment of an hour.

An entry without a time, or one that lasts longer than a moment may (a shot of a lecture that shows the same for an
hour), describes its asset as a whole. It is part of no moment, and becomes a hit alone.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence

from penstock.query.fusion.base import Candidate, MomentRules, merge
from penstock.query.types import Hit, Moment, MomentMember, Rankings
from penstock.records import TIMED_COLLECTIONS, Collection, Entry

# A member of a moment is scored nearly as high as the best one by a channel if it has this share of the best score,
SCORE_RATIO = 0.95
# or this share of the way from the last score of the channel to the best one.
RELATIVE_GAIN = 0.8
# Up to this number of entries of one version a loop over all is faster than a search among their starts.
FEW_ENTRIES = 64


def group_moments(candidates: Sequence[Candidate], rules: MomentRules) -> list[Candidate]:
    """Returns the candidates with those of timed collections grouped into moments.

    Args:
        candidates: single entries. Those of timed collections are in the order in which moments grow around them.
        rules: the limits of a moment.
    """
    timed = {candidate.best.id: candidate for candidate in candidates if candidate.best.collection in TIMED_COLLECTIONS}
    others = [candidate for candidate in candidates if candidate.best.collection not in TIMED_COLLECTIONS]
    groups = group([candidate.best for candidate in timed.values()], rules)
    return [*others, *(merge([timed[entry.id] for entry in entries]) for entries in groups)]


def compose_hit(candidate: Candidate, score: float, rankings: Rankings) -> Hit:
    """Returns the hit of an entry or a moment; the scores of `rankings` decide where a moment starts and ends."""
    moment = _moment(candidate.members, rankings) if has_times(candidate.best) else None
    return Hit(candidate.best, score, candidate.found_by, moment, promoted=candidate.promoted)


def _moment(members: Sequence[MomentMember], rankings: Rankings) -> Moment:
    start_ms, end_ms = span_ms(member.entry for member in _leading(members, rankings))
    frames = [member.entry for member in members if member.entry.collection is Collection.FRAME]
    in_time = sorted(members, key=lambda member: (member.entry.start_ms, member.entry.end_ms, member.entry.id))
    return Moment(start_ms, end_ms, tuple(in_time), frames[0] if frames else None)


def _leading(members: Sequence[MomentMember], rankings: Rankings) -> list[MomentMember]:
    """Returns the best member, and those that one of its channels scored nearly as high: the range to play.

    In a small index every shot around the best one is found, without any resemblance to the query; and for some models
    any two images have a similarity of 0.7. So what counts is how far a score is above the last one of its channel.
    """
    best, *others = members
    enough = {
        hit.channel: min(SCORE_RATIO * hit.score, floor + RELATIVE_GAIN * (hit.score - floor))
        for hit in best.found_by
        if hit.score > 0
        for floor in (max(0.0, rankings.by_channel[hit.channel][-1].score),)
    }
    similar = [
        member for member in others if any(hit.score >= enough.get(hit.channel, math.inf) for hit in member.found_by)
    ]
    return [best, *similar]


# --- grouping --------------------------------------------------------------------------------------------------------


def group(entries: Sequence[Entry], rules: MomentRules) -> list[list[Entry]]:
    """Returns entries by the moment that they are part of; those that are part of none alone.

    Only entries of one version of one asset are joined: a version that is just being replaced has other media.

    Args:
        entries: of timed collections, best first, each once. Their order decides what moments grow around.
        rules: the limits of a moment.

    Returns:
        every entry once, the groups in the order of their best entries, and each group in the order of `entries`.
    """
    return [[entries[number] for number in numbers] for numbers in group_numbers(entries, rules)]


def group_numbers(entries: Sequence[Entry], rules: MomentRules, *, few: int = FEW_ENTRIES) -> list[list[int]]:
    """Returns what `group` does, with each entry as its index in `entries`.

    Args:
        entries, rules: as in `group`.
        few: the number of entries of one version up to which they are compared in a loop; the result is the same.
    """
    by_version: dict[tuple[str, str, str, str, int, int], list[int]] = defaultdict(list)
    groups: list[list[int]] = []
    for number, entry in enumerate(entries):
        if entry.end_ms - entry.start_ms <= rules.max_ms and has_times(entry):
            asset, origin = entry.asset, entry.origin  # their fields hash much faster than the records
            version = asset.tenant, asset.topic, asset.key, origin.topic, origin.partition, origin.offset
            by_version[version].append(number)
        else:
            groups.append([number])
    for numbers in by_version.values():
        if len(numbers) == 1:
            groups.append(numbers)
        elif len(numbers) <= few:
            groups += _group_few(
                [(number, entries[number].start_ms, entries[number].end_ms) for number in numbers], rules
            )
        else:
            groups += _Timeline(entries, numbers).moments(rules)
    return sorted(groups)


def span_ms(entries: Iterable[Entry]) -> tuple[int, int]:
    """Returns the first start and the last end, milliseconds."""
    starts, ends = zip(*((entry.start_ms, entry.end_ms) for entry in entries), strict=True)
    return min(starts), max(ends)


def has_times(entry: Entry) -> bool:
    """Returns whether the entry covers a range of time. The `speech` entry of an asset without speech does not."""
    if entry.collection not in TIMED_COLLECTIONS or entry.end_ms < entry.start_ms:
        return False
    return entry.end_ms > 0 or entry.collection is Collection.FRAME or bool(entry.text.strip())


def _group_few(free: list[tuple[int, int, int]], rules: MomentRules) -> list[list[int]]:
    """Returns the moments of the entries of one version, each as its number, start and end, best first."""
    moments: list[list[int]] = []
    while free:
        best, start_ms, end_ms = free[0]
        earliest_ms, latest_ms = start_ms - rules.max_gap_ms, end_ms + rules.max_gap_ms
        moment, rest = [best], []
        for item in free[1:]:
            number, starts_ms, ends_ms = item
            longer = min(start_ms, starts_ms), max(end_ms, ends_ms)
            if starts_ms <= latest_ms and ends_ms >= earliest_ms and longer[1] - longer[0] <= rules.max_ms:
                moment.append(number)
                start_ms, end_ms = longer
            else:
                rest.append(item)
        moments.append(moment)
        free = rest
    return moments


class _Timeline:
    """The many entries of one version of an asset by their start, from which moments are taken.

    Args:
        entries: of all assets, best first.
        numbers: the indices of those of this asset, in order.
    """

    def __init__(self, entries: Sequence[Entry], numbers: Sequence[int]) -> None:
        self._entries = entries
        self._numbers = numbers
        self._by_start = sorted(numbers, key=lambda number: (entries[number].start_ms, number))
        self._starts = [entries[number].start_ms for number in self._by_start]
        self._longest_ms = max(entries[number].end_ms - entries[number].start_ms for number in numbers)
        self._free = set(numbers)

    def moments(self, rules: MomentRules) -> list[list[int]]:
        """Returns the number of every entry once, grouped."""
        moments: list[list[int]] = []
        for best in self._numbers:
            if best in self._free:
                moments.append(self._around(best, rules))
                self._free.difference_update(moments[-1])
        return moments

    def _around(self, best: int, rules: MomentRules) -> list[int]:
        """Adds the better entries first, as long as the moment does not become too long."""
        members = [best]
        start_ms, end_ms = self._entries[best].start_ms, self._entries[best].end_ms
        for number in self._near(self._entries[best], rules.max_gap_ms):
            entry = self._entries[number]
            longer = min(start_ms, entry.start_ms), max(end_ms, entry.end_ms)
            if number != best and longer[1] - longer[0] <= rules.max_ms:
                members.append(number)
                start_ms, end_ms = longer
        return members

    def _near(self, best: Entry, gap_ms: int) -> list[int]:
        """Returns free entries within the gap, best first."""
        first = bisect_right(self._starts, best.start_ms - gap_ms - self._longest_ms - 1)
        last = bisect_right(self._starts, best.end_ms + gap_ms)
        return sorted(
            number
            for number in self._by_start[first:last]
            if number in self._free and self._entries[number].end_ms >= best.start_ms - gap_ms
        )
