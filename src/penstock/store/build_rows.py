"""Builds entries and asset rows of a batch from its decoded and encoded form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from penstock.errors import PermanentError
from penstock.records import (
    COLLECTIONS_OF,
    SINGLE_ENTRY_COLLECTIONS,
    AssetRow,
    ClaimCheck,
    Collection,
    Decoded,
    Encoded,
    Entry,
    PendingEntry,
    entry_id,
)
from penstock.store.content_hash import content_hash
from penstock.store.write_plan import WritePlan


def encode_failures(decoded: Decoded, encoded: Sequence[Encoded]) -> dict[str, str]:
    """Returns the encoder's error by asset id, for each asset with an item that an encoder failed on."""
    errors = {(batch.encoder, row): error for batch in encoded for row, error in batch.failed}
    if not errors:
        return {}
    return {
        entry.event.asset.id: f"{encoder}: {errors[encoder, row]}"
        for entry in decoded.pending
        for _, encoder, row in entry.vectors
        if (encoder, row) in errors
    }


def build_entries(
    pending: Sequence[PendingEntry], encoded: Sequence[Encoded], plans: Mapping[str, WritePlan], now_ms: int
) -> dict[Collection, list[Entry]]:
    """Gives each pending entry its id and vectors.

    Raises:
        PermanentError: an asset has a second entry in a collection that holds one per asset.
    """
    vectors = {batch.encoder: batch.vectors for batch in encoded}
    entries: dict[Collection, list[Entry]] = {}
    for draft in pending:
        event = draft.event
        if draft.part and draft.collection in SINGLE_ENTRY_COLLECTIONS:
            raise PermanentError(f"{event.asset} has more than one entry in {draft.collection}, which holds one")
        entry = Entry(
            id=entry_id(event.asset, draft.collection, draft.part, plans[event.asset.id].slot),
            collection=draft.collection,
            asset=event.asset,
            part=draft.part,
            title=event.title,
            text=draft.text,
            uri=draft.uri,
            mime=draft.mime,
            attributes_json=draft.attributes_json or event.attributes_json,
            start_ms=draft.start_ms,
            end_ms=draft.end_ms,
            start_char=draft.start_char,
            end_char=draft.end_char,
            event_time_ms=event.event_time_ms,
            indexed_at_ms=now_ms,
            origin=event.origin,
            thumbnail=draft.thumbnail,
            page=draft.page,
            page_label=draft.page_label,
            figure=draft.figure,
            acl=event.acl,
            vectors={field: vectors[encoder][row] for field, encoder, row in draft.vectors},
        )
        entries.setdefault(draft.collection, []).append(entry)
    return entries


def counts_by_asset(entries: Mapping[Collection, Sequence[Entry]]) -> Mapping[str, Mapping[Collection, int]]:
    """Returns the number of entries of each asset that has any, by collection."""
    counts: dict[str, dict[Collection, int]] = {}
    for collection, batch in entries.items():
        for id_, count in Counter(entry.asset.id for entry in batch).items():
            counts.setdefault(id_, {})[collection] = count
    return counts


def build_asset_rows(
    plans: Sequence[WritePlan], entries: Mapping[Collection, Sequence[Entry]], now_ms: int, settings_hash: str
) -> list[AssetRow]:
    """Returns the asset rows of the events whose writes are the last of them."""
    written = counts_by_asset(entries)
    rows = []
    for plan in plans:
        event = plan.event
        counts = {
            collection: plan.checkpoint.counts.get(collection, 0)
            if plan.checkpoint is not None
            else written.get(event.asset.id, {}).get(collection, 0)
            for collection in COLLECTIONS_OF[event.modality]
        }
        rows.append(
            AssetRow(
                asset=event.asset,
                version=event.version,
                outcome=plan.outcome,
                counts={collection: count for collection, count in counts.items() if count},
                uri=event.payload.uri if isinstance(event.payload, ClaimCheck) else "",
                indexed_at_ms=now_ms,
                slot=plan.slot,
                traceparent=event.traceparent,
                acl=plan.acl,
                content_hash=content_hash(event, settings_hash),
            )
        )
    return rows
