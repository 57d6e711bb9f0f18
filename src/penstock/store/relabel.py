"""Writes the labels of an event whose entries are stored already: rows are written again, and nothing is encoded."""

from __future__ import annotations

from dataclasses import replace

from penstock.records import AssetRow, Entry, Event, Outcome, Written, part_id
from penstock.store.base import EntryWriter

MAX_ENTRIES = 4_000  # of an asset; one that has more is encoded again, as its entries with vectors take 50 MB


def write_labels(store: EntryWriter, event: Event, row: AssetRow, now_ms: int) -> Written | None:
    """Gives the entries of an asset the labels and the version of an event.

    1. All entries are read, with their vectors. If one is missing, nothing is written.
    2. They are upserted. A crash leaves some with the new labels; the event is delivered again.
    3. The asset row is written: now the event counts as settled.

    Args:
        store: of the entries.
        event: newer than the row, and with the same content.
        row: of the asset.
        now_ms: milliseconds since the epoch.

    Returns:
        what the store holds since; None: the event has to be encoded.
    """
    if row.outcome is not Outcome.INDEXED or sum(row.counts.values()) > MAX_ENTRIES:
        return None
    stored: list[list[Entry]] = []
    for collection, count in row.counts.items():  # 1
        ids = [part_id(event.asset.id, collection, part, row.slot) for part in range(count)]
        stored.append(list(store.get(collection, ids)))
        if len(stored[-1]) != count:
            return None
    for entries in stored:  # 2
        store.upsert(entries[0].collection, [_of_event(entry, event, now_ms) for entry in entries])
    written = replace(  # 3
        row, version=event.version, acl=event.acl, indexed_at_ms=now_ms, traceparent=event.traceparent
    )
    store.put_asset_rows([written])
    return Written(row.counts, now_ms, row.slot, acl=event.acl)


def _of_event(entry: Entry, event: Event, now_ms: int) -> Entry:
    return replace(entry, acl=event.acl, origin=event.origin, event_time_ms=event.event_time_ms, indexed_at_ms=now_ms)
