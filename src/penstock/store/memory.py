"""The store in memory: for tests and small use. It holds the same rows as Milvus and answers the same."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from penstock.errors import ConfigError, PermanentError
from penstock.records import AssetRow, Channel, Checkpoint, Collection, Entry, Field, Float32, ScoredEntry
from penstock.store import provenance as makers
from penstock.store import rows
from penstock.store.base import AssetState, Capabilities, EntryKey, IndexSpec
from penstock.store.filter_semantics import matches
from penstock.store.filters import Filter
from penstock.store.names import ASSET, PhysicalCollection, asset_collection, check_served_version, entry_collection

_WORD = re.compile(r"\w+")
_K1, _B = 1.2, 0.75  # BM25's usual values (Robertson and Zaragoza, 2009), Milvus's defaults


@dataclass
class _Table:
    """One physical collection. `fields` are its vector fields, `dims` those of the dense ones."""

    fields: tuple[Field, ...] = ()
    made_by: str = "{}"
    entries: dict[str, Entry] = dataclasses.field(default_factory=dict)
    assets: dict[str, AssetRow] = dataclasses.field(default_factory=dict)
    progress: dict[str, Checkpoint] = dataclasses.field(default_factory=dict)

    @property
    def dims(self) -> Mapping[Field, int]:
        return {Field(name): int(made["dim"]) for name, made in json.loads(self.made_by).items()}


class MemoryStore:
    """`store.base.Store` in this process. Safe to call from several threads."""

    def __init__(self, capabilities: Capabilities | None = None) -> None:
        self._capabilities = capabilities or Capabilities(
            product="memory", lexical=True, vector_fields=4, shards=False, concurrent_writes=True
        )
        self._tables: dict[str, _Table] = {}
        self._aliases: dict[str, PhysicalCollection] = {}
        self._spec: IndexSpec | None = None
        self._lock = threading.RLock()

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def ensure(self, spec: IndexSpec) -> None:
        with self._lock:
            targets = {each: entry_collection(each, spec.model_slug[each], spec.version) for each in spec.vectors}
            self._refuse_other_models(targets, spec)
            for collection, target in targets.items():
                vectors = spec.vectors[collection]
                fields = makers.supported_fields(collection, vectors, self._capabilities)
                self._tables.setdefault(str(target), _Table(fields, makers.made_by(fields, vectors)))
                self._aliases.setdefault(target.alias, target)
            assets = asset_collection(spec.version)
            self._tables.setdefault(str(assets), _Table())
            self._aliases.setdefault(ASSET, assets)
            self._spec = spec

    def channels(self) -> frozenset[Channel]:
        with self._lock:
            served = [collection for collection in Collection if collection.value in self._aliases]
            return frozenset(Channel(each, field) for each in served for field in self._searchable(each))

    # ---- writing ----

    def catch_up(self) -> None:
        """Its reads see everything at once."""

    def upsert(self, collection: Collection, entries: Sequence[Entry]) -> None:
        with self._lock:
            table = self._table(collection)
            kept = [_kept(entry, table.dims) for entry in rows.ordered_by_part(entries)]
            table.entries.update((entry.id, entry) for entry in kept)

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        with self._lock:
            for each in ids:
                self._table(collection).entries.pop(each, None)

    def entry_ids(self, collection: Collection, asset_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        with self._lock:
            wanted = set(asset_ids)
            found: dict[str, set[str]] = {}
            for entry in self._table(collection).entries.values():
                if entry.asset.id in wanted:
                    found.setdefault(entry.asset.id, set()).add(entry.id)
            return {asset: frozenset(ids) for asset, ids in found.items()}

    def asset_rows(self, asset_ids: Sequence[str]) -> Mapping[str, AssetRow]:
        with self._lock:
            assets = self._assets()
            return {each: assets[each] for each in asset_ids if each in assets}

    def put_asset_rows(self, asset_rows: Sequence[AssetRow]) -> None:
        with self._lock:
            kept = {row.asset.id: rows.parse_asset_row(rows.asset_row(row)) for row in asset_rows}
            self._assets().update(kept)

    def checkpoints(self, asset_ids: Sequence[str]) -> Mapping[str, Checkpoint]:
        with self._lock:
            known = self._asset_table().progress
            return {each: known[each] for each in asset_ids if each in known}

    def put_checkpoints(self, checkpoints: Sequence[Checkpoint]) -> None:
        with self._lock:
            kept = {one.asset.id: rows.parse_checkpoint(rows.checkpoint_row(one)) for one in checkpoints}
            self._asset_table().progress.update(kept)

    def drop_checkpoints(self, asset_ids: Sequence[str]) -> None:
        with self._lock:
            for each in asset_ids:
                self._asset_table().progress.pop(each, None)

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
        with self._lock:
            table = self._served(channel.collection)
            if channel.field not in table.fields:
                raise PermanentError(f"the store has no channel {channel}")
            entries = list(table.entries.values())
        scores = _bm25(entries, query) if isinstance(query, str) else _cosines(entries, channel.field, query)
        found = [
            ScoredEntry(_without_vectors(entry), score)
            for entry, score in zip(entries, scores, strict=True)
            if entry.asset.tenant == tenant and (score > 0 or not isinstance(query, str))
            if where is None or matches(where, entry)
        ]
        return sorted(found, key=lambda each: -each.score)[:limit]

    def get(self, collection: Collection, ids: Sequence[str]) -> Sequence[Entry]:
        with self._lock:
            entries = self._table(collection).entries
            return [entries[each] for each in dict.fromkeys(ids) if each in entries]

    def count(self, collection: Collection) -> int:
        with self._lock:
            return len(self._table(collection).entries)

    def count_assets(self) -> int:
        with self._lock:
            return len(self._assets()) + len(self._asset_table().progress)

    def scan_assets(self, *, batch: int = 1000) -> Iterator[Sequence[AssetRow]]:
        with self._lock:
            found = [row for _, row in sorted(self._assets().items())]
        yield from rows.chunks(found, batch)

    def scan_media(self, *, batch: int = 1000) -> Iterator[Sequence[str]]:
        with self._lock:
            table = self._asset_table()
            found = [row.uri for row in table.assets.values()] + [one.uri for one in table.progress.values()]
            frames = self._aliases.get(Collection.FRAME.value)
            if frames is not None:
                found += [entry.thumbnail for entry in self._tables[str(frames)].entries.values()]
        yield from rows.chunks(found, batch)

    def scan_entries(self, collection: Collection, *, batch: int = 1000) -> Iterator[Sequence[Entry]]:
        with self._lock:
            found = [_without_vectors(entry) for _, entry in sorted(self._table(collection).entries.items())]
        yield from rows.chunks(found, batch)

    def scan_asset_states(self, *, batch: int = 1000) -> Iterator[Sequence[AssetState]]:
        with self._lock:
            found = [rows.parse_asset_state(rows.asset_row(row)) for _, row in sorted(self._assets().items())]
        yield from rows.chunks(found, batch)

    def scan_entry_keys(self, collection: Collection, *, batch: int = 1000) -> Iterator[Sequence[EntryKey]]:
        with self._lock:
            found = [
                rows.parse_entry_key(rows.entry_row(each))
                for _, each in sorted(self._table(collection).entries.items())
            ]
        yield from rows.chunks(found, batch)

    def ping(self) -> None:
        return

    def close(self) -> None:
        return

    # ---- where things are ----

    def _refuse_other_models(self, targets: Mapping[Collection, PhysicalCollection], spec: IndexSpec) -> None:
        for collection, target in targets.items():
            served = self._aliases.get(target.alias, target)
            for name in {target, served if served.version == target.version else target}:
                if table := self._tables.get(str(name)):
                    makers.check_compatible(
                        str(name), {makers.VECTORS_PROPERTY: table.made_by}, spec.vectors[collection]
                    )
        for target in targets.values():
            check_served_version(target, self._aliases.get(target.alias))

    def _table(self, collection: Collection) -> _Table:
        if self._spec is None:
            raise ConfigError(f"the store has no collection {collection}: call ensure first")
        return self._tables[str(entry_collection(collection, self._spec.model_slug[collection], self._spec.version))]

    def _served(self, collection: Collection) -> _Table:
        if collection.value not in self._aliases:
            raise ConfigError(f"the store has no collection {collection}: call ensure first")
        return self._tables[str(self._aliases[collection.value])]

    def _searchable(self, collection: Collection) -> Iterator[Field]:
        table = self._served(collection)
        asked = self._spec.vectors.get(collection, {}) if self._spec else {}
        made = json.loads(table.made_by)
        return (each for each in table.fields if makers.is_maker(asked.get(each), made.get(each)))

    def _assets(self) -> dict[str, AssetRow]:
        return self._asset_table().assets

    def _asset_table(self) -> _Table:
        if self._spec is None:
            raise ConfigError("the store has no asset rows: call ensure first")
        return self._tables[str(asset_collection(self._spec.version))]


def _kept(entry: Entry, dims: Mapping[Field, int]) -> Entry:
    """The entry as Milvus would give it back."""
    vectors = rows.dense_columns(entry, dims)
    return rows.parse_entry(entry.collection, {**rows.entry_row(entry), **vectors}, tuple(dims))


def _without_vectors(entry: Entry) -> Entry:
    return rows.parse_entry(entry.collection, rows.entry_row(entry))


def _cosines(entries: Sequence[Entry], name: Field, query: Float32) -> list[float]:
    """0 for an entry without a vector of this field."""
    return [float(np.dot(entry.vectors[name], query)) if name in entry.vectors else 0.0 for entry in entries]


def _bm25(entries: Sequence[Entry], query: str) -> list[float]:
    """Okapi BM25 of each entry's text; 0 where no word of the query is in it."""
    texts = [Counter(_WORD.findall(entry.text.lower())) for entry in entries]
    average = sum(text.total() for text in texts) / max(len(texts), 1) or 1.0
    scores = [0.0] * len(texts)
    for word in set(_WORD.findall(query.lower())):
        having = sum(word in text for text in texts)
        rarity = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
        for index, text in enumerate(texts):
            often = text[word]
            scores[index] += rarity * often * (_K1 + 1) / (often + _K1 * (1 - _B + _B * text.total() / average))
    return scores
