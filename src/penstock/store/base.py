"""The interface to the store: rows, a search request, and one protocol for each use.

`store.memory` is the double and `store.milvus` the real store; both pass tests/store/test_contract.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from penstock.encoders.base import Fingerprint, Space
from penstock.records import (
    TEXT_COLLECTIONS,
    Access,
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
    """The features of a backend. A missing one is logged once and degrades visibly.

    Attributes:
        product: name and version as the server reports them.
        lexical: BM25 (Milvus 2.5 and Lite).
        vector_fields: vector fields a collection can have (1 before Milvus 2.4).
        shards: whether `num_shards` is honoured.
        concurrent_writes: whether upserts into one collection may overlap (not in Lite).
        dense_index: type of the index of vectors, by Milvus's names.
    """

    product: str
    lexical: bool
    vector_fields: int
    shards: bool
    concurrent_writes: bool
    dense_index: str = "FLAT"


@dataclass(frozen=True, slots=True)
class VectorSpec:
    """One dense vector field: its space, and the encoder that fills it."""

    space: Space
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """The requirements on the collections, derived from a profile and compared with the existing collections.

    Attributes:
        vectors: for each collection its dense fields.
        model_slug: short name in physical collections, `image__<model_slug>__v<version>`.
        version: number in the same.
        num_shards: for new collections, where the backend has shards.
        lexical: the collections that also have the field `LEXICAL`, which the store computes.
    """

    vectors: Mapping[Collection, Mapping[Field, VectorSpec]]
    model_slug: Mapping[Collection, str]
    version: int
    num_shards: int
    lexical: frozenset[Collection] = TEXT_COLLECTIONS


@dataclass(frozen=True, slots=True)
class EntryKey:
    """The identity of an entry without its content, for scans over millions of entries.

    Attributes:
        id: the primary key.
        asset_id: `AssetRef.id` of its asset.
        part: its number within asset and collection.
        origin: position of the event that it comes from.
    """

    id: str
    asset_id: str
    part: int
    origin: Position


@dataclass(frozen=True, slots=True)
class EntryText:
    """The words of an entry, for scans over all of a tenant's: what `searchable_text` and a title show of it."""

    id: str
    part: int
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class AssetState:
    """The part of an asset row that decides on order and outcome, for scans over millions of rows.

    Attributes:
        asset_id: `AssetRef.id`.
        origin: position of the event that the row stands for.
        timestamp_ms: Kafka's timestamp of that event.
        deleted: the outcome is `DELETED` or `EXPIRED`, else `INDEXED`.
        counts: entries by collection.
        slot: of the entries' ids; see `records.part_id`.
        expired: the outcome is `EXPIRED`.
    """

    asset_id: str
    origin: Position
    timestamp_ms: int
    deleted: bool
    counts: Mapping[Collection, int]
    slot: int = 0
    expired: bool = False

    @property
    def version(self) -> Version:
        """The version of the event that the row stands for."""
        return Version(self.timestamp_ms, self.origin.partition, self.origin.offset)


@dataclass(frozen=True, slots=True, eq=False)
class EntryQuery:
    """A search of one channel.

    Attributes:
        channel: the channel to search.
        content: float32[dim], L2-normalised, for a dense field; the text of the question for `LEXICAL`.
        access: only entries that it allows match.
        where: a further condition on entries, or None.
        limit: maximum number of entries.
        timeout_s: after this time `UnavailableError` is raised.
    """

    channel: Channel
    content: Float32 | str
    access: Access
    where: Filter | None
    limit: int
    timeout_s: float


class AssetLookup(Protocol):
    """Reads what is stored of given assets, at Strong consistency unless `EntryWriter.catch_up` allows less.

    An audible collection that does not exist is an empty one, here and for `EntryScan`: few profiles have one.
    """

    def entry_ids(self, collection: Collection, asset_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """Returns the ids of all entries of these assets, by `AssetRef.id`; assets without entries are left out.

        Parts of an asset have no gaps and are written in ascending order, so a backend may look for them by key; in
        both slots (`records.part_id`) where entries of a collection can be written in segments.
        """

    def asset_rows(self, asset_ids: Sequence[str]) -> Mapping[str, AssetRow]:
        """Returns the rows of these assets by id; absent ones are left out."""

    def get(self, collection: Collection, ids: Sequence[str]) -> Sequence[Entry]:
        """Returns entries by id, with their dense vectors; absent ones are left out."""

    def checkpoints(self, asset_ids: Sequence[str]) -> Mapping[str, Checkpoint]:
        """Returns the checkpoints of those of these assets that are written in segments, by `AssetRef.id`.

        A crash may have left the checkpoint of a finished asset: its version is then the asset row's, or older.
        """


class EntryWriter(AssetLookup, Protocol):
    """Writes entries, asset rows and checkpoints. Only the writer that owns the assets uses it.

    Every write is acknowledged when the method returns: a crash does not undo it.
    """

    def catch_up(self) -> None:
        """Makes later lookups see every write made before this call, by any writer.

        Lookups also see what was written through this store since. They need not see more, so a store whose readers lag
        behind does not make them wait. A writer calls this whenever it takes over assets from another writer. Until the
        first call all lookups are strongly consistent. A write that failed may still arrive later: its assets are read
        at Strong consistency until they are written again.
        """

    def upsert(self, collection: Collection, entries: Sequence[Entry]) -> None:
        """Writes entries by id, replacing existing ones. Entries of one call have distinct ids."""

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        """Removes entries by primary key; absent ones are no error."""

    def put_asset_rows(self, asset_rows: Sequence[AssetRow]) -> None:
        """Writes rows by asset id, replacing existing ones."""

    def put_checkpoints(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Writes checkpoints by asset id, replacing existing ones."""

    def drop_checkpoints(self, asset_ids: Sequence[str]) -> None:
        """Removes the checkpoints of these assets; absent ones are no error."""


class EntrySearch(Protocol):
    """Searches entries for the query plane."""

    def channels(self) -> frozenset[Channel]:
        """Returns the searchable channels: those whose field the collection behind the alias has."""

    def search(self, query: EntryQuery) -> Sequence[ScoredEntry]:
        """Returns the best entries of one channel, best first, at the query plane's consistency.

        The entries have no vectors. The score is the cosine, or BM25 for `LEXICAL`; higher is better.
        """

    def entries(self, ids: Sequence[str], *, access: Access, timeout_s: float) -> Mapping[str, Entry]:
        """Returns the entries with these ids, of whatever collection, without vectors, at the consistency of `search`.

        Absent ones are left out, and so are those that the access does not allow: a caller cannot tell them apart. The
        timeout is that of the whole call.
        """

    def vectors(
        self, channel: Channel, ids: Sequence[str], *, access: Access, timeout_s: float
    ) -> Mapping[str, Float32]:
        """Returns the vectors that the channel compares of these entries, float32[dim], at the consistency of `search`.

        Left out are entries without a vector there, of other collections, absent ones, and those that the access does
        not allow.

        Raises:
            PermanentError: the channel has no vectors: it is `LEXICAL`, or the store does not offer it.
        """

    def texts(
        self, collection: Collection, *, access: Access, after: str, limit: int, timeout_s: float
    ) -> Sequence[EntryText]:
        """Returns the words of the first allowed entries by ascending id, at the consistency of `search`.

        Args:
            collection: one that does not exist is an empty one.
            access: only entries that it allows are returned.
            after: an id; only entries with a larger one are returned. Empty: from the first one on.
            limit: maximum number of entries; fewer are returned only at the end.
            timeout_s: after this time `UnavailableError` is raised.
        """

    def select(
        self, collection: Collection, where: Filter, *, access: Access, limit: int, timeout_s: float
    ) -> Sequence[Entry]:
        """Returns the first allowed entries by ascending id that satisfy a condition, at the consistency of `search`.

        They have no vectors. While a new version of an asset is written in segments, entries of both are returned.

        Args:
            collection: one that does not exist is an empty one.
            where: the condition.
            access: only entries that it allows are returned.
            limit: maximum number of entries; fewer are returned only if there are no more.
            timeout_s: after this time `UnavailableError` is raised.
        """

    def assets_in(self, collection: Collection, access: Access) -> int:
        """Returns how many assets have allowed entries in a collection that has a channel.

        One whose new version is being written in segments may count twice.
        """

    def checkpoints(self, asset_ids: Sequence[str]) -> Mapping[str, Checkpoint]:
        """See `AssetLookup.checkpoints`; an asset that has one is still being indexed."""

    def asset_rows(self, asset_ids: Sequence[str]) -> Mapping[str, AssetRow]:
        """See `AssetLookup.asset_rows`."""


class EntryScan(AssetLookup, Protocol):
    """Reads all rows, for the audit, the asset sweep and status. Reads are strongly consistent.

    Scans return rows in batches and in bounded memory.
    """

    def count(self, collection: Collection) -> int:
        """Returns the number of rows of the collection."""

    def count_assets(self) -> int:
        """Returns the number of rows of the `asset` collection, checkpoints included."""

    def scan_media(
        self, *, tenant: str | None = None, key: str | None = None, batch: int = 1000
    ) -> Iterator[Sequence[str]]:
        """Yields the URIs of all media that asset rows, checkpoints and entries refer to, some more than once.

        With a tenant, and with a key, only those of its assets, or of its assets of this key.
        """

    def scan_asset_rows(
        self, *, tenant: str | None = None, key: str | None = None, before_ms: int | None = None, batch: int = 1000
    ) -> Iterator[Sequence[AssetRow]]:
        """Yields asset rows by ascending id.

        Args:
            tenant: of the assets; None: all.
            key: of the tenant's assets; None: all.
            before_ms: only rows whose event is older, milliseconds since the epoch.
            batch: rows of a page.
        """

    def scan_asset_states(self, *, batch: int = 1000) -> Iterator[Sequence[AssetState]]:
        """Yields the states of all assets by ascending id. A row that exists throughout is returned once."""

    def scan_entry_keys(self, collection: Collection, *, batch: int = 1000) -> Iterator[Sequence[EntryKey]]:
        """Yields the keys of all entries by ascending id. An entry that exists throughout is returned once."""

    def scan_entries(self, collection: Collection, *, batch: int = 1000) -> Iterator[Sequence[Entry]]:
        """Yields all entries with their dense vectors, by ascending id. One that exists throughout is returned once.

        A larger `batch` takes more memory: an entry may have 64 KiB of text.
        """


class Store(EntryWriter, EntrySearch, EntryScan, Protocol):
    """Holds entries, asset rows and checkpoints. Safe to call from several threads.

    Raises from every method:
        UnavailableError: the server does not answer. It comes after one request's timeout, without retries: the caller
            decides how long to try.
        PermanentError: the server refuses the request permanently.
        QueryError: a filter is wrong.
    """

    @property
    def capabilities(self) -> Capabilities:
        """The features of the backend."""

    def ensure(self, spec: IndexSpec) -> None:
        """Creates missing collections and aliases, loads them, and compares existing ones. Idempotent.

        Raises:
            ConfigError: a collection was filled by another encoder (names both), or has another dimension.
        """

    def ping(self) -> None:
        """Returns if the server answers.

        Raises:
            UnavailableError: it does not.
        """

    def close(self) -> None:
        """Ends the connection."""
