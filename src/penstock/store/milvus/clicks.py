"""The click memory in Milvus: one physical collection for each encoder of questions."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pymilvus import CollectionSchema, DataType, MilvusClient
from pymilvus.milvus_client.index import IndexParams

from penstock.config import StoreSettings
from penstock.errors import PermanentError, UnavailableError
from penstock.records import Action, AssetRef, Choice, Float32, Position, Recalled
from penstock.records import Collection as EntryCollection
from penstock.store.clicks import NO_VECTOR, ClickTable, is_table, table_name
from penstock.store.filter_semantics import literal
from penstock.store.milvus.client import Connection
from penstock.store.milvus.dialect import MAX_RESULT_ROWS
from penstock.store.milvus.row_io import RowIO
from penstock.store.rows import MAX_BYTES, Row, chunks

logger = logging.getLogger(__name__)

PASSAGE = "passage"
_STRINGS: Mapping[str, int] = {
    "id": 32,
    "tenant": MAX_BYTES["tenant"],
    "topic": MAX_BYTES["topic"],
    "key": MAX_BYTES["key"],
    "asset": 32,
    "collection": 32,
    "entry": 32,
    "voter": 32,
    "question": 32,
    "action": 32,
    "encoder": 4_096,
    "shown": 4_096,
    "text": 65_535,
    "origin_topic": MAX_BYTES["topic"],
}
_INTEGERS = ("rank", "time_ms", "partition", "offset")
_COLUMNS = (*_STRINGS, *_INTEGERS)
_HNSW = {"M": 16, "efConstruction": 200}  # as of the entries, see `store.milvus.schema`
_MAX_ASSETS = 1_000  # of one condition


class MilvusClicks(ClickTable):
    """The table on a Milvus server. Safe to call from several threads; connects at the first call.

    Args:
        settings: `uri` must be set.
        encoder: of the questions; another one has a table of its own.
        for_queries: takes the read-only token, if there is one.

    Attributes:
        settings: as given.
        name: of the collection.
    """

    def __init__(self, settings: StoreSettings, encoder: str, *, for_queries: bool = False) -> None:
        self.settings = settings
        self._connection = Connection(settings, for_queries=for_queries)
        self._rows = RowIO(self._connection)
        self._consistency = settings.consistency
        self.name = table_name(encoder)

    def ensure(self, dim: int) -> None:
        if self._exists() or self._connection.is_read_only:
            return
        timeout_s = self._connection.timeout_s
        logger.info("creating collection %s", self.name)
        try:
            self._connection.call(
                f"creating collection {self.name}",
                lambda client: client.create_collection(
                    self.name,
                    schema=self._schema(dim),
                    index_params=self._indexes(),
                    consistency_level=self._consistency,
                    timeout=timeout_s,
                ),
            )
        except (PermanentError, UnavailableError):
            if not self._exists():  # another driver was first
                raise

    def put(self, choices: Sequence[Choice]) -> None:
        self._rows.write(self.name, [_row(choice) for choice in choices])

    def of_ids(self, ids: Sequence[str]) -> Mapping[str, Choice]:
        if not ids or not self._exists():
            return {}
        return {row["id"]: _choice(row) for row in self._rows.by_ids(self.name, ids, _COLUMNS)}

    def drop(self, ids: Sequence[str]) -> None:
        if ids and self._exists():
            self._rows.delete(self.name, ids)

    def drop_assets(self, asset_ids: Collection[str]) -> None:
        for chunk in chunks(sorted(asset_ids), _MAX_ASSETS):
            self._drop_where(f"asset in {literal(tuple(chunk))}")

    def drop_tenant(self, tenant: str, key: str | None = None) -> int:
        return self._drop_where(_of_tenant(tenant, key))

    def recall(self, vector: Float32, tenant: str, *, limit: int, timeout_s: float) -> Sequence[Recalled]:
        limit = min(limit, MAX_RESULT_ROWS)
        params: dict[str, Any] = {"metric_type": "COSINE", "params": {"ef": max(64, limit)}}
        hits = self._connection.call_or_none(
            f"searching {self.name}.{PASSAGE}",
            lambda client: client.search(
                self.name,
                data=[vector],
                anns_field=PASSAGE,
                filter=f"tenant == {literal(tenant)}",
                limit=limit,
                output_fields=list(_COLUMNS),
                search_params=params,
                consistency_level=self._consistency,
                timeout=timeout_s,
                retry_on_rate_limit=False,
            ),
            collection=self.name,
        )
        return [Recalled(_choice(hit["entity"]), float(hit["distance"])) for hit in (hits[0] if hits else ())]

    def scan(self, *, with_vectors: bool = False, batch: int = 1000) -> Iterator[Sequence[Choice]]:
        if not self._exists():
            return
        for page in self._rows.pages(self.name, (*_COLUMNS, PASSAGE) if with_vectors else _COLUMNS, batch):
            yield [_choice(row) for row in page]

    def close(self) -> None:
        self._connection.close()

    def _exists(self) -> bool:
        described = self._connection.call_or_none(
            f"describing {self.name}",
            lambda client: client.describe_collection(self.name, timeout=self._connection.timeout_s),
        )
        return described is not None

    def _drop_where(self, condition: str) -> int:
        return _drop_where(self._rows, self.name, condition) if self._exists() else 0

    def _schema(self, dim: int) -> CollectionSchema:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        partition_key = self._connection.backend.partition_key
        for name, length in _STRINGS.items():
            schema.add_field(
                name,
                DataType.VARCHAR,
                max_length=length,
                is_primary=name == "id",
                is_partition_key=name == "tenant" and partition_key,
            )
        for name in _INTEGERS:
            schema.add_field(name, DataType.INT64)
        schema.add_field(PASSAGE, DataType.FLOAT_VECTOR, dim=dim)
        return schema

    def _indexes(self) -> IndexParams:
        indexes = MilvusClient.prepare_index_params()
        backend = self._connection.backend
        dense = backend.capabilities.dense_index
        indexes.add_index(PASSAGE, index_type=dense, metric_type="COSINE", params=_HNSW if dense == "HNSW" else {})
        if backend.scalar_index:
            for name in ("asset", "tenant"):
                indexes.add_index(name, index_type=backend.scalar_index)
        return indexes


def forget_tenant(settings: StoreSettings, tenant: str, key: str | None = None) -> int:
    """Removes the choices of a tenant, or of its assets of one key, from all tables.

    Returns:
        how many there were.

    Raises:
        UnavailableError, PermanentError: as the methods of `ClickTable` do.
    """
    connection = Connection(settings)
    try:
        names = connection.call(
            "listing collections", lambda client: client.list_collections(timeout=settings.timeout_s)
        )
        tables = filter(is_table, names)
        return sum(_drop_where(RowIO(connection), name, _of_tenant(tenant, key)) for name in tables)
    finally:
        connection.close()


def _of_tenant(tenant: str, key: str | None) -> str:
    of_tenant = f"tenant == {literal(tenant)}"
    return of_tenant if key is None else f"{of_tenant} and key == {literal(key)}"


def _drop_where(rows: RowIO, name: str, condition: str) -> int:
    """Deletes by primary key, as an expression on other columns is refused before Milvus 2.3.6."""
    dropped = 0
    for page in rows.pages(name, ("id",), 1_000, condition):
        ids = [row["id"] for row in page]
        rows.delete(name, ids)
        dropped += len(ids)
    return dropped


def _row(choice: Choice) -> Row:
    asset = choice.asset
    return {
        "id": choice.id,
        "tenant": asset.tenant,
        "topic": asset.topic,
        "key": asset.key,
        "asset": asset.id,
        "collection": choice.collection.value,
        "entry": choice.entry_id,
        "voter": choice.voter,
        "question": choice.question,
        "action": choice.action.value,
        "encoder": choice.encoder,
        "shown": ",".join(choice.shown),
        "text": choice.text,
        "origin_topic": choice.origin.topic,
        "rank": choice.rank,
        "time_ms": choice.time_ms,
        "partition": choice.origin.partition,
        "offset": choice.origin.offset,
        PASSAGE: np.asarray(choice.vector, dtype=np.float32),
    }


def _choice(row: Mapping[str, Any]) -> Choice:
    vector = row.get(PASSAGE)
    return Choice(
        asset=AssetRef(row["tenant"], row["topic"], row["key"]),
        collection=EntryCollection(row["collection"]),
        entry_id=row["entry"],
        voter=row["voter"],
        question=row["question"],
        vector=NO_VECTOR if vector is None else np.asarray(vector, dtype=np.float32),
        encoder=row["encoder"],
        action=Action(row["action"]),
        rank=int(row["rank"]),
        shown=tuple(filter(None, row["shown"].split(","))),
        time_ms=int(row["time_ms"]),
        text=row["text"],
        origin=Position(row["origin_topic"], int(row["partition"]), int(row["offset"])),
    )
