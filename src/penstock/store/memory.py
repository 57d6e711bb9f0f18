"""The store in memory, for tests and small use. It holds the same rows as Milvus and gives the same answers."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from penstock.errors import ConfigError, PermanentError
from penstock.records import (
    AUDIBLE_COLLECTIONS,
    THUMBNAIL_COLLECTIONS,
    Access,
    AssetRef,
    AssetRow,
    Channel,
    Checkpoint,
    Collection,
    Entry,
    Field,
    Float32,
    ScoredEntry,
)
from penstock.store import lexical, provenance, rows
from penstock.store.access import allows
from penstock.store.base import AssetState, Capabilities, EntryKey, EntryQuery, EntryText, IndexSpec, Store
from penstock.store.filter_semantics import matches
from penstock.store.filters import Filter
from penstock.store.memory_aliases import MemoryAliases
from penstock.store.names import ASSET, PhysicalCollection, asset_collection, check_served_version, entry_collection
from penstock.store.provenance import EncoderInfo

_K1, _B = 1.2, 0.75  # BM25's usual values (Robertson and Zaragoza, 2009), Milvus's defaults


@dataclass
class _Table:
    """One physical collection.

    Attributes:
        fields: its vector fields.
        encoders: of the dense ones.
        entries: by id.
        terms: by id of its entry; empty without the field `LEXICAL`.
    """

    fields: tuple[Field, ...] = ()
    encoders: Mapping[Field, EncoderInfo] = dataclasses.field(default_factory=dict)
    entries: dict[str, Entry] = dataclasses.field(default_factory=dict)
    terms: dict[str, Counter[str]] = dataclasses.field(default_factory=dict)
    assets: dict[str, AssetRow] = dataclasses.field(default_factory=dict)
    checkpoints: dict[str, Checkpoint] = dataclasses.field(default_factory=dict)

    @property
    def dims(self) -> dict[Field, int]:
        return {field: info.dim for field, info in self.encoders.items()}


class MemoryStore(Store):
    """The store of a single process. Safe to call from several threads.

    Over the limit because it implements every method of `Store`, each in a few lines.

    Args:
        capabilities: of the backend that it stands for.
        before_write: called before each request that changes rows; what it raises stops the write.
        version: searches go to the collections of this version; None: to the aliases.
        beside: a store whose collections this one shares, as two clients of one server do.
    """

    def __init__(
        self,
        capabilities: Capabilities | None = None,
        before_write: Callable[[], None] = lambda: None,
        *,
        version: int | None = None,
        beside: MemoryStore | None = None,
    ) -> None:
        self._before_write = before_write
        self._capabilities = capabilities or Capabilities(
            product="memory", lexical=True, vector_fields=4, shards=False, concurrent_writes=True
        )
        self._tables: dict[str, _Table] = {} if beside is None else beside._tables
        self._aliases: dict[str, PhysicalCollection] = {} if beside is None else beside._aliases
        self._lock: threading.RLock = threading.RLock() if beside is None else beside._lock
        self._spec: IndexSpec | None = None
        self._version = version
        self.aliases = MemoryAliases(self._tables, self._aliases, self._lock)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def ensure(self, spec: IndexSpec) -> None:
        with self._lock:
            targets = {
                collection: entry_collection(collection, spec.model_slug[collection], spec.version)
                for collection in spec.vectors
            }
            self._refuse_other_models(targets, spec)
            for collection, target in targets.items():
                vectors = spec.vectors[collection]
                fields = provenance.supported_fields(collection, spec, self._capabilities)
                self._tables.setdefault(str(target), _Table(fields, provenance.encoders_of(fields, vectors)))
            assets = asset_collection(spec.version)
            self._tables.setdefault(str(assets), _Table())
            if self._aliases.get(ASSET, assets) == assets:
                for target in (*targets.values(), assets):
                    self._aliases.setdefault(target.alias, target)
            self._spec = spec

    def ping(self) -> None:
        return

    def close(self) -> None:
        return

    # --- EntryWriter ------------------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Does nothing: reads see every write immediately."""

    def upsert(self, collection: Collection, entries: Sequence[Entry]) -> None:
        self._before_write()
        with self._lock:
            table = self._table(collection)
            stored = [_as_stored(entry, table.dims) for entry in rows.ordered_by_part(entries)]
            table.entries.update((entry.id, entry) for entry in stored)
            if Field.LEXICAL in table.fields:
                table.terms.update((entry.id, Counter(lexical.terms_of(entry).split())) for entry in stored)

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        self._before_write()
        with self._lock:
            for id_ in ids:
                self._table(collection).entries.pop(id_, None)
                self._table(collection).terms.pop(id_, None)

    def entry_ids(self, collection: Collection, asset_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        with self._lock:
            requested = set(asset_ids)
            ids_of: dict[str, set[str]] = {}
            for entry in self._table(collection).entries.values():
                if entry.asset.id in requested:
                    ids_of.setdefault(entry.asset.id, set()).add(entry.id)
            return {asset_id: frozenset(ids) for asset_id, ids in ids_of.items()}

    def asset_rows(self, asset_ids: Sequence[str]) -> Mapping[str, AssetRow]:
        with self._lock:
            assets = self._asset_table().assets
            return {id_: assets[id_] for id_ in asset_ids if id_ in assets}

    def put_asset_rows(self, asset_rows: Sequence[AssetRow]) -> None:
        self._before_write()
        with self._lock:
            stored = {row.asset.id: rows.parse_asset_row(rows.asset_row(row)) for row in asset_rows}
            self._asset_table().assets.update(stored)

    def checkpoints(self, asset_ids: Sequence[str]) -> Mapping[str, Checkpoint]:
        with self._lock:
            stored = self._asset_table().checkpoints
            return {id_: stored[id_] for id_ in asset_ids if id_ in stored}

    def put_checkpoints(self, checkpoints: Sequence[Checkpoint]) -> None:
        self._before_write()
        with self._lock:
            stored = {
                checkpoint.asset.id: rows.parse_checkpoint(rows.checkpoint_row(checkpoint))
                for checkpoint in checkpoints
            }
            self._asset_table().checkpoints.update(stored)

    def drop_checkpoints(self, asset_ids: Sequence[str]) -> None:
        self._before_write()
        with self._lock:
            for id_ in asset_ids:
                self._asset_table().checkpoints.pop(id_, None)

    # --- EntrySearch ------------------------------------------------------------------------------------------------

    def channels(self) -> frozenset[Channel]:
        with self._lock:
            searched = [collection for collection in Collection if self._searched(collection) is not None]
            return frozenset(
                Channel(collection, field) for collection in searched for field in self._searchable_fields(collection)
            )

    def search(self, query: EntryQuery) -> Sequence[ScoredEntry]:
        channel, content = query.channel, query.content
        with self._lock:
            table = self._searched_table(channel.collection)
            if channel.field not in table.fields:
                raise PermanentError(f"the store has no channel {channel}")
            entries = list(table.entries.values())
            if isinstance(content, str):
                question = Counter(lexical.terms_of_question(content).split())
                scores = _bm25([table.terms[entry.id] for entry in entries], question)
            else:
                scores = _cosines(entries, channel.field, content)
        scored = [
            ScoredEntry(_without_vectors(entry), score)
            for entry, score in zip(entries, scores, strict=True)
            if allows(query.access, entry) and (score > 0 or not isinstance(content, str))
            if query.where is None or matches(query.where, entry)
        ]
        return sorted(scored, key=lambda hit: -hit.score)[: query.limit]

    def entries(self, ids: Sequence[str], *, access: Access, timeout_s: float) -> Mapping[str, Entry]:
        with self._lock:
            searched = [table for collection in Collection if (table := self._searched(collection)) is not None]
            stored = [table.entries[id_] for table in searched for id_ in ids if id_ in table.entries]
        return {entry.id: _without_vectors(entry) for entry in stored if allows(access, entry)}

    def vectors(
        self, channel: Channel, ids: Sequence[str], *, access: Access, timeout_s: float
    ) -> Mapping[str, Float32]:
        with self._lock:
            table = self._searched_table(channel.collection)
            if channel.field not in table.dims:
                raise PermanentError(f"the store has no vectors of channel {channel}")
            stored = [table.entries[id_] for id_ in ids if id_ in table.entries]
        return {
            entry.id: entry.vectors[channel.field]
            for entry in stored
            if allows(access, entry) and channel.field in entry.vectors
        }

    def texts(
        self, collection: Collection, *, access: Access, after: str, limit: int, timeout_s: float
    ) -> Sequence[EntryText]:
        with self._lock:
            if self._searched(collection) is None:
                return []
            stored = [entry for entry in self._searched_table(collection).entries.values() if entry.id > after]
        stored = sorted((entry for entry in stored if allows(access, entry)), key=lambda entry: entry.id)
        return [EntryText(entry.id, entry.part, entry.title, entry.text) for entry in stored[:limit]]

    def select(
        self, collection: Collection, where: Filter, *, access: Access, limit: int, timeout_s: float
    ) -> Sequence[Entry]:
        with self._lock:
            if self._searched(collection) is None:
                return []
            stored = list(self._searched_table(collection).entries.values())
        selected = [entry for entry in stored if allows(access, entry) and matches(where, entry)]
        return [_without_vectors(entry) for entry in sorted(selected, key=lambda entry: entry.id)[:limit]]

    def assets_in(self, collection: Collection, access: Access) -> int:
        with self._lock:
            entries = self._searched_table(collection).entries.values()
            return sum(allows(access, entry) and entry.part == 0 for entry in entries)

    # --- EntryScan --------------------------------------------------------------------------------------------------

    def get(self, collection: Collection, ids: Sequence[str]) -> Sequence[Entry]:
        with self._lock:
            entries = self._table(collection).entries
            return [entries[id_] for id_ in dict.fromkeys(ids) if id_ in entries]

    def count(self, collection: Collection) -> int:
        with self._lock:
            return len(self._table(collection).entries)

    def count_assets(self) -> int:
        with self._lock:
            table = self._asset_table()
            return len(table.assets) + len(table.checkpoints)

    def scan_media(
        self, *, tenant: str | None = None, key: str | None = None, batch: int = 1000
    ) -> Iterator[Sequence[str]]:
        def is_owned(asset: AssetRef) -> bool:
            return (tenant is None or asset.tenant == tenant) and (key is None or asset.key == key)

        with self._lock:
            table = self._asset_table()
            uris = [row.uri for row in table.assets.values() if is_owned(row.asset)]
            uris += [checkpoint.uri for checkpoint in table.checkpoints.values() if is_owned(checkpoint.asset)]
            for collection in sorted(THUMBNAIL_COLLECTIONS.intersection(self._spec.model_slug if self._spec else ())):
                uris += [entry.thumbnail for entry in self._table(collection).entries.values() if is_owned(entry.asset)]
        yield from rows.chunks(uris, batch)

    def scan_asset_rows(
        self, *, tenant: str | None = None, key: str | None = None, before_ms: int | None = None, batch: int = 1000
    ) -> Iterator[Sequence[AssetRow]]:
        with self._lock:
            assets = sorted(self._asset_table().assets.items())
        scanned = [
            row
            for _, row in assets
            if tenant in (None, row.asset.tenant)
            and key in (None, row.asset.key)
            and (before_ms is None or row.version.timestamp_ms < before_ms)
        ]
        yield from rows.chunks(scanned, batch)

    def scan_asset_states(self, *, batch: int = 1000) -> Iterator[Sequence[AssetState]]:
        with self._lock:
            assets = sorted(self._asset_table().assets.items())
            states = [rows.parse_asset_state(rows.asset_row(row)) for _, row in assets]
        yield from rows.chunks(states, batch)

    def scan_entry_keys(self, collection: Collection, *, batch: int = 1000) -> Iterator[Sequence[EntryKey]]:
        with self._lock:
            entries = sorted(self._table(collection).entries.items())
            keys = [rows.parse_entry_key(rows.entry_row(entry)) for _, entry in entries]
        yield from rows.chunks(keys, batch)

    def scan_entries(self, collection: Collection, *, batch: int = 1000) -> Iterator[Sequence[Entry]]:
        last = ""
        while True:
            with self._lock:
                stored = self._table(collection).entries
                following = sorted(id_ for id_ in stored if id_ > last)[:batch]
                page = [stored[id_] for id_ in following]
            if not page:
                return
            yield page
            last = page[-1].id

    # --- collections ------------------------------------------------------------------------------------------------

    def _refuse_other_models(self, targets: Mapping[Collection, PhysicalCollection], spec: IndexSpec) -> None:
        for collection, target in targets.items():
            served = self._aliases.get(target.alias, target)
            for name in {target, served if served.version == target.version else target}:
                if table := self._tables.get(str(name)):
                    provenance.check_compatible(str(name), table.encoders, spec.vectors[collection])
        for target in targets.values():
            check_served_version(target, self._aliases.get(target.alias))

    def _table(self, collection: Collection) -> _Table:
        if self._spec is None:
            raise ConfigError(f"the store has no collection {collection}: call ensure first")
        if collection in AUDIBLE_COLLECTIONS and collection not in self._spec.model_slug:
            name = self._of_version(collection, self._spec.version)
            return _Table() if name is None else self._tables[str(name)]
        return self._tables[str(entry_collection(collection, self._spec.model_slug[collection], self._spec.version))]

    def _searched(self, collection: Collection) -> _Table | None:
        """Returns the collection of the searched version, or the one behind the alias; None: there is none."""
        alias, version = collection.value, self._version
        name = self._aliases.get(alias) if version is None else self._of_version(collection, version)
        return None if name is None else self._tables[str(name)]

    def _of_version(self, collection: Collection, version: int) -> PhysicalCollection | None:
        """Returns the collection of a version: the served one if it is of that version, else any."""
        candidates = [name for name in self.aliases.candidates(collection.value) if name.version == version]
        served = self._aliases.get(collection.value)
        return served if served in candidates else next(reversed(candidates), None)

    def _searched_table(self, collection: Collection) -> _Table:
        if (table := self._searched(collection)) is None:
            raise ConfigError(f"the store has no collection {collection}: call ensure first")
        return table

    def _asset_table(self) -> _Table:
        if self._spec is None:
            raise ConfigError("the store has no asset rows: call ensure first")
        return self._tables[str(asset_collection(self._spec.version))]

    def _searchable_fields(self, collection: Collection) -> Iterator[Field]:
        table = self._searched_table(collection)
        vectors = self._spec.vectors.get(collection, {}) if self._spec else {}
        return (
            field for field in table.fields if provenance.is_filled_by(vectors.get(field), table.encoders.get(field))
        )


def _as_stored(entry: Entry, dims: Mapping[Field, int]) -> Entry:
    """Returns the entry as Milvus would return it."""
    vectors = rows.dense_columns(entry, dims)
    return rows.parse_entry(entry.collection, {**rows.entry_row(entry), **vectors}, tuple(dims))


def _without_vectors(entry: Entry) -> Entry:
    return rows.parse_entry(entry.collection, rows.entry_row(entry))


def _cosines(entries: Sequence[Entry], field: Field, query: Float32) -> list[float]:
    """Returns the cosine of each entry; 0 for an entry without a vector of this field."""
    return [float(np.dot(entry.vectors[field], query)) if field in entry.vectors else 0.0 for entry in entries]


def _bm25(texts: Sequence[Counter[str]], question: Counter[str]) -> list[float]:
    """Returns Okapi BM25 of each text; 0 for a text without a term of the question."""
    average_length = sum(text.total() for text in texts) / max(len(texts), 1) or 1.0
    scores = [0.0] * len(texts)
    for term, weight in question.items():
        containing = sum(term in text for text in texts)
        rarity = math.log(1 + (len(texts) - containing + 0.5) / (containing + 0.5)) * weight
        for index, text in enumerate(texts):
            count = text[term]
            scores[index] += rarity * count * (_K1 + 1) / (count + _K1 * (1 - _B + _B * text.total() / average_length))
    return scores
