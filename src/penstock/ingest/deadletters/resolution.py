"""What has become of dead letters since they were written: each is held against the row of its asset.

A dead letter is resolved once its asset's row stands for the same event or a newer one. That is the order that the
writer goes by, so that a resolved one would change nothing if it were sent again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple, Protocol

from penstock.broker.base import DeadLetter
from penstock.broker.deadletters import DeadLetterFilter
from penstock.broker.wire import parse_record
from penstock.errors import PenstockError, UsageError
from penstock.records import AssetRow, Event, Modality, Outcome, Position, Record, Version

_MOST_LETTERS = 500  # whose rows are asked for at once
_MOST_BYTES = 32 * 1024 * 1024  # of values that wait meanwhile
_STAND_IN = b"\0"  # for a value that is stashed: what names an asset is seldom in it


class ResolutionStatus(StrEnum):
    """What has become of the event of a dead letter."""

    OPEN = "open"  # nothing: its asset has no row, or an older one
    INDEXED = "indexed"
    DELETED = "deleted"  # it was a tombstone, and has done its work
    SUPERSEDED = "superseded"  # its asset's row is newer, that of a tombstone included
    FAILED_AGAIN = "failed_again"  # there is a newer dead letter of the same event
    SENT = "sent"  # replayed, and not waited for
    WAITING = "waiting"  # replayed, but not settled in time
    NOT_SENT = "not_sent"  # it cannot be replayed
    UNCLEAR = "unclear"  # replayed and committed, but neither a row nor a dead letter tells of it


RESOLVED = frozenset({ResolutionStatus.INDEXED, ResolutionStatus.DELETED, ResolutionStatus.SUPERSEDED})


@dataclass(frozen=True, slots=True)
class Resolution:
    """How things stand with the event of a dead letter; small, without its value.

    Attributes:
        letter: position of the dead letter.
        origin: where the event first was.
        key: its Kafka key.
        reason: why it was dead-lettered.
        asset_id: None if the event cannot be understood: it belongs to no asset.
        version: how old the event is.
        fate, detail: what has become of it, and more on that in words.
        replayed_to: where its replay stands; None if it was not sent.
    """

    letter: Position
    origin: Position
    key: bytes | None
    reason: str
    asset_id: str | None
    version: Version
    status: ResolutionStatus = ResolutionStatus.OPEN
    detail: str = ""
    replayed_to: Position | None = None


@dataclass(frozen=True, slots=True)
class Resolver:
    """Tells what has become of dead letters.

    Attributes:
        topics: the modality of each topic.
        tenant: of an event that names none.
        asset_rows: the rows of these assets by id (`store.base.Store.asset_rows`).
        read_stash: the value at an address in the asset store; raises `PenstockError` if it is not there.
    """

    topics: Mapping[str, Modality]
    tenant: str
    asset_rows: Callable[[Sequence[str]], Mapping[str, AssetRow]]
    read_offloaded: Callable[[str], bytes] = field(repr=False)

    def resolve_all(self, letters: Iterable[DeadLetter]) -> Iterator[tuple[DeadLetter, Resolution]]:
        """Each letter with how things stand by its asset's row, in order, in bounded memory."""
        for batch in _batches(letters):
            yield from zip(batch, self.resolve([self._begin(letter) for letter in batch]), strict=True)

    def resolve(self, standings: Sequence[Resolution]) -> list[Resolution]:
        """The same, with fate and detail as the asset rows tell them now; unchanged where they tell nothing."""
        wanted = {one.asset_id for one in standings if one.asset_id is not None}
        rows = self.asset_rows(sorted(wanted)) if wanted else {}
        return [_judged(one, rows.get(one.asset_id or "")) for one in standings]

    def _begin(self, letter: DeadLetter) -> Resolution:
        event = self._event(letter)
        return Resolution(
            letter=letter.position,
            origin=letter.origin,
            key=letter.key,
            reason=letter.reason.value,
            asset_id=event.asset.id if event is not None else None,
            version=Version(letter.timestamp_ms, letter.origin.partition, letter.origin.offset),
        )

    def _event(self, letter: DeadLetter) -> Event | None:
        """As the lane understood it; None if it cannot be understood, or if its topic is none of ours."""
        if letter.origin.topic not in self.topics:
            return None
        if letter.offloaded_uri is None:
            return self._parse(letter, letter.value)
        try:  # a structured CloudEvent has its attributes in the value
            return self._parse(letter, _STAND_IN) or self._parse(letter, self.read_offloaded(letter.offloaded_uri))
        except PenstockError:
            return None

    def _parse(self, letter: DeadLetter, value: bytes | None) -> Event | None:
        record = Record(letter.origin, letter.key, value, letter.headers, letter.timestamp_ms)
        modality = self.topics[letter.origin.topic]
        # However large it is: a limit says whether an event can be indexed, not which asset it is about.
        parsed = parse_record(record, modality=modality, default_tenant=self.tenant, max_inline_bytes=sys.maxsize)
        return parsed if isinstance(parsed, Event) else None


# ---- choosing ----


class ReadLetters(Protocol):
    """Reads the dead-letter topic (`broker.deadletters.read_dead_letters`)."""

    def __call__(self, within: Callable[[int], range] = ..., /) -> Iterable[DeadLetter]: ...


@dataclass(frozen=True, slots=True)
class Selection:
    """Dead letters by partition and offset, one an event; and how far each partition was read to find them."""

    letters: frozenset[tuple[int, int]]
    ends: Mapping[int, int]


class _Newest(NamedTuple):
    """The newest dead letter of an event, and whether it is asked for. Compares by age."""

    failed_at_ms: int
    offset: int
    partition: int
    asked: bool


def select(
    read: ReadLetters,
    wanted: DeadLetterFilter,
    positions: Collection[tuple[int, int]] = (),
    show: Callable[[str, int, int | None], None] = lambda _what, _done, _total: None,
) -> Selection:
    """The newest dead letter of each event, if that is asked for. Reads the whole topic, keeps some numbers an event.

    Args:
        read: the dead-letter topic.
        wanted: which.
        positions: partition and offset of dead letters, of whose events only; none: of all.
        show: what is done, how far, and of how much, if that is known.

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
        one = _Newest(letter.failed_at_ms, offset, partition, wanted.matches(letter))
        newest[letter.origin] = max(one, newest.get(letter.origin, one))
        show("dead letters looked at", number, None)
    if missing := sorted(set(positions) - named.keys()):
        raise UsageError(f"there is no dead letter {missing[0][0]}@{missing[0][1]}; `deadletters list` shows them")
    origins = set(named.values()) if positions else newest.keys()
    asked = [newest[origin] for origin in origins if newest[origin].asked]
    return Selection(frozenset((one.partition, one.offset) for one in asked), ends)


def read_selected(read: ReadLetters, chosen: Selection) -> Iterator[DeadLetter]:
    """The chosen dead letters, with the values that were too much to keep."""
    offsets: dict[int, list[int]] = {}
    for partition, offset in chosen.letters:
        offsets.setdefault(partition, []).append(offset)
    ranges = {partition: range(min(found), max(found) + 1) for partition, found in offsets.items()}
    for letter in read(lambda partition: ranges.get(partition, range(0))):
        if (letter.position.partition, letter.position.offset) in chosen.letters:
            yield letter


# ---- judging ----


def _judged(one: Resolution, row: AssetRow | None) -> Resolution:
    if row is None:
        return one
    if row.version == one.version:
        return replace(
            one,
            status=ResolutionStatus.INDEXED if row.outcome is Outcome.INDEXED else ResolutionStatus.DELETED,
            detail="",
        )
    if not row.version.newer_than(one.version):
        return one
    did = "is newer" if row.outcome is Outcome.INDEXED else "is newer, and deleted the asset"
    return replace(one, status=ResolutionStatus.SUPERSEDED, detail=f"{row.origin} {did}")


def _batches(letters: Iterable[DeadLetter]) -> Iterator[list[DeadLetter]]:
    batch: list[DeadLetter] = []
    size_bytes = 0
    for letter in letters:
        batch.append(letter)
        size_bytes += len(letter.value or b"")
        if len(batch) >= _MOST_LETTERS or size_bytes >= _MOST_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch
