"""A stream of Debezium's changes through a lane leaves in the store what its table has."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from penstock.broker.wire import parse_record
from penstock.config.envelope import EnvelopeSettings
from penstock.records import Collection, Event, Modality, Record, Rejected
from tests.debezium import ENVELOPE, ChangingTable
from tests.ingest.builders import TOPIC
from tests.ingest.lane.harness import LaneHarness, eventually, running
from tests.store.scans import all_asset_rows, all_entries


def parse(record: Record, envelope: EnvelopeSettings) -> Event | Rejected:
    return parse_record(
        record, modality=Modality.TEXT, default_tenant="default", max_inline_bytes=1_000_000, envelope=envelope
    )


def stored(harness: LaneHarness) -> dict[str, tuple[str, str, Any]]:
    """Returns text, title and attributes by key."""
    return {
        entry.asset.key: (entry.text, entry.title, json.loads(entry.attributes_json))
        for entry in all_entries(harness.store, Collection.TEXT)
    }


def expected(table: ChangingTable) -> dict[str, tuple[str, str, Any]]:
    return {str(key): (row.body, row.name, {"price": row.price}) for key, row in table.rows.items()}


@pytest.mark.parametrize("seed", range(3))
def test_the_index_ends_as_the_table_does(seed: int) -> None:
    harness = LaneHarness()
    table = ChangingTable(TOPIC, seed, max_rows=40)
    with running(harness.lane(parse=partial(parse, envelope=EnvelopeSettings(**ENVELOPE)))):
        for messages in (table.changes(120), table.snapshot(), table.changes(40), table.truncate(), table.changes(60)):
            for message in messages:
                harness.broker.append(message)
            eventually(lambda: harness.committed() == table.sent, "all committed")
            assert stored(harness) == expected(table)
    assert len(harness.sink.letters) == table.truncations == 1
    assert "truncate" in harness.sink.letters[0].detail
    deleted = {row.asset.key for row in all_asset_rows(harness.store) if row.asset.key not in expected(table)}
    assert deleted
    assert not deleted & stored(harness).keys()
