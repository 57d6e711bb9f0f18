"""Writes, deletes, reads, pages and searches the rows of one collection."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pymilvus import MilvusClient
from pymilvus.grpc_gen.milvus_pb2 import UpsertRequest

from penstock.errors import PermanentError, UnavailableError
from penstock.records import Float32
from penstock.store.filter_semantics import literal
from penstock.store.milvus.client import Connection
from penstock.store.milvus.dialect import MAX_RESULT_ROWS
from penstock.store.milvus.read_timestamps import STRONG
from penstock.store.milvus.upsert_codec import upsert_requests
from penstock.store.rows import Row, chunks

MAX_WRITE_BYTES = 8 * 1024 * 1024  # of an upsert, except for a single larger row; gRPC servers take 64 MB by default
MAX_READ_IDS = 1_000  # primary keys in a read of whole rows: 64 MB is enough for 1,000 rows of the longest text
MAX_KEY_READ_IDS = 16_000  # in a read of keys alone; Milvus returns at most 16,384 rows to a limited query


class RowIO:
    """Access to the rows of a collection, which is named in each call and may be an alias.

    Reads are strongly consistent unless they are given a guarantee timestamp; a search takes its own consistency level.
    Errors are those of `Connection`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._timeout_s = connection.timeout_s

    def write(self, name: str, rows: Sequence[Row]) -> int:
        """Upserts rows in order, in requests of at most `MAX_WRITE_BYTES`.

        The next attempt overwrites rows that a failed call has left.

        Returns:
            the server's timestamp of the latest request; 0 for no rows.
        """
        requests = upsert_requests(name, rows, MAX_WRITE_BYTES) if rows else ()
        return max((self._write(name, request) for request in requests), default=0)

    def delete(self, name: str, ids: Sequence[str]) -> None:
        """Deletes rows by primary key, in order."""
        for chunk in chunks(ids, self._connection.backend.max_ids_per_delete):
            self._delete(name, list(chunk))

    def query(
        self,
        name: str,
        condition: str,
        columns: Sequence[str],
        *,
        guarantee: int = STRONG,
        limit: int | None = None,
        options: Mapping[str, str] = MappingProxyType({}),
    ) -> list[Row]:
        """Returns the rows that satisfy an expression.

        Args:
            name, condition, columns: what to read.
            guarantee: a timestamp of the server, up to which the read sees everything.
            limit: maximum number of rows; None: all.
            options: further ones of pymilvus.
        """
        return list(
            self._connection.call(
                f"reading {name}",
                lambda client: client.query(
                    name,
                    filter=condition,
                    output_fields=list(columns),
                    **({} if limit is None else {"limit": limit}),
                    **_consistency_options(guarantee),
                    timeout=self._timeout_s,
                    retry_on_rate_limit=False,
                    **options,
                ),
                collection=name,
            )
        )

    def entry_ids(self, name: str, asset_ids: Sequence[str], *, guarantee: int = STRONG) -> list[Row]:
        """Returns `id` and `asset` of all rows of these assets.

        A server limits the bytes of an answer (Milvus to 100 MB, a million of these rows): a refused request is sent
        in halves.
        """
        try:
            return self.query(name, f"asset in {literal(tuple(asset_ids))}", ("id", "asset"), guarantee=guarantee)
        except PermanentError:
            if len(asset_ids) == 1:
                raise
        middle = len(asset_ids) // 2
        halves = (asset_ids[:middle], asset_ids[middle:])
        return [row for half in halves for row in self.entry_ids(name, half, guarantee=guarantee)]

    def by_ids(
        self,
        name: str,
        ids: Sequence[str],
        columns: Sequence[str],
        *,
        guarantee: int = STRONG,
        max_ids: int = MAX_READ_IDS,
    ) -> list[Row]:
        """Returns those rows with these primary keys that exist, in no order."""
        return [
            row
            for chunk in chunks(ids, max_ids)
            for row in self.query(name, f"id in {literal(tuple(chunk))}", columns, guarantee=guarantee)
        ]

    def lookup(
        self,
        name: str,
        ids: Sequence[str],
        columns: Sequence[str],
        *,
        condition: str,
        consistency: str,
        deadline_s: float,
    ) -> list[Row]:
        """Returns those rows with these primary keys that satisfy a condition; none if there is no such collection.

        Args:
            name, ids, columns: what to read.
            condition: appended to the expression.
            consistency: a level by Milvus's names, as for `search`.
            deadline_s: on the monotonic clock; after it `UnavailableError` is raised.
        """
        return [
            row
            for chunk in chunks(ids, MAX_READ_IDS)
            for row in self._lookup(name, f"id in {literal(tuple(chunk))}{condition}", columns, consistency, deadline_s)
        ]

    def page(
        self, name: str, condition: str, columns: Sequence[str], *, limit: int, consistency: str, deadline_s: float
    ) -> list[Row]:
        """Returns the first rows by ascending primary key that satisfy a condition; none without such a collection.

        Args:
            name, condition, columns: what to read.
            limit: maximum number of rows; the server may allow fewer, and then more pages are read.
            consistency, deadline_s: as for `lookup`.
        """
        backend = self._connection.backend
        page: list[Row] = []
        while len(page) < limit:
            size = min(limit - len(page), backend.max_rows_per_page)
            beyond = f" and id > {literal(page[-1]['id'])}" if page else ""
            options = {"limit": size, **backend.paging}
            following = self._lookup(name, f"{condition}{beyond}", columns, consistency, deadline_s, options=options)
            if not following:  # not when it is short: Milvus 2.3 may return fewer rows than there are
                break
            page += sorted(following, key=lambda row: str(row["id"]))[:size]  # as in `pages`
        return page

    def _lookup(
        self,
        name: str,
        condition: str,
        columns: Sequence[str],
        consistency: str,
        deadline_s: float,
        *,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> list[Row]:
        timeout_s = deadline_s - time.monotonic()
        if timeout_s <= 0:
            raise UnavailableError(f"the store did not return rows of {name} in time")
        rows = self._connection.call_or_none(
            f"reading {name}",
            lambda client: client.query(
                name,
                filter=condition,
                output_fields=list(columns),
                consistency_level=consistency,
                timeout=timeout_s,
                retry_on_rate_limit=False,
                **options,
            ),
            collection=name,
        )
        return list(rows or ())

    def existing(self, name: str, ids: Sequence[str]) -> set[str]:
        """Returns those of the primary keys that exist."""
        return {row["id"] for row in self.by_ids(name, ids, ("id",), max_ids=MAX_KEY_READ_IDS)}

    def pages(self, name: str, columns: Sequence[str], batch: int, condition: str = "") -> Iterator[list[Row]]:
        """Yields all rows in pages, by ascending primary key; with an expression, those that satisfy it.

        A row that exists throughout is returned once.
        """
        backend = self._connection.backend
        limit, last = min(batch, backend.max_rows_per_page), ""
        beyond = f" and {condition}" if condition else ""
        while True:
            # Each shard returns its first `limit` rows, so the first `limit` of the union are the first of all; the
            # rows beyond them may have gaps and are read again.
            rows = self.query(name, f"id > {literal(last)}{beyond}", columns, limit=limit, options=backend.paging)
            page = sorted(rows, key=lambda row: str(row["id"]))[:limit]
            if not page:
                return
            yield page
            last = page[-1]["id"]

    def count(self, name: str, condition: str = "") -> int:
        """Returns the number of rows, or of those that satisfy an expression."""
        return int(self.query(name, condition, ("count(*)",))[0]["count(*)"])

    def search(
        self,
        name: str,
        field: str,
        query: Float32 | str,
        condition: str,
        columns: Sequence[str],
        *,
        limit: int,
        params: dict[str, Any],
        consistency: str,
        timeout_s: float,
    ) -> list[tuple[Row, float]]:
        """Returns the best rows with their scores, best first."""
        hits = self._connection.call(
            f"searching {name}.{field}",
            lambda client: client.search(
                name,
                data=[query],
                anns_field=field,
                filter=condition,
                limit=min(limit, MAX_RESULT_ROWS),
                output_fields=list(columns),
                search_params=params,
                consistency_level=consistency,
                timeout=timeout_s,
                retry_on_rate_limit=False,
            ),
            collection=name,
        )
        return [(hit["entity"], float(hit["distance"])) for hit in hits[0]]

    def _write(self, name: str, request: UpsertRequest) -> int:
        def send(client: MilvusClient) -> int:
            self._connection.before_write()  # here: `call` may load the collection for seconds, and send again
            return self._connection.upsert(client, request, timeout_s=self._timeout_s)

        return self._connection.call(f"writing {request.num_rows} rows to {name}", send, collection=name)

    def _delete(self, name: str, ids: list[str]) -> None:
        def send(client: MilvusClient) -> None:
            self._connection.before_write()
            client.delete(name, ids=ids, timeout=self._timeout_s, retry_on_rate_limit=False)

        self._connection.call(f"deleting {len(ids)} rows of {name}", send, collection=name)


def _consistency_options(guarantee: int) -> dict[str, Any]:
    if guarantee == STRONG:
        return {"consistency_level": "Strong"}
    return {"consistency_level": "Customized", "guarantee_timestamp": guarantee}
