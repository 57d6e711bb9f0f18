"""Finds out what became of dead letters since they were written, from the rows of their assets.

A dead letter is resolved once its asset's row stands for the same event or a newer one. That is the order that the
writer applies, so a resolved one would change nothing if it were produced again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

from penstock.broker.base import DeadLetter
from penstock.broker.record_parser import RecordParser
from penstock.broker.replay_keys import NO_KEYS
from penstock.config import Settings
from penstock.errors import PenstockError
from penstock.records import AssetRow, Event, Modality, Outcome, Position, Record, Rejected, Version

_MAX_LETTERS = 500  # of one query for asset rows
_MAX_BYTES = 32 * 1024 * 1024  # of the values that wait for it
_STAND_IN = b"\0"  # for an offloaded value, which seldom holds what identifies an asset


class ResolutionStatus(StrEnum):
    """The states of the event of a dead letter."""

    OPEN = "open"  # its asset has no row, or an older one
    INDEXED = "indexed"
    DELETED = "deleted"  # it was a tombstone, and its asset is deleted
    SUPERSEDED = "superseded"  # its asset's row is newer, also if it is that of a tombstone
    PURGED = "purged"  # its contents were removed, and nothing of it can be replayed
    FAILED_AGAIN = "failed_again"  # there is a newer dead letter of the same event
    SENT = "sent"  # replayed, and not waited for
    WAITING = "waiting"  # replayed, but not settled in time
    NOT_SENT = "not_sent"  # it cannot be replayed
    UNCLEAR = "unclear"  # replayed and committed, but neither a row nor a dead letter shows it


RESOLVED = frozenset(
    {ResolutionStatus.INDEXED, ResolutionStatus.DELETED, ResolutionStatus.SUPERSEDED, ResolutionStatus.PURGED}
)


@dataclass(frozen=True, slots=True)
class Resolution:
    """The outcome of the event of one dead letter since then; small, without its value.

    Attributes:
        letter: position of the dead letter.
        origin: the position at which the event was first produced.
        key: its Kafka key.
        reason: why it was dead-lettered.
        asset_id: None if the event cannot be parsed: it belongs to no asset.
        version: the event's place in the order of its asset's events.
        status, detail: what became of it, and more on that in words.
        replayed_to: the position of its replay; None if it was not sent.
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
    """Compares dead letters with the rows of their assets.

    Attributes:
        topics: the modality of each topic.
        parse: parses a record as a lane does, of any size.
        asset_rows: the rows of these assets by id (`store.base.EntryWriter.asset_rows`).
        read_offloaded: the value at an address in the asset store; raises `PenstockError` if it is not there.
    """

    topics: Mapping[str, Modality]
    parse: Callable[[Record], Event | Rejected]
    asset_rows: Callable[[Sequence[str]], Mapping[str, AssetRow]]
    read_offloaded: Callable[[str], bytes] = field(repr=False)

    @classmethod
    def of(
        cls,
        settings: Settings,
        asset_rows: Callable[[Sequence[str]], Mapping[str, AssetRow]],
        read_offloaded: Callable[[str], bytes],
    ) -> Self:
        """Returns the resolver of these settings. Dead letters have no headers of a replay, so it needs no key."""
        parse = RecordParser.of(settings, NO_KEYS).of_any_size()
        return cls(settings.kafka.topics(), parse, asset_rows, read_offloaded)

    def resolve_all(self, letters: Iterable[DeadLetter]) -> Iterator[tuple[DeadLetter, Resolution]]:
        """Yields each letter with its resolution by its asset's row, in order, in bounded memory."""
        for batch in _batches(letters):
            yield from zip(batch, self.resolve([self._unresolved(letter) for letter in batch]), strict=True)

    def resolve(self, resolutions: Sequence[Resolution]) -> list[Resolution]:
        """Returns the same with status and detail by the present asset rows; unchanged if these show nothing."""
        asset_ids = {resolution.asset_id for resolution in resolutions if resolution.asset_id is not None}
        rows = self.asset_rows(sorted(asset_ids)) if asset_ids else {}
        return [_resolved(resolution, rows.get(resolution.asset_id or "")) for resolution in resolutions]

    def _unresolved(self, letter: DeadLetter) -> Resolution:
        event = self.event(letter)
        return Resolution(
            letter=letter.position,
            origin=letter.origin,
            key=letter.key,
            reason=letter.reason.value,
            asset_id=event.asset.id if event is not None else None,
            version=Version(letter.timestamp_ms, letter.origin.partition, letter.origin.offset),
            status=ResolutionStatus.PURGED if letter.purged else ResolutionStatus.OPEN,
        )

    def event(self, letter: DeadLetter) -> Event | None:
        """Returns the event as the lane parsed it; None if it cannot be parsed or its topic is not configured."""
        if letter.purged or letter.origin.topic not in self.topics:
            return None
        if letter.offloaded_uri is None:
            return self._parse(letter, letter.value)
        try:  # a structured CloudEvent has its attributes in the value
            return self._parse(letter, _STAND_IN) or self._parse(letter, self.read_offloaded(letter.offloaded_uri))
        except PenstockError:
            return None

    def _parse(self, letter: DeadLetter, value: bytes | None) -> Event | None:
        record = Record(letter.origin, letter.key, value, letter.headers, letter.timestamp_ms)
        parsed = self.parse(record)
        return parsed if isinstance(parsed, Event) else None


def _resolved(resolution: Resolution, row: AssetRow | None) -> Resolution:
    if row is None:
        return resolution
    if row.version == resolution.version:
        indexed = row.outcome is Outcome.INDEXED
        status = ResolutionStatus.INDEXED if indexed else ResolutionStatus.DELETED
        return replace(resolution, status=status, detail="")
    if not row.version.newer_than(resolution.version):
        return resolution
    description = "is newer" if row.outcome is Outcome.INDEXED else "is newer, and deleted the asset"
    return replace(resolution, status=ResolutionStatus.SUPERSEDED, detail=f"{row.origin} {description}")


def _batches(letters: Iterable[DeadLetter]) -> Iterator[list[DeadLetter]]:
    batch: list[DeadLetter] = []
    size_bytes = 0
    for letter in letters:
        batch.append(letter)
        size_bytes += len(letter.value or b"")
        if len(batch) >= _MAX_LETTERS or size_bytes >= _MAX_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch
