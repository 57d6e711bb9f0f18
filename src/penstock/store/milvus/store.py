"""The store in Milvus: Lite's server, a standalone from 2.3.5 on, a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from penstock.config import StoreSettings
from penstock.records import AssetRow, Channel, Checkpoint, Collection, Entry, Field, Float32, ScoredEntry
from penstock.store import provenance as makers
from penstock.store import rows
from penstock.store.base import AssetState, Capabilities, EntryKey, IndexSpec
from penstock.store.filter_semantics import literal, to_expression
from penstock.store.filters import Filter
from penstock.store.milvus import schema
from penstock.store.milvus.aliases import Aliases
from penstock.store.milvus.client import Connection
from penstock.store.milvus.part_lookup import find_parts
from penstock.store.milvus.provision import Provisioner
from penstock.store.milvus.read_timestamps import STRONG, ReadTimestamps
from penstock.store.milvus.row_io import MAX_READ_IDS, RowIO
from penstock.store.names import ASSET, asset_collection, entry_collection

MIN_EF = 64
"""Least beam of an HNSW search: recall@10 above 0.98 at a million vectors with the index's parameters."""


class MilvusStore:
    """`store.base.Store` in Milvus. Safe to call from several threads; connects at the first call.

    After `ensure`, everything but `search` and `channels` goes to the physical collections of its version, also while
    the aliases still serve another one; before, to the aliases.

    Args:
        settings: `uri` must be set.

    Raises:
        ConfigError: it is not.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._consistency = settings.consistency
        self._connection = Connection(settings)
        self._row_io = RowIO(self._connection)
        self.aliases = Aliases(self._connection)
        self._provisioner = Provisioner(self._connection, self.aliases, settings)
        self._spec: IndexSpec | None = None
        self._pinned: Mapping[str, str] = {}
        self._dense_cache: dict[str, Mapping[Field, int]] = {}
        self._read_timestamps = ReadTimestamps()  # by asset, and by the id of its progress

    @property
    def capabilities(self) -> Capabilities:
        return self._connection.backend.capabilities

    def ensure(self, spec: IndexSpec) -> None:
        self._provisioner.ensure(spec)
        self._spec = spec

    def use_version(self, version: int, collections: Iterable[Collection]) -> None:
        """From now on these collections and the asset rows are those of this version, whatever the aliases serve. For
        who looks on without knowing the encoders; not beside `ensure`.

        Raises:
            ConfigError: one of them does not exist.
        """
        aliases = [ASSET, *(collection.value for collection in collections)]
        self._pinned = {alias: str(self.aliases.resolve(alias, version)) for alias in aliases}

    def channels(self) -> frozenset[Channel]:
        """Those of the aliases' collections, less what other encoders filled than those of `ensure`."""
        return frozenset(
            Channel(collection, field) for collection in Collection for field in self._searchable(collection)
        )

    # ---- writing ----

    def catch_up(self) -> None:
        if self._connection.backend.readers_lag:
            self._read_timestamps.advance(self._connection.timestamp())

    def upsert(self, collection: Collection, entries: Sequence[Entry]) -> None:
        name = self._target(collection)
        dims = self._dense_fields(name)
        written = [
            {**rows.entry_row(entry), **rows.dense_columns(entry, dims)} for entry in rows.ordered_by_part(entries)
        ]
        self._write(name, written, {entry.asset.id for entry in entries})

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        self._delete(self._target(collection), ids)

    def entry_ids(self, collection: Collection, asset_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        name = self._target(collection)
        if self._connection.backend.finds_parts_by_key:
            return find_parts(collection, asset_ids, lambda ids: self._row_io.present(name, ids))
        found: dict[str, set[str]] = {}
        seen = self._read_timestamps.required_for(asset_ids)
        for chunk in rows.chunks(asset_ids, MAX_READ_IDS):
            for row in self._row_io.entry_ids(name, chunk, guarantee=seen):
                found.setdefault(row["asset"], set()).add(row["id"])
        return {asset: frozenset(ids) for asset, ids in found.items()}

    def asset_rows(self, asset_ids: Sequence[str]) -> Mapping[str, AssetRow]:
        seen = self._read_timestamps.required_for(asset_ids)
        found = self._row_io.by_ids(self._assets, asset_ids, rows.ASSET_COLUMNS, guarantee=seen)
        return {row["id"]: rows.parse_asset_row(row) for row in found}

    def put_asset_rows(self, asset_rows: Sequence[AssetRow]) -> None:
        placeholder = {schema.PLACEHOLDER: schema.PLACEHOLDER_VALUE}
        newest = {row.asset.id: {**rows.asset_row(row), **placeholder} for row in asset_rows}
        self._write(self._assets, list(newest.values()), newest)

    def checkpoints(self, asset_ids: Sequence[str]) -> Mapping[str, Checkpoint]:
        ids = [rows.checkpoint_id(asset_id) for asset_id in asset_ids]
        found = self._row_io.by_ids(
            self._assets, ids, rows.ASSET_COLUMNS, guarantee=self._read_timestamps.required_for(ids)
        )
        return {one.asset.id: one for one in map(rows.parse_checkpoint, found)}

    def put_checkpoints(self, checkpoints: Sequence[Checkpoint]) -> None:
        placeholder = {schema.PLACEHOLDER: schema.PLACEHOLDER_VALUE}
        latest = {rows.checkpoint_id(one.asset.id): {**rows.checkpoint_row(one), **placeholder} for one in checkpoints}
        self._write(self._assets, list(latest.values()), latest)

    def drop_checkpoints(self, asset_ids: Sequence[str]) -> None:
        self._delete(self._assets, [rows.checkpoint_id(asset_id) for asset_id in asset_ids])

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
        condition = f"tenant == {literal(tenant)}"
        if where is not None:
            condition = f"{condition} and {to_expression(where)}"
        lexical = channel.field is Field.LEXICAL
        dense: dict[str, Any] = {"metric_type": "COSINE", "params": {"ef": max(MIN_EF, 2 * limit)}}
        found = self._row_io.search(
            channel.collection.value,
            channel.field.value,
            query,
            condition,
            rows.ENTRY_COLUMNS,
            limit=limit,
            params={"metric_type": "BM25"} if lexical else dense,
            consistency=self._consistency,
            timeout_s=timeout_s,
        )
        # Lite gives BM25 as a distance, which is its negative; real servers as it is, which is never negative.
        return [
            ScoredEntry(rows.parse_entry(channel.collection, row), abs(score) if lexical else score)
            for row, score in found
        ]

    def get(self, collection: Collection, ids: Sequence[str]) -> Sequence[Entry]:
        name = self._target(collection)
        fields = tuple(self._dense_fields(name))
        found = self._row_io.by_ids(name, ids, (*rows.ENTRY_COLUMNS, *(field.value for field in fields)))
        return [rows.parse_entry(collection, row, fields) for row in found]

    def count(self, collection: Collection) -> int:
        return self._row_io.count(self._target(collection))

    def count_assets(self) -> int:
        return self._row_io.count(self._assets)

    def scan_assets(self, *, batch: int = 1000) -> Iterator[Sequence[AssetRow]]:
        for page in self._row_io.pages(self._assets, rows.ASSET_COLUMNS, batch):
            yield [rows.parse_asset_row(row) for row in page if not rows.is_checkpoint(row)]

    def scan_media(self, *, batch: int = 1000) -> Iterator[Sequence[str]]:
        for page in self._row_io.pages(self._assets, ("id", "uri"), batch):
            yield [row["uri"] for row in page]
        if any(channel.collection is Collection.FRAME for channel in self.channels()):
            for page in self._row_io.pages(self._target(Collection.FRAME), ("id", "thumbnail"), batch):
                yield [row["thumbnail"] for row in page]

    def scan_entries(self, collection: Collection, *, batch: int = 1000) -> Iterator[Sequence[Entry]]:
        for page in self._row_io.pages(self._target(collection), rows.ENTRY_COLUMNS, batch):
            yield [rows.parse_entry(collection, row) for row in page]

    def scan_asset_states(self, *, batch: int = 1000) -> Iterator[Sequence[AssetState]]:
        for page in self._row_io.pages(self._assets, rows.ASSET_STATE_COLUMNS, batch):
            yield [rows.parse_asset_state(row) for row in page if not rows.is_checkpoint(row)]

    def scan_entry_keys(self, collection: Collection, *, batch: int = 1000) -> Iterator[Sequence[EntryKey]]:
        for page in self._row_io.pages(self._target(collection), rows.ENTRY_KEY_COLUMNS, batch):
            yield [rows.parse_entry_key(row) for row in page]

    def ping(self) -> None:
        self._connection.ping()

    def close(self) -> None:
        self._connection.close()

    # ---- where things are ----

    def _write(self, name: str, written: Sequence[rows.Row], keys: Iterable[str]) -> None:
        """Writes rows, of which reads ask by these keys."""
        try:
            timestamp = self._row_io.write(name, written)
        except BaseException:  # whatever broke it off: some of it may have come about
            self._read_timestamps.mark_unknown(keys)
            raise
        self._read_timestamps.record_write(keys, timestamp)

    def _delete(self, name: str, ids: Sequence[str]) -> None:
        """Deletes rows. Which assets they are of is not known here: all reads that follow see that they are gone."""
        self._row_io.delete(name, ids)
        if ids and self._read_timestamps.required_for(()) != STRONG:
            self.catch_up()

    @property
    def _assets(self) -> str:
        return self._pinned.get(ASSET, ASSET) if self._spec is None else str(asset_collection(self._spec.version))

    def _target(self, collection: Collection) -> str:
        """The physical collection that was ensured or is looked at, else the alias."""
        if self._spec is None or collection not in self._spec.model_slug:
            return self._pinned.get(collection.value, collection.value)
        return str(entry_collection(collection, self._spec.model_slug[collection], self._spec.version))

    def _dense_fields(self, name: str) -> Mapping[Field, int]:
        """Dense fields with their dimensions. Remembered for physical collections, which do not change."""
        if name in self._dense_cache:
            return self._dense_cache[name]
        found = self._provisioner.dense_fields(name)
        if self._spec is not None:
            self._dense_cache[name] = found
        return found

    def _searchable(self, collection: Collection) -> Iterator[Field]:
        described = self._provisioner.describe(collection.value)
        if described is None:
            return
        recorded = makers.recorded(collection.value, described["properties"])
        for field in Field:
            if any(column["name"] == field.value for column in described["fields"]):
                asked = self._spec.vectors.get(collection, {}).get(field) if self._spec else None
                if makers.is_maker(asked, recorded.get(field)):
                    yield field
