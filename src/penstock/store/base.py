"""The one interface to the store. `store.memory` is the double, `store.milvus` the real thing; both pass
tests/store/test_contract.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from penstock.encoders.base import Fingerprint, Space
from penstock.records import (
    AssetRow,
    Channel,
    Checkpoint,
    Collection,
    Entry,
    Field,
    Float32,
    Position,
    ScoredEntry,
    Version,
)
from penstock.store.filters import Filter


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do. What it lacks is logged once and degrades visibly.

    Attributes:
        product: name and version as the server tells them.
        lexical: BM25 (Milvus 2.5 and Lite).
        vector_fields: vector fields a collection can have (1 before Milvus 2.4).
        shards: whether `num_shards` is honoured.
        concurrent_writes: whether upserts into one collection may overlap (not in Lite).
    """

    product: str
    lexical: bool
    vector_fields: int
    shards: bool
    concurrent_writes: bool


@dataclass(frozen=True, slots=True)
class VectorSpec:
    """One dense vector field: the space it is in and the encoder that fills it."""

    space: Space
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """What the collections must be able to hold: made from a profile, compared with what is there.

    Attributes:
        vectors: for each collection its dense fields. `LEXICAL` is not named: the store computes it.
        model_slug: short name in physical collections, `image__<model_slug>__v<version>`.
        version: number in the same.
        num_shards: for new collections, where the backend has shards.
    """

    vectors: Mapping[Collection, Mapping[Field, VectorSpec]]
    model_slug: Mapping[Collection, str]
    version: int
    num_shards: int


@dataclass(frozen=True, slots=True)
class EntryKey:
    """An entry as far as it says whose it is: for looking over millions of them.

    Attributes:
        id: the primary key.
        asset_id: `AssetRef.id` of its asset.
        part: its number within asset and collection.
        origin: of the event that it comes from.
    """

    id: str
    asset_id: str
    part: int
    origin: Position


@dataclass(frozen=True, slots=True)
class AssetState:
    """An asset row as far as it says what became of its asset: for looking over millions of them.

    Attributes:
        asset_id: `AssetRef.id`.
        origin: of the event that the row stands for.
        timestamp_ms: Kafka's timestamp of that event.
        deleted: the outcome is `DELETED`, else `INDEXED`.
        counts: entries by collection.
        space: of the entries' ids; see `records.part_id`.
    """

    asset_id: str
    origin: Position
    timestamp_ms: int
    deleted: bool
    counts: Mapping[Collection, int]
    slot: int = 0

    @property
    def version(self) -> Version:
        return Version(self.timestamp_ms, self.origin.partition, self.origin.offset)


class Store(Protocol):
    """Holds entries and asset rows. Safe to call from several threads.

    Errors: `UnavailableError` when the server does not answer (after one request's timeout, without retries: the caller
    decides how long to go on), `PermanentError` when it refuses for good, `QueryError` for a filter that is wrong.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    def ensure(self, spec: IndexSpec) -> None:
        """Creates missing collections and aliases and loads them, compares the existing ones. Idempotent.

        Raises:
            ConfigError: a collection was made by another encoder (names both), or another dimension.
        """

    def channels(self) -> frozenset[Channel]:
        """The channels that can be searched here: those of the aliases' collections that have the field."""

    # ---- writing: called by the writer that owns the assets ----

    def catch_up(self) -> None:
        """From now on `entry_ids`, `asset_rows` and `checkpoints` see what anyone wrote before this call and what was
        written through this store since, and need not see more: where a store's readers lag behind, they do not wait.

        Called by who alone writes the assets that it will ask for, each time that this right came from somebody else. A
        write that failed may come about later; its assets are read at Strong consistency until they are written again.
        Before the first call all of these reads are at Strong consistency.
        """

    def upsert(self, collection: Collection, entries: Sequence[Entry]) -> None:
        """Writes entries by id, replacing those that are there. Acknowledged on return: a crash does not undo it.

        Entries of one call have distinct ids.
        """

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        """Removes entries by primary key; absent ones are no error. Acknowledged on return."""

    def entry_ids(self, collection: Collection, asset_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """The ids of all entries of these assets (by `AssetRef.id`); absent assets are left out. At Strong consistency,
        or as `catch_up` says.

        Parts of an asset have no gaps and are written in ascending order, which lets a backend look for them by key;
        in both spaces (`records.part_id`), where entries of a collection can be written in slices.
        """

    def asset_rows(self, asset_ids: Sequence[str]) -> Mapping[str, AssetRow]:
        """The rows of these assets by id, absent ones left out. At Strong consistency, or as `catch_up` says."""

    def put_asset_rows(self, rows: Sequence[AssetRow]) -> None:
        """Writes rows by asset id, replacing. Acknowledged on return."""

    def checkpoints(self, asset_ids: Sequence[str]) -> Mapping[str, Checkpoint]:
        """How far those of these assets are that are being written in slices, by `AssetRef.id`. At Strong consistency,
        or as `catch_up` says.

        What a crash has left of one that is finished may be among it: its version is then the asset row's, or older.
        """

    def put_checkpoints(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Writes it by asset, replacing. Acknowledged on return."""

    def drop_checkpoints(self, asset_ids: Sequence[str]) -> None:
        """Removes it; absent ones are no error. Acknowledged on return."""

    # ---- reading ----

    def search(
        self,
        channel: Channel,
        query: Float32 | str,
        *,
        tenant: str,
        where: Filter | None,
        limit: int,
        timeout_s: float,
    ) -> Sequence[ScoredEntry]:
        """The `limit` best entries of one channel, best first, at the query plane's consistency.

        Args:
            channel: what to search.
            query: float32[dim], L2-normalised, for a dense field; the text itself for `LEXICAL`.
            tenant: only this tenant's entries are found.
            where: a further condition, or None.
            limit: how many at most.
            timeout_s: seconds after which `UnavailableError` is raised.

        Returns:
            entries without vectors; score is the cosine, or BM25 for `LEXICAL`; higher is better.
        """

    def get(self, collection: Collection, ids: Sequence[str]) -> Sequence[Entry]:
        """Entries by id at Strong consistency, with their dense vectors; absent ones are left out."""

    def count(self, collection: Collection) -> int:
        """Rows of the collection, at Strong consistency."""

    def count_assets(self) -> int:
        """Rows of the `asset` collection, progress among them, at Strong consistency."""

    def scan_assets(self, *, batch: int = 1000) -> Iterator[Sequence[AssetRow]]:
        """All asset rows, in batches, in bounded memory, at Strong consistency."""

    def scan_media(self, *, batch: int = 1000) -> Iterator[Sequence[str]]:
        """The addresses of all media that asset rows, progress and entries refer to, some more than once, in batches,
        in bounded memory, at Strong consistency.
        """

    def scan_entries(self, collection: Collection, *, batch: int = 1000) -> Iterator[Sequence[Entry]]:
        """All entries of a collection without vectors, in batches, in bounded memory, at Strong consistency."""

    def scan_asset_states(self, *, batch: int = 1000) -> Iterator[Sequence[AssetState]]:
        """All asset rows without names and addresses, by ascending asset id, in batches, in bounded memory, at Strong
        consistency. A row that is there throughout is seen once.
        """

    def scan_entry_keys(self, collection: Collection, *, batch: int = 1000) -> Iterator[Sequence[EntryKey]]:
        """All entries of a collection without what they hold, by ascending id, in batches, in bounded memory, at Strong
        consistency. An entry that is there throughout is seen once.
        """

    def ping(self) -> None:
        """Returns if the server answers. Raises `UnavailableError` otherwise."""

    def close(self) -> None: ...
