"""A stream of Debezium's changes through Kafka and the whole ingest plane leaves in the index what its table has."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.broker.deadletters import scan_dead_letters
from penstock.records import Collection
from penstock.store.milvus.store import MilvusStore
from tests.debezium import ENVELOPE, ChangingTable
from tests.e2e.stack import Stack
from tests.store.scans import all_entries

CHANGES = int(os.environ.get("PENSTOCK_TEST_DEBEZIUM_CHANGES", "2000"))
TOPIC = "media.text"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    environment = {
        "PENSTOCK_PROFILE": "null:8",
        "PENSTOCK_QUERY__PORT": "0",
        "PENSTOCK_INGEST__MODALITIES": '["text"]',
        "PENSTOCK_KAFKA__ENVELOPES": json.dumps({TOPIC: ENVELOPE}),
    }
    stack = Stack(tmp_path / "data", environment)
    try:
        stack.start()
        yield stack
    finally:
        stack.close()


def stored(stack: Stack) -> dict[str, tuple[str, str, Any]]:
    """Returns text, title and attributes by key."""
    store = MilvusStore(stack.settings.store)
    try:
        return {
            entry.asset.key: (entry.text, entry.title, json.loads(entry.attributes_json))
            for entry in all_entries(store, Collection.TEXT)
        }
    finally:
        store.close()


@pytest.mark.services
@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_the_index_ends_as_the_table_does_although_everything_is_killed(stack: Stack) -> None:
    table = ChangingTable(TOPIC, 7, max_rows=CHANGES // 8)
    parts = [
        table.changes(CHANGES // 2),
        table.snapshot(),
        table.changes(CHANGES // 4),
        table.truncate(),
        table.changes(CHANGES // 4),
    ]
    for number, messages in enumerate(parts):
        stack.produce(list(messages))
        if number % 2 == 0:  # while the last of them are not settled
            stack.kill_tree()
            stack.start()
    stack.settle()
    expected = {str(key): (row.body, row.name, {"price": row.price}) for key, row in table.rows.items()}
    assert stored(stack) == expected
    audit = stack.json("audit")  # which exits with 1 if it does not balance
    letters = list(scan_dead_letters(stack.settings.kafka))
    assert len({letter.origin for letter in letters}) == table.truncations
    outcomes = {name: audit[name] for name in ("indexed", "deleted", "superseded", "dead_lettered")}
    assert sum(outcomes.values()) == table.sent
    print(f"{table.sent} messages, {len(expected)} rows: {outcomes}")  # noqa: T201  # the figures of the report
