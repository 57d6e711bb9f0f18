"""Tries indexes of vectors on a Milvus server, in a collection that no alias serves."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from pymilvus import DataType, MilvusClient

from penstock.config import StoreSettings, VectorIndexSettings
from penstock.errors import UnavailableError
from penstock.records import Float32
from penstock.store.index_trials import FoundRows, IndexTrials, buckets_of
from penstock.store.milvus.client import Connection
from penstock.store.vector_index import build_params, search_params

PREFIX = "tune__"
_ROW, _BUCKET, _VECTOR = "row", "bucket", "vector"
_INSERT_BYTES = 8 * 1024 * 1024
# An index of 50,000 vectors takes Milvus 2.3.5 a minute on two busy cores.
_BUILD_TIMEOUT_S = 1_800.0
_POLL_S = 0.2


class MilvusTrials(IndexTrials):
    """Trials on a server.

    Args:
        settings: `uri` must be set. The collection is in its database.
        wait: waits between two questions whether an index is complete; handed in by tests.
    """

    def __init__(self, settings: StoreSettings, wait: Callable[[float], None] = time.sleep) -> None:
        self._connection = Connection(settings.model_copy(update={"timeout_s": max(settings.timeout_s, 120.0)}))
        self._wait = wait
        self._name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
        self._dim = 0
        self._count = 0
        self._exists = False

    @property
    def product(self) -> str:
        return self._connection.backend.capabilities.product

    @property
    def index_types(self) -> tuple[str, ...]:
        return self._connection.backend.index_types

    def load(self, vectors: Float32) -> None:
        self._drop()
        self._count, self._dim = vectors.shape
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(_ROW, DataType.INT64, is_primary=True)
        schema.add_field(_BUCKET, DataType.INT64)
        schema.add_field(_VECTOR, DataType.FLOAT_VECTOR, dim=self._dim)
        self._call("creating", lambda client: client.create_collection(self._name, schema=schema, num_shards=1))
        self._exists = True
        buckets = buckets_of(self._count).tolist()
        size = max(1, _INSERT_BYTES // (4 * self._dim))
        for start in range(0, self._count, size):
            rows = [
                {_ROW: start + place, _BUCKET: buckets[start + place], _VECTOR: vector}
                for place, vector in enumerate(vectors[start : start + size])
            ]
            self._call("filling", partial(_insert, self._name, rows))
        self._call("flushing", lambda client: client.flush(self._name))

    def build(self, index: VectorIndexSettings) -> float:
        if self._call("listing indexes of", lambda client: client.list_indexes(self._name)):
            self._call("releasing", lambda client: client.release_collection(self._name))
            self._call("dropping the index of", lambda client: client.drop_index(self._name, _VECTOR))
        params = MilvusClient.prepare_index_params()
        params.add_index(
            _VECTOR,
            index_type=index.type,
            metric_type="COSINE",
            params=dict(build_params(index, index.type, self._dim)),
        )
        started = time.perf_counter()
        self._call(f"building {index.type} of", lambda client: client.create_index(self._name, params))
        if self._connection.backend.readers_lag:  # Lite has built it when it answers
            self._wait_until_indexed()
        self._call("loading", lambda client: client.load_collection(self._name, timeout=_BUILD_TIMEOUT_S))
        first = np.zeros(self._dim, dtype=np.float32)
        first[0] = 1.0
        self.search(first, index, limit=1)  # Lite reads the index when it is first searched
        return time.perf_counter() - started

    def search(
        self, query: Float32, index: VectorIndexSettings, *, limit: int, below_bucket: int | None = None
    ) -> FoundRows:
        params = {"metric_type": "COSINE", "params": dict(search_params(index, index.type, limit))}
        condition = "" if below_bucket is None else f"{_BUCKET} < {below_bucket}"

        def send(client: MilvusClient) -> Any:
            return client.search(
                self._name,
                data=[query],
                anns_field=_VECTOR,
                filter=condition,
                limit=limit,
                output_fields=[_ROW],
                search_params=params,
                consistency_level="Eventually",
                retry_on_rate_limit=False,
            )

        started = time.perf_counter()
        (hits,) = self._call("searching", send)
        took_ms = (time.perf_counter() - started) * 1000
        return FoundRows(np.array([int(hit["entity"][_ROW]) for hit in hits], dtype=np.int64), took_ms)

    def restart(self) -> None:
        self._call("releasing", lambda client: client.release_collection(self._name))
        self._call("loading", lambda client: client.load_collection(self._name, timeout=_BUILD_TIMEOUT_S))

    def close(self) -> None:
        try:
            self._drop()
        finally:
            self._connection.close()

    def _drop(self) -> None:
        if self._exists:
            self._call("dropping", lambda client: client.drop_collection(self._name))
            self._exists = False

    def _wait_until_indexed(self) -> None:
        deadline_s = time.monotonic() + _BUILD_TIMEOUT_S
        while True:
            state = self._call("describing the index of", lambda client: client.describe_index(self._name, _VECTOR))
            if int(state["pending_index_rows"]) == 0 and int(state["indexed_rows"]) >= self._count:
                return
            if time.monotonic() > deadline_s:
                raise UnavailableError(f"{self.product} has not built the index within {_BUILD_TIMEOUT_S:.0f} s")
            self._wait(_POLL_S)

    def _call(self, doing: str, request: Callable[[MilvusClient], Any]) -> Any:
        return self._connection.call(f"{doing} the trial {self._name}", request)


def _insert(name: str, rows: Sequence[dict[str, Any]], client: MilvusClient) -> object:
    return client.insert(name, list(rows))
