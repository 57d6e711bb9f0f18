"""A table of a database, and the messages that Debezium writes of its changes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.broker.base import Message

ENVELOPE: Mapping[str, Any] = {"kind": "debezium", "text": "body", "title": "name", "attributes": ["price"]}
"""The setting with which its topic is read."""
SCHEMA = {"type": "struct", "optional": False, "name": "shop.public.items.Envelope", "fields": []}
_CHANGED_MS = 1_767_225_600_000
_WORDS = ("harbour", "heron", "lighthouse", "reed", "tide", "ferry", "anchor", "dune")


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row beside its key."""

    body: str
    name: str
    price: float


class ChangingTable:
    """Changes a table at random, and yields what a connector writes for each change.

    A third of the messages has no schema, as after a change of the connector's settings; a third of the deletions is
    without a tombstone behind it (tombstones.on.delete=false).

    Args:
        topic: of the messages.
        seed: of the changes.
        max_rows: keys are drawn from as many, so that they are written again after they were deleted.

    Attributes:
        rows: the table as it is now, by key.
        sent: the messages so far.
        truncations: changes that name no row; each is to be a dead letter.
    """

    def __init__(self, topic: str, seed: int, *, max_rows: int) -> None:
        self.rows: dict[int, TableRow] = {}
        self.sent = self.truncations = 0
        self._topic = topic
        self._random = random.Random(seed)
        self._max_rows = max_rows

    def changes(self, count: int) -> Iterator[Message]:
        """Changes the table a number of times, and yields the messages."""
        operations: Sequence[tuple[Callable[[], Iterator[Message]], int]] = (
            (self._insert, 6),
            (self._update, 6),
            (self._delete, 3),
            (self._rename, 1),
            (self._read, 1),
        )
        names, weights = zip(*operations, strict=True)
        for operation in self._random.choices(names, weights, k=count):
            yield from self._counted(operation())

    def snapshot(self) -> Iterator[Message]:
        """Yields all rows as a snapshot reads them."""
        yield from self._counted(self._change(key, "r") for key in list(self.rows))

    def truncate(self) -> Iterator[Message]:
        """Empties the table: one message that names no row, and then the deletions by which an operator follows it."""
        self.truncations += 1
        source = {"db": "shop", "table": "items", "ts_ms": _CHANGED_MS}
        value = {"before": None, "after": None, "op": "t", "source": source, "ts_ms": _CHANGED_MS}
        purged = [Message(self._topic, self._key(key), None) for key in self.rows]
        self.rows.clear()
        yield from self._counted([Message(self._topic, None, _json(value)), *purged])

    def _counted(self, messages: Iterator[Message] | Sequence[Message]) -> Iterator[Message]:
        for message in messages:
            self.sent += 1
            yield message

    def _insert(self) -> Iterator[Message]:
        free = sorted(set(range(self._max_rows)) - self.rows.keys())
        if free:
            key = self._random.choice(free)
            self.rows[key] = self._row(key)
            yield self._change(key, "c")

    def _update(self) -> Iterator[Message]:
        if self.rows:
            key = self._chosen()
            before, self.rows[key] = self.rows[key], self._row(key)
            yield self._change(key, "u", before)

    def _delete(self) -> Iterator[Message]:
        if self.rows:
            yield from self._deleted(self._chosen())

    def _rename(self) -> Iterator[Message]:
        """An update of the key: a deletion and a new row."""
        free = sorted(set(range(self._max_rows)) - self.rows.keys())
        if self.rows and free:
            key, renamed = self._chosen(), self._random.choice(free)
            row = self.rows[key]
            yield from self._deleted(key)
            self.rows[renamed] = row
            yield self._change(renamed, "c")

    def _read(self) -> Iterator[Message]:
        if self.rows:
            yield self._change(self._chosen(), "r")

    def _deleted(self, key: int) -> Iterator[Message]:
        before = self.rows.pop(key)
        yield self._change(key, "d", before)
        if self._random.random() < 2 / 3:
            yield Message(self._topic, self._key(key), None)

    def _chosen(self) -> int:
        return self._random.choice(sorted(self.rows))

    def _row(self, key: int) -> TableRow:
        words = " ".join(self._random.choices(_WORDS, k=6))
        return TableRow(f"Item {key} {words} {self.sent}", f"name {key}", self._random.randint(1, 99) / 4)

    def _change(self, key: int, op: str, before: TableRow | None = None) -> Message:
        payload = {
            "before": None if before is None else _columns(key, before),
            "after": None if op == "d" else _columns(key, self.rows[key]),
            "op": op,
            "source": {"db": "shop", "table": "items", "ts_ms": _CHANGED_MS + self.sent},
            "ts_ms": _CHANGED_MS + self.sent + 7,
        }
        has_schema = self._random.random() < 2 / 3
        value = {"schema": SCHEMA, "payload": payload} if has_schema else payload
        return Message(self._topic, self._key(key), _json(value))

    def _key(self, key: int) -> bytes:
        """Returns the key with its schema, always, as the partition of a row depends on the bytes of its key."""
        return _json({"schema": {"type": "struct", "fields": []}, "payload": {"id": key}})


def _columns(key: int, row: TableRow) -> dict[str, object]:
    return {"id": key, "body": row.body, "name": row.name, "price": row.price, "password": "not to be indexed"}


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
