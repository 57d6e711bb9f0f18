"""The differences between kinds of Milvus, by the version that the server reports.

No pymilvus here, so that the differences can be read, and tested, in one place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from penstock.store.base import Capabilities

_LITE = "milvus_lite-"
_VERSION = re.compile(r"(\d+)\.(\d+)")

MAX_RESULT_ROWS = 16_384  # Milvus returns at most this number to a limited query or search


@dataclass(frozen=True, slots=True)
class Backend:
    """One kind of server.

    Attributes:
        capabilities: as the rest of Penstock sees them.
        partition_key: whether `tenant` is the partition key. Not before 2.4: 2.3.5 puts upserted rows, unlike
            inserted ones, into a partition in which a filter on the key does not look for them. Not in Lite, which
            does not use it for reading and writes a file for each of 16 partitions.
        scalar_index: index of `asset` and `tenant`. Trie is 2.3's for strings. None in Lite: a filter over its small
            segments took 59 ms with an index and 78 ms without at 20,000 rows, but the index left 1,400 of 1,700
            upserts/s.
        tokenizer: takes the column of terms apart at its spaces. Lite has no tokenizer of that name, but its standard
            one leaves letters and digits whole, and terms have nothing else.
        finds_parts_by_key: entries of an asset are looked up by primary key, part by part, rather than by their asset:
            Lite reads every row for `asset in […]` (80 ms at 20,000 rows), and takes 4 ms for `id in […]`. So it does
            for a condition beside the keys, and a lookup for the query plane leaves the tenant's out.
        searches_lists: an attribute is searched among many values by halves. Lite, which reads the JSON of a row again
            for each comparison, takes a second of processor time for 10 values and 20,000 rows, 95 for 1,000 one by
            one, and 1.9 so.
        max_ids_per_delete: primary keys in one request. Lite logs one delete as one record, so that a crash leaves an
            asset whole or deleted.
        max_rows_per_page: rows in one page of a scan. Milvus returns at most 16,384 to a limited query. Lite has no
            limit, but reads all rows for every page.
        paging: options of a query that make its limit keep the first rows by primary key. Lite does so for iterators
            only; on real servers pymilvus reads that option as permission for the collection's default consistency.
        permanent_codes: the error codes for which the request itself is at fault. Any other error may be transient.
        label_arrays: labels are a column of arrays. Lite has no arrays in its fast evaluation of filters: at 20,000
            rows `array_contains_any` took 5 to 12 times as long as the search without, `LIKE` on text 1.0 to 1.4 times.
        index_types: those of vectors that it has, by Milvus's names.
        readers_lag: readers lag behind acknowledged writes, so that a read at Strong consistency has to wait for them.
    """

    capabilities: Capabilities
    partition_key: bool
    scalar_index: str | None
    tokenizer: str
    finds_parts_by_key: bool
    searches_lists: bool
    max_ids_per_delete: int
    max_rows_per_page: int
    paging: Mapping[str, str]
    permanent_codes: frozenset[int]
    label_arrays: bool
    readers_lag: bool
    index_types: tuple[str, ...]


def detect_backend(version: str) -> Backend:
    """Returns the backend of a server's version string, such as `milvus_lite-3.2.2`, `v2.3.5-lite` or `2.6.1`."""
    if version.startswith(_LITE):
        return _lite(version)
    match = _VERSION.search(version)
    # A version that does not parse is a custom build, and those are recent.
    return _server(version, (int(match[1]), int(match[2])) if match else (2, 6))


def _lite(version: str) -> Backend:
    return Backend(
        capabilities=Capabilities(
            product=version,
            lexical=True,
            vector_fields=4,
            shards=False,
            concurrent_writes=False,
            # Building HNSW beside the writes left 720 upserts/s and 230 ms a search at 20,000 rows; without it 1,700
            # upserts/s and 63 ms, as the time of Lite is spent elsewhere.
            dense_index="FLAT",
        ),
        partition_key=False,
        scalar_index=None,
        tokenizer="standard",
        finds_parts_by_key=True,
        searches_lists=True,
        max_ids_per_delete=100_000,
        max_rows_per_page=50_000,
        paging={"iterator": "True"},
        permanent_codes=frozenset({6}),  # "illegal argument"; to a real server 6 is an error of routing
        label_arrays=False,
        readers_lag=False,
        index_types=("FLAT", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8"),
    )


def _server(version: str, release: tuple[int, int]) -> Backend:
    return Backend(
        capabilities=Capabilities(
            product=f"milvus {version}",
            lexical=release >= (2, 5),
            vector_fields=4 if release >= (2, 4) else 1,
            shards=True,
            concurrent_writes=True,
            dense_index="HNSW",
        ),
        partition_key=release >= (2, 4),
        scalar_index="INVERTED" if release >= (2, 4) else "Trie",
        tokenizer="whitespace",
        finds_parts_by_key=False,
        searches_lists=False,
        max_ids_per_delete=4_096,
        max_rows_per_page=MAX_RESULT_ROWS,
        paging={"reduce_stop_for_best": "True"},
        permanent_codes=frozenset([*range(1100, 1200), *range(1700, 1800)]),  # parameters, and fields of a schema
        label_arrays=True,
        readers_lag=True,
        index_types=_index_types(release),
    )


def _index_types(release: tuple[int, int]) -> tuple[str, ...]:
    of_every = ("FLAT", "HNSW", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "SCANN")
    return (*of_every, "HNSW_SQ", "IVF_RABITQ") if release >= (2, 6) else of_every
