"""A store in memory that records its writes and fails on request, and short ways to write to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from penstock.errors import UnavailableError
from penstock.records import AssetRow, Assignment, Collection, Entry, Event, Outcome, Settled, WriteResult, entry_id
from penstock.store.base import EntryWriter
from penstock.store.memory import MemoryStore
from penstock.store.writer import Writer, WriteRequest
from tests.ingest.builders import TOPIC, event
from tests.ingest.doubles import ROLE, SPEC, ScriptedEncoder, ScriptedMedia
from tests.store.lagging import LaggingStore
from tests.store.scans import all_entries

OWNED = Assignment(TOPIC, 0, 5)


class RecordingStore(MemoryStore):
    """Records the names of writes; `failing` names one that fails, before or after it is applied.

    `after` names one that something happens after, and what.
    """

    def __init__(self, before_write: Callable[[], None] = lambda: None) -> None:
        super().__init__(before_write=before_write)
        self.after: tuple[str, Callable[[], None]] | None = None
        self.ensure(SPEC)
        self.calls: list[str] = []
        self.failing: tuple[str, str] | None = None

    def catch_up(self) -> None:
        with self._recorded("catch up"):
            super().catch_up()

    def upsert(self, collection: Collection, entries: Sequence[Entry]) -> None:
        with self._recorded("upsert"):
            super().upsert(collection, entries)

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        with self._recorded("delete"):
            super().delete(collection, ids)

    def put_asset_rows(self, asset_rows: Sequence[AssetRow]) -> None:
        with self._recorded("rows"):
            super().put_asset_rows(asset_rows)

    @contextmanager
    def _recorded(self, name: str) -> Iterator[None]:
        self.calls.append(name)
        self._fail(name, "before")
        yield
        if self.after is not None and self.after[0] == name:
            self.after[1]()
        self._fail(name, "after")

    def _fail(self, name: str, when: str) -> None:
        if self.failing == (name, when):
            raise UnavailableError(f"the answer to {name} was lost")


def write(writer: Writer, *events: Event, assignment: Assignment = OWNED, epoch: int = 0) -> Sequence[WriteResult]:
    decoded, batch = ScriptedMedia().fetch_and_decode(events, [ROLE])
    return writer.write(WriteRequest("lane", (assignment,), epoch), decoded, ScriptedEncoder().encode(batch))


def started(store: EntryWriter, assignments: Sequence[Assignment] = ()) -> Writer:
    writer = Writer(store, wall_ms=lambda: 5_000)
    writer.start(assignments)
    return writer


def outcomes(results: Sequence[WriteResult]) -> dict[int, Outcome | type[WriteResult]]:
    """The outcome of each offset, or the kind of result that has none."""
    return {
        result.position.offset: result.outcome if isinstance(result, Settled) else type(result) for result in results
    }


def ids(offset: int, parts: int) -> set[str]:
    return {entry_id(event(offset).asset, Collection.TEXT, part) for part in range(parts)}


def stored(store: MemoryStore) -> set[str]:
    return {entry.id for entry in all_entries(store, Collection.TEXT)}


def row_offset(store: MemoryStore) -> int | None:
    rows = store.asset_rows([event(0).asset.id])
    return rows[event(0).asset.id].version.offset if rows else None


def lagging(store: MemoryStore) -> LaggingStore:
    return LaggingStore(store, store, [Collection.TEXT])
