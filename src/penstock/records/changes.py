"""Changes of the index as the ingest plane announces them to the query plane: which asset, and its entries now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.records.entries import part_id
from penstock.records.events import AssetRef, Version
from penstock.records.kafka import Position
from penstock.records.taxonomy import Collection


@dataclass(frozen=True, slots=True)
class IndexChange:
    """One asset whose entries changed. It may be announced more than once, and never before the change is stored.

    Attributes:
        tenant, topic, key: name the asset.
        origin: the position at which its event was first produced.
        deleted: whether the asset was deleted.
        counts: entries of this version by collection; so far, if it is not complete. Empty if it was deleted.
        indexed_at_ms: when they were written, milliseconds since the epoch.
        timestamp_ms: Kafka's timestamp of the event; with the origin its `version`.
        slot: of the entries' ids.
        since: by collection, the first part that is new with this change; 0 where a collection is absent.
        complete: whether no further segment of timed media follows.
        acl: labels of the entries; of a deleted asset those that they had.
        index_version: the version of the index that changed, once it was received; 0: its message does not state it.
    """

    tenant: str
    topic: str
    key: str
    origin: Position
    deleted: bool
    counts: Mapping[Collection, int]
    indexed_at_ms: int
    timestamp_ms: int = 0
    slot: int = 0
    since: Mapping[Collection, int] = field(default_factory=dict)
    complete: bool = True
    acl: tuple[str, ...] = ()
    index_version: int = 0

    @property
    def asset(self) -> AssetRef:
        """The asset."""
        return AssetRef(self.tenant, self.topic, self.key)

    @property
    def version(self) -> Version:
        """The version of the asset that its entries belong to now."""
        return Version(self.timestamp_ms, self.origin.partition, self.origin.offset)

    def new_entry_ids(self) -> dict[Collection, list[str]]:
        """Returns the ids of the entries that are new with this change, by collection."""
        asset_id = self.asset.id
        return {
            collection: [
                part_id(asset_id, collection, part, self.slot) for part in range(self.since.get(collection, 0), count)
            ]
            for collection, count in self.counts.items()
        }
