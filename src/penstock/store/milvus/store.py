"""The store in Milvus: the server of Milvus Lite, a standalone from 2.3.5 on, or a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from penstock.config import StoreSettings
from penstock.errors import PermanentError
from penstock.records import Access, AssetRow, Channel, Checkpoint, Collection, Entry, Field, Float32, ScoredEntry
from penstock.store import lexical, provenance, rows, vector_index
from penstock.store.access import ACL, access_expression, acl_text, parse_acl
from penstock.store.base import AssetState, Capabilities, EntryKey, EntryQuery, EntryText, IndexSpec, Store
from penstock.store.filter_semantics import literal, to_expression
from penstock.store.filters import Filter
from penstock.store.milvus import schema
from penstock.store.milvus.aliases import Aliases
from penstock.store.milvus.client import Connection, no_op
from penstock.store.milvus.part_lookup import find_parts
from penstock.store.milvus.provision import Provisioner
from penstock.store.milvus.read_timestamps import STRONG, ReadTimestamps
from penstock.store.milvus.row_io import MAX_READ_IDS, RowIO
from penstock.store.milvus.targets import Targets
from penstock.store.provenance import EncoderInfo


class MilvusStore(Store):
    """The store on a Milvus server. Safe to call from several threads; connects at the first call.

    `channels`, `search`, `entries`, `vectors`, `texts`, `select` and `assets_in` use the aliases, or the collections of
    the version that is given here. Everything else uses, after `ensure`, the physical collections of its version, also
    while the aliases still serve another one; before, the aliases.

    Over the limit because it implements every method of `Store`, each in a few lines.

    Args:
        settings: `uri` must be set.
        before_write: called before each request that changes rows; what it raises stops the write.
        for_queries: takes the read-only token, if there is one; `ensure` then checks and creates nothing.
        version: searches go to the collections of this version; None: to the aliases.

    Raises:
        ConfigError: it is not.
    """

    def __init__(
        self,
        settings: StoreSettings,
        before_write: Callable[[], None] = no_op,
        *,
        for_queries: bool = False,
        version: int | None = None,
    ) -> None:
        self._consistency = settings.consistency
        self._index = settings.index
        self._connection = Connection(settings, before_write, for_queries=for_queries)
        self._row_io = RowIO(self._connection)
        self.aliases = Aliases(self._connection)
        self._provisioner = Provisioner(self._connection, self.aliases, settings)
        self._targets = Targets(self._provisioner, self.aliases, version)
        self._read_timestamps = ReadTimestamps()  # by asset id, and by the id of its checkpoint

    @property
    def is_read_only(self) -> bool:
        """Whether the user of this connection need not write."""
        return self._connection.is_read_only

    @property
    def capabilities(self) -> Capabilities:
        capabilities = self._connection.backend.capabilities
        return replace(capabilities, dense_index=self._index_type())

    def ensure(self, spec: IndexSpec) -> None:
        if self._connection.is_read_only:
            self._provisioner.verify(spec)
        else:
            self._provisioner.ensure(spec)
        self._targets.use_spec(spec)

    def use_version(self, version: int, collections: Iterable[Collection]) -> None:
        """Makes later calls use these collections and the asset rows of this version, whatever the aliases serve.

        For readers that do not know the encoders, instead of `ensure`.

        Raises:
            ConfigError: one of them does not exist.
        """
        self._targets.use_version(version, collections)

    def collections_of(self, version: int) -> Sequence[Collection]:
        """Returns the collections of entries that a version has."""
        return [
            collection
            for collection in Collection
            if any(name.version == version for name in self.aliases.candidates(collection.value))
        ]

    def encoders_of(self, version: int) -> Mapping[Collection, Mapping[Field, EncoderInfo]]:
        """Returns the encoders that filled a version, by collection and dense field.

        Raises:
            ConfigError: a collection names none.
        """
        encoders = {}
        for collection in self.collections_of(version):
            name = str(self.aliases.resolve(collection.value, version))
            if (described := self._provisioner.describe(name)) is not None:
                encoders[collection] = provenance.from_properties(name, described["properties"])
        return encoders

    def recorded_spec(self, version: int) -> IndexSpec:
        """Returns the specification that the collections of a version fulfil, for readers that load no encoders.

        Raises:
            ConfigError: there are none.
        """
        return self._provisioner.recorded_spec(version)

    def ping(self) -> None:
        self._connection.ping()

    def close(self) -> None:
        self._connection.close()

    # --- EntryWriter ------------------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        if self._connection.backend.readers_lag:
            self._read_timestamps.advance(self._connection.timestamp())

    def upsert(self, collection: Collection, entries: Sequence[Entry]) -> None:
        layout = self._targets.layout(collection)
        ordered = rows.ordered_by_part(entries)
        written = [
            self._as_kept({**rows.entry_row(entry), **rows.dense_columns(entry, layout.dense_fields)})
            for entry in ordered
        ]
        if layout.has_terms:
            for row, entry in zip(written, ordered, strict=True):
                row[schema.TERMS] = lexical.terms_of(entry)
        self._write(self._targets.entries(collection), written, {entry.asset.id for entry in entries})

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        self._delete(self._targets.entries(collection), ids)

    def entry_ids(self, collection: Collection, asset_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        if not self._targets.has(collection):
            return {}
        name = self._targets.entries(collection)
        if self._connection.backend.finds_parts_by_key:
            return find_parts(collection, asset_ids, lambda ids: self._row_io.existing(name, ids))
        ids_of: dict[str, set[str]] = {}
        guarantee = self._read_timestamps.required_for(asset_ids)
        for chunk in rows.chunks(asset_ids, MAX_READ_IDS):
            for row in self._row_io.entry_ids(name, chunk, guarantee=guarantee):
                ids_of.setdefault(row["asset"], set()).add(row["id"])
        return {asset_id: frozenset(ids) for asset_id, ids in ids_of.items()}

    def asset_rows(self, asset_ids: Sequence[str]) -> Mapping[str, AssetRow]:
        return {row["id"]: rows.parse_asset_row(row) for row in self._asset_collection_rows(asset_ids)}

    def put_asset_rows(self, asset_rows: Sequence[AssetRow]) -> None:
        self._put_asset_collection_rows(rows.asset_row(row) for row in asset_rows)

    def checkpoints(self, asset_ids: Sequence[str]) -> Mapping[str, Checkpoint]:
        stored = self._asset_collection_rows([rows.checkpoint_id(asset_id) for asset_id in asset_ids])
        return {checkpoint.asset.id: checkpoint for checkpoint in map(rows.parse_checkpoint, stored)}

    def put_checkpoints(self, checkpoints: Sequence[Checkpoint]) -> None:
        self._put_asset_collection_rows(rows.checkpoint_row(checkpoint) for checkpoint in checkpoints)

    def drop_checkpoints(self, asset_ids: Sequence[str]) -> None:
        self._delete(self._targets.assets, [rows.checkpoint_id(asset_id) for asset_id in asset_ids])

    # --- EntrySearch ------------------------------------------------------------------------------------------------

    def channels(self) -> frozenset[Channel]:
        """Returns the channels of the searched collections, except those that other encoders than `ensure`'s filled."""
        return frozenset(
            Channel(collection, field)
            for collection in Collection
            for field in self._targets.searchable_fields(collection)
        )

    def search(self, query: EntryQuery) -> Sequence[ScoredEntry]:
        collection, field = query.channel.collection, query.channel.field
        condition = self._allowing(query.access)
        if query.where is not None:
            condition = f"{condition} and {self._expression(query.where)}"
        content, by_words = query.content, isinstance(query.content, str)
        if isinstance(content, str) and self._targets.searched_layout(collection).has_terms:
            content = lexical.terms_of_question(content)
            if not content:
                return []
        dense: dict[str, Any] = {"metric_type": "COSINE", "params": self._search_params(query.limit)}
        hits = self._row_io.search(
            self._targets.searched_name(collection),
            field.value,
            content,
            condition,
            rows.ENTRY_COLUMNS,
            limit=query.limit,
            params={"metric_type": "BM25"} if by_words else dense,
            consistency=self._consistency,
            timeout_s=query.timeout_s,
        )
        # Lite returns BM25 as a distance, its negative; real servers return it as it is, which is never negative.
        scored = ((row, abs(score) if by_words else score) for row, score in hits)
        return [ScoredEntry(rows.parse_entry(collection, row), score) for row, score in scored]

    def entries(self, ids: Sequence[str], *, access: Access, timeout_s: float) -> Mapping[str, Entry]:
        entries: dict[str, Entry] = {}
        deadline_s = time.monotonic() + timeout_s
        for collection in Collection:
            remaining = [id_ for id_ in ids if id_ not in entries]
            matches = self._served_rows(collection, remaining, rows.ENTRY_COLUMNS, access, deadline_s)
            entries.update((row["id"], rows.parse_entry(collection, row)) for row in matches)
        return entries

    def vectors(
        self, channel: Channel, ids: Sequence[str], *, access: Access, timeout_s: float
    ) -> Mapping[str, Float32]:
        field = channel.field
        if field not in self._targets.searched_layout(channel.collection).dense_fields:
            raise PermanentError(f"the store has no vectors of channel {channel}")
        deadline_s = time.monotonic() + timeout_s
        matches = self._served_rows(channel.collection, ids, ("id", "tenant", ACL, field.value), access, deadline_s)
        vectors = {row["id"]: np.asarray(row[field.value], dtype=np.float32) for row in matches}
        return {id_: vector for id_, vector in vectors.items() if vector.any()}

    def texts(
        self, collection: Collection, *, access: Access, after: str, limit: int, timeout_s: float
    ) -> Sequence[EntryText]:
        if (name := self._targets.searched(collection)) is None:
            return []
        page = self._row_io.page(
            name,
            f"{self._allowing(access)} and id > {literal(after)}",
            rows.ENTRY_TEXT_COLUMNS,
            limit=limit,
            consistency=self._consistency,
            deadline_s=time.monotonic() + timeout_s,
        )
        return [EntryText(row["id"], int(row["part"]), row["title"], row["text"]) for row in page]

    def _index_type(self) -> str:
        backend = self._connection.backend
        default, product = backend.capabilities.dense_index, backend.capabilities.product
        return vector_index.index_type(self._index, default, backend.index_types, product)

    def _search_params(self, limit: int) -> dict[str, object]:
        """Returns how far to look, also for a collection that keeps an index of the backend's usual type."""
        kinds = (self._connection.backend.capabilities.dense_index, self._index_type())
        params: dict[str, object] = {}
        for kind in kinds:
            params |= vector_index.search_params(self._index, kind, limit)
        return params

    def _expression(self, where: Filter) -> str:
        return to_expression(where, search_lists=self._connection.backend.searches_lists)

    def select(
        self, collection: Collection, where: Filter, *, access: Access, limit: int, timeout_s: float
    ) -> Sequence[Entry]:
        if (name := self._targets.searched(collection)) is None:
            return []
        page = self._row_io.page(
            name,
            f"{self._allowing(access)} and {self._expression(where)}",
            rows.ENTRY_COLUMNS,
            limit=limit,
            consistency=self._consistency,
            deadline_s=time.monotonic() + timeout_s,
        )
        return [rows.parse_entry(collection, row) for row in page]

    def assets_in(self, collection: Collection, access: Access) -> int:
        # The parts of an asset have no gaps, so that each asset has a part 0.
        name = self._targets.searched_name(collection)
        return self._row_io.count(name, f"{self._allowing(access)} and part == 0")

    # --- EntryScan --------------------------------------------------------------------------------------------------

    def get(self, collection: Collection, ids: Sequence[str]) -> Sequence[Entry]:
        if not self._targets.has(collection):
            return []
        layout = self._targets.layout(collection)
        fields = tuple(layout.dense_fields)
        columns = (*layout.entry_columns, *(field.value for field in fields))
        stored = self._row_io.by_ids(self._targets.entries(collection), ids, columns)
        return [rows.parse_entry(collection, row, fields) for row in stored]

    def count(self, collection: Collection) -> int:
        return self._row_io.count(self._targets.entries(collection)) if self._targets.has(collection) else 0

    def count_assets(self) -> int:
        return self._row_io.count(self._targets.assets)

    def scan_media(
        self, *, tenant: str | None = None, key: str | None = None, batch: int = 1000
    ) -> Iterator[Sequence[str]]:
        condition = "" if tenant is None else _owned(tenant, key)
        for page in self._row_io.pages(self._targets.assets, ("id", "uri"), batch, condition):
            yield [row["uri"] for row in page]
        for collection in self._targets.with_thumbnails():
            for page in self._row_io.pages(self._targets.entries(collection), ("id", "thumbnail"), batch, condition):
                yield [row["thumbnail"] for row in page]

    def scan_asset_rows(
        self, *, tenant: str | None = None, key: str | None = None, before_ms: int | None = None, batch: int = 1000
    ) -> Iterator[Sequence[AssetRow]]:
        conditions = [] if tenant is None else [_owned(tenant, key)]
        conditions += [] if before_ms is None else [f"timestamp_ms < {before_ms}"]
        condition = " and ".join(conditions)
        for page in self._row_io.pages(self._targets.assets, rows.ASSET_COLUMNS, batch, condition):
            yield [rows.parse_asset_row(row) for row in page if not rows.is_checkpoint(row)]

    def scan_asset_states(self, *, batch: int = 1000) -> Iterator[Sequence[AssetState]]:
        for page in self._row_io.pages(self._targets.assets, rows.ASSET_STATE_COLUMNS, batch):
            yield [rows.parse_asset_state(row) for row in page if not rows.is_checkpoint(row)]

    def scan_entry_keys(self, collection: Collection, *, batch: int = 1000) -> Iterator[Sequence[EntryKey]]:
        if not self._targets.has(collection):
            return
        for page in self._row_io.pages(self._targets.entries(collection), rows.ENTRY_KEY_COLUMNS, batch):
            yield [rows.parse_entry_key(row) for row in page]

    def scan_entries(self, collection: Collection, *, batch: int = 1000) -> Iterator[Sequence[Entry]]:
        if not self._targets.has(collection):
            return
        layout = self._targets.layout(collection)
        fields = tuple(layout.dense_fields)
        columns = (*layout.entry_columns, *(field.value for field in fields))
        for page in self._row_io.pages(self._targets.entries(collection), columns, min(batch, MAX_READ_IDS)):
            yield [rows.parse_entry(collection, row, fields) for row in page]

    # --- rows -------------------------------------------------------------------------------------------------------

    def _allowing(self, access: Access) -> str:
        return access_expression(access, arrays=self._connection.backend.label_arrays)

    def _as_kept(self, row: rows.Row) -> rows.Row:
        """Returns a row with its labels as this backend keeps them."""
        return row if self._connection.backend.label_arrays else {**row, ACL: acl_text(row[ACL])}

    def _served_rows(
        self, collection: Collection, ids: Sequence[str], columns: Sequence[str], access: Access, deadline_s: float
    ) -> list[rows.Row]:
        """Returns allowed rows of the collection that is searched; none if there is no such collection."""
        if (name := self._targets.searched(collection)) is None:
            return []
        by_key = self._connection.backend.finds_parts_by_key
        matches = self._row_io.lookup(
            name,
            list(dict.fromkeys(ids)),
            columns,
            condition="" if by_key else f" and {self._allowing(access)}",
            consistency=self._consistency,
            deadline_s=deadline_s,
        )
        return [row for row in matches if row["tenant"] == access.tenant and access.allows(parse_acl(row[ACL]))]

    def _asset_collection_rows(self, ids: Sequence[str]) -> list[rows.Row]:
        guarantee = self._read_timestamps.required_for(ids)
        return self._row_io.by_ids(self._targets.assets, ids, rows.ASSET_COLUMNS, guarantee=guarantee)

    def _put_asset_collection_rows(self, written: Iterable[rows.Row]) -> None:
        placeholder = {schema.PLACEHOLDER: schema.PLACEHOLDER_VALUE}
        newest = {row["id"]: self._as_kept({**row, **placeholder}) for row in written}
        self._write(self._targets.assets, list(newest.values()), newest)

    def _write(self, name: str, written: Sequence[rows.Row], keys: Iterable[str]) -> None:
        """Writes rows that reads look up by these keys."""
        try:
            timestamp = self._row_io.write(name, written)
        except BaseException:  # whatever interrupted the write: some of it may have been applied
            self._read_timestamps.mark_unknown(keys)
            raise
        self._read_timestamps.record_write(keys, timestamp)

    def _delete(self, name: str, ids: Sequence[str]) -> None:
        """Deletes rows. Their assets are not known here, so all later reads must see the deletion."""
        self._row_io.delete(name, ids)
        if ids and self._read_timestamps.required_for(()) != STRONG:
            self.catch_up()


def _owned(tenant: str, key: str | None) -> str:
    """Returns the condition on rows of a tenant, or of its assets of one key."""
    of_tenant = f"tenant == {literal(tenant)}"
    return of_tenant if key is None else f"{of_tenant} and key == {literal(key)}"
