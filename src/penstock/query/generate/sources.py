"""Step 3, read: turns hits into sources, with the words that an answer may rest on.

    text      the passage; a short one with the passages before and after it, of a document those on its page
    page      its title, its description, and the words in it
    moment    its speech in order of time, a new paragraph after each pause; then the words in its frames
    image     its title, and the words in it

What has no words is no source, and what has a title alone is one only if few hits have more. Of texts that are nearly
the same only the best hit is one. A short passage has lost its context, for a question may be answered by the sentence
after it; a long one was cut at the end of a sentence and stands for itself. Neighbours are looked up by their ids, and
a source does without them if the store is late.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from penstock.analysis.folding import fold
from penstock.errors import PenstockError
from penstock.query.executor import BoundedExecutor
from penstock.query.generate.check.threads import in_thread
from penstock.query.generate.types import Source, TimedRange
from penstock.query.group import entry_ids
from penstock.query.types import Hit
from penstock.records import SLOTS, TIMED_COLLECTIONS, Access, Collection, Entry, entry_id
from penstock.store.base import EntrySearch

logger = logging.getLogger(__name__)

# Half of the largest passage in English letters. Below it, a passage is the end of its text, or a sentence or two of
# speech between pauses.
SHORT_CHARS = 400
# Of a source with its neighbours: what two short passages around a short one have together.
MAX_JOINED_CHARS = 3 * SHORT_CHARS
# Speech that continues within this time may be one sentence.
PAUSE_MS = 1_000
BREAK = "\n\n"  # what stands on either side is no sentence together
NEIGHBOURS_S = 0.2  # a lookup by key takes a few milliseconds
# Two texts are nearly the same if they share this much of their runs of three words (Broder's resemblance), and have
# the same numbers: the date in which two editions differ may be the answer.
SAME_TEXT = 0.9
_RUN = 3
_SPOKEN_OR_WRITTEN = (Collection.TEXT, Collection.SPEECH)


class SourceReader:
    """Reads the sources of answers.

    Args:
        store: has the neighbours of passages.
        executor: runs these calls.
    """

    def __init__(self, store: EntrySearch, executor: BoundedExecutor) -> None:
        self._store = store
        self._executor = executor

    async def read(self, hits: Sequence[Hit], *, access: Access, max_sources: int) -> tuple[Source, ...]:
        """Returns the sources that hits give, numbered from 1 in their order.

        Args:
            hits: best first.
            access: the entries that the answer may rest on.
            max_sources: maximum number of sources.
        """
        best = hits[: 2 * max_sources]  # some may have the same text
        neighbours = await self._neighbours(best, access)
        return await in_thread(lambda: compose_sources(best, neighbours, max_sources=max_sources))

    async def _neighbours(self, hits: Sequence[Hit], access: Access) -> Mapping[str, Entry]:
        """Returns the entries beside short passages, by id; none if the store is late or fails."""
        known = {id_ for hit in hits for id_ in entry_ids(hit)}
        beside = {id_ for hit in hits for entry in _entries(hit) if _is_short(entry) for id_ in _beside(entry)}
        unknown = sorted(beside - known)
        if not unknown:
            return {}
        try:
            return await self._executor.call(
                lambda timeout_s: self._store.entries(unknown, access=access, timeout_s=timeout_s),
                deadline_s=self._executor.clock() + NEIGHBOURS_S,
            )
        except (PenstockError, TimeoutError) as exc:
            logger.info("sources go without the passages beside them: %s", exc)
            return {}


def compose_sources(hits: Sequence[Hit], neighbours: Mapping[str, Entry], *, max_sources: int) -> tuple[Source, ...]:
    """Returns the sources that hits give, numbered from 1 in their order.

    Args:
        hits: best first.
        neighbours: entries beside those of hits, by id.
        max_sources: maximum number of sources.
    """
    words = [_words(hit, neighbours) for hit in hits]
    likenesses = [_Likeness.of(parts.text) for parts in words]
    distinct = [
        place
        for place, likeness in enumerate(likenesses)
        if likeness.runs and not any(likeness.is_same(other) for other in likenesses[:place])
    ]
    telling = [place for place in distinct if not words[place].title_only]
    titles = [place for place in distinct if words[place].title_only]
    places = sorted([*telling, *titles][:max_sources])
    return tuple(
        Source(number, hits[place], words[place].text, times=words[place].times)
        for number, place in enumerate(places, start=1)
    )


@dataclass(slots=True)
class _TextParts:
    """Text that grows by parts, with their times."""

    text: str = ""
    times: tuple[TimedRange, ...] = ()
    title_only: bool = False

    def add(self, words: str, *, between: str, span_ms: tuple[int, int] | None = None) -> None:
        words = words.strip()
        if not words:
            return
        start = len(self.text) + len(between) if self.text else 0
        self.text = f"{self.text}{between}{words}" if self.text else words
        if span_ms is not None:
            self.times = (*self.times, TimedRange(start, len(self.text), *span_ms))


def _words(hit: Hit, neighbours: Mapping[str, Entry]) -> _TextParts:
    """Returns the words of a hit, and the times of its parts."""
    parts = _TextParts()
    if hit.moment is not None:
        _add_spoken(parts, _entries(hit), neighbours)
        _add_shown(parts, _entries(hit))
    elif hit.entry.collection is Collection.TEXT:
        _add_written(parts, hit.entry, neighbours)
    elif hit.entry.text.strip():
        parts.add(hit.entry.title, between=BREAK)
        parts.add(hit.entry.text, between=BREAK)
    if not parts.text:
        parts.title_only = True
        parts.add(hit.entry.title, between=BREAK, span_ms=_span_ms(hit))
    return parts


def _add_written(parts: _TextParts, entry: Entry, neighbours: Mapping[str, Entry]) -> None:
    """Adds a passage of text and its neighbours, without the sentences that they repeat."""
    end_char = 0
    for passage in _with_neighbours(entry, neighbours):
        repeated = max(0, end_char - passage.start_char) if parts.text else 0
        parts.add(passage.text[repeated:], between=" ")
        end_char = passage.end_char


def _add_spoken(parts: _TextParts, members: Iterable[Entry], neighbours: Mapping[str, Entry]) -> None:
    spoken = {
        passage.id: passage
        for member in members
        if member.collection is Collection.SPEECH
        for passage in _with_neighbours(member, neighbours)
    }
    end_ms: int | None = None
    for passage in sorted(spoken.values(), key=lambda passage: (passage.start_ms, passage.end_ms)):
        continues = end_ms is not None and passage.start_ms - end_ms < PAUSE_MS
        parts.add(passage.text, between=" " if continues else BREAK, span_ms=(passage.start_ms, passage.end_ms))
        end_ms = passage.end_ms


def _add_shown(parts: _TextParts, members: Iterable[Entry]) -> None:
    """Adds the words in frames, each text once."""
    shown: set[str] = set()
    for member in members:
        folded = fold(member.text)
        if member.collection is not Collection.SPEECH and folded not in shown:
            shown.add(folded)
            parts.add(member.text, between=BREAK, span_ms=(member.start_ms, member.end_ms))


def _entries(hit: Hit) -> list[Entry]:
    return [hit.entry] if hit.moment is None else [member.entry for member in hit.moment.members]


def _span_ms(hit: Hit) -> tuple[int, int] | None:
    return None if hit.moment is None else (hit.moment.start_ms, hit.moment.end_ms)


# --- neighbours ------------------------------------------------------------------------------------------------------


def _is_short(entry: Entry) -> bool:
    return entry.collection in _SPOKEN_OR_WRITTEN and len(entry.text) < SHORT_CHARS


def _beside(entry: Entry) -> list[str]:
    """Returns the ids that the parts before and after an entry have, if there are any."""
    parts = [part for part in (entry.part - 1, entry.part + 1) if part >= 0]
    slots = [slot for slot in range(SLOTS) if entry.id == entry_id(entry.asset, entry.collection, entry.part, slot)]
    return [entry_id(entry.asset, entry.collection, part, slot) for slot in slots for part in parts]


def _with_neighbours(entry: Entry, neighbours: Mapping[str, Entry]) -> Iterator[Entry]:
    """Yields an entry and those beside it that are of its version, in the order of their parts."""
    if not _is_short(entry):
        yield entry
        return
    beside = [neighbours[id_] for id_ in _beside(entry) if id_ in neighbours]
    joined = [entry]
    for neighbour in beside:
        fits = sum(len(part.text) for part in joined) + len(neighbour.text) <= MAX_JOINED_CHARS
        if fits and neighbour.origin == entry.origin and neighbour.page == entry.page and not _pauses(entry, neighbour):
            joined.append(neighbour)
    yield from sorted(joined, key=lambda part: part.part)


def _pauses(entry: Entry, neighbour: Entry) -> bool:
    """Returns whether a long silence is between two passages of speech, so that they may have nothing in common."""
    if entry.collection not in TIMED_COLLECTIONS:
        return False
    first, second = sorted((entry, neighbour), key=lambda passage: passage.start_ms)
    return second.start_ms - first.end_ms > 10 * PAUSE_MS


# --- texts that are nearly the same ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Likeness:
    """The part of a text by which it is compared: its runs of words, and its words with digits in their order."""

    runs: frozenset[tuple[str, ...]]
    numbers: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> _Likeness:
        words = fold(text).split()
        starts = range(max(1, len(words) - _RUN + 1)) if words else ()
        numbers = tuple(word for word in words if any(char.isdigit() for char in word))
        return cls(frozenset(tuple(words[at : at + _RUN]) for at in starts), numbers)

    def is_same(self, other: _Likeness) -> bool:
        shared, all_runs = len(self.runs & other.runs), len(self.runs | other.runs)
        return self.numbers == other.numbers and shared >= SAME_TEXT * all_runs
