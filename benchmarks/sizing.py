"""Measures what entries cost in a real Milvus: memory, disk, the rate of one writer, and the time of a search.

    python -m benchmarks.sizing --entries 1000000 --dim 64 --output sizing.json

Milvus 2.3.5 of PyPI (standalone, HNSW) is filled with images of random vectors by one writer of the product, and looked
at on the way. `--table FILE…` makes the table of docs/operate.md from such files. Two sizes of vectors give the cost
of a dimension; everything above the measured number of entries is extrapolated.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.host_info import machine_facts
from benchmarks.store_ceiling import StoreCeiling
from benchmarks.synthetic_index import unit_vector
from penstock.assembly import open_store
from penstock.config import StoreSettings
from penstock.encoders.base import Fingerprint, Space
from penstock.records import Access, Channel, Collection, Field
from penstock.store.base import EntryQuery, IndexSpec, VectorSpec
from penstock.store.milvus.store import MilvusStore
from tests.store.servers import Standalone

_MARKS = 4
_SEARCHES = 100
_LIMIT = 50
_INDEX_TIMEOUT_S = 3600.0
_SIZES = (1_000_000, 10_000_000, 50_000_000)
_DIMS = (512, 768)


@dataclass(frozen=True, slots=True)
class Mark:
    """Describes Milvus once this many entries were written, flushed and indexed.

    Attributes:
        written_per_s: entries a second since the mark before: looked up, upserted, with their asset rows.
        indexed_s: until the index held all of them.
        rss_mb: resident memory of Milvus.
        disk_mb: its data, with what compaction has not removed yet.
        search_p50_ms, search_p95_ms: of one client, 50 hits.
    """

    entries: int
    written_per_s: float
    indexed_s: float
    rss_mb: float
    disk_mb: float
    search_p50_ms: float
    search_p95_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--output", type=Path, help="a file for the figures, as JSON")
    parser.add_argument("--table", type=Path, nargs="+", metavar="FILE", help="print the table of these instead")
    arguments = parser.parse_args()
    if arguments.table:
        print(table([json.loads(path.read_text("utf-8")) for path in arguments.table]))
        return
    with tempfile.TemporaryDirectory(prefix="penstock-sizing-", ignore_cleanup_errors=True) as folder:
        figures = {"machine": machine_facts(), "dim": arguments.dim, "marks": measure(Path(folder), arguments)}
    text = json.dumps(figures, indent=2)
    if arguments.output:
        arguments.output.write_text(f"{text}\n", "utf-8")
    print(text)


def measure(folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns the marks of one run."""
    milvus = Standalone(folder)
    milvus.start()
    try:
        store = open_store(StoreSettings(uri=milvus.uri, timeout_s=120.0))
        store.ensure(index_spec(arguments.dim))
        run = SizingRun(milvus, folder, store, arguments.dim)
        marks = []
        for _ in range(_MARKS):
            marks.append(run.next_mark(arguments.entries // _MARKS))
            print(marks[-1], file=sys.stderr, flush=True)
        store.close()
        return [asdict(mark) for mark in marks]
    finally:
        milvus.stop()


def index_spec(dim: int) -> IndexSpec:
    """One collection of images, one of texts, which stays empty."""
    vector = VectorSpec(Space("null", dim), Fingerprint("null", "0" * 16, "0" * 16))
    return IndexSpec(
        vectors={Collection.TEXT: {Field.PASSAGE: vector}, Collection.IMAGE: {Field.JOINT: vector}},
        model_slug={Collection.TEXT: "null", Collection.IMAGE: "null"},
        version=1,
        num_shards=2,
    )


class SizingRun:
    """Fills a Milvus step by step and looks at it after each.

    Args:
        milvus: running.
        folder: its own.
        store: its client, whose collections exist.
        dim: of the vectors.
    """

    def __init__(self, milvus: Standalone, folder: Path, store: MilvusStore, dim: int) -> None:
        self._milvus = milvus
        self._folder = folder
        self._store = store
        self._dim = dim
        self._ceiling = StoreCeiling(store, dim)
        self._entries = 0

    def next_mark(self, entries: int) -> Mark:
        """Returns what is measured after this many more entries."""
        rate = self._ceiling.per_s(entries)
        self._entries += entries
        began_s = time.perf_counter()
        self._milvus.wait_for_index("image__", Field.JOINT.value, self._entries, timeout_s=_INDEX_TIMEOUT_S)
        indexed_s = time.perf_counter() - began_s
        p50, p95 = np.percentile(self._searches_ms(), [50, 95])
        disk = sum(path.stat().st_size for path in self._files())
        server = psutil.Process(self._milvus.pid)
        rss = sum(process.memory_info().rss for process in (server, *server.children(recursive=True)))
        return Mark(self._entries, *(round(float(x), 1) for x in (rate, indexed_s, rss / 1e6, disk / 1e6, p50, p95)))

    def _files(self) -> list[Path]:
        """Returns the files of Milvus, less the program and logs."""
        parts = [part for part in self._folder.iterdir() if part.name not in ("bin", "logs")]
        return [path for part in parts for path in part.rglob("*") if path.is_file()]

    def _searches_ms(self) -> Sequence[float]:
        """Returns the times of single searches, after ten that warm up."""
        random, times = np.random.default_rng(1), []
        for _ in range(_SEARCHES + 10):
            vector = unit_vector(random, self._dim)
            query = EntryQuery(
                Channel(Collection.IMAGE, Field.JOINT), vector, Access.to_all_of("bench"), None, _LIMIT, timeout_s=60
            )
            began_s = time.perf_counter()
            assert len(self._store.search(query)) == _LIMIT
            times.append((time.perf_counter() - began_s) * 1000)
        return times[10:]


# ---- the table ----


def table(runs: Sequence[dict[str, Any]]) -> str:
    """The table of docs/operate.md: memory, disk and hours of one writer, by entries and dimensions."""
    per_entry, per_dim = _costs(runs)
    rate = float(np.median([mark["written_per_s"] for run in runs for mark in run["marks"]]))
    lines = [
        "| Entries | Dimensions | Memory of Milvus | Disk | Shards | Hours of one writer |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for entries in _SIZES:
        for dim in _DIMS:
            memory, disk = ((per_entry[name] + per_dim[name] * dim) * entries / 1e9 for name in ("rss_mb", "disk_mb"))
            hours = entries / rate / 3600
            shards = max(2, round(entries / 5_000_000))
            lines.append(f"| {entries:,} | {dim} | {memory:.1f} GB | {disk:.1f} GB | {shards} | {hours:.1f} |")
    return "\n".join(lines)


def _costs(runs: Sequence[dict[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """Bytes of an entry but for its vector, and of a dimension, by least squares over the slopes of the runs."""
    dims = np.array([run["dim"] for run in runs], float)
    per_entry, per_dim = {}, {}
    for name in ("rss_mb", "disk_mb"):
        slopes = [
            np.polyfit([mark["entries"] for mark in run["marks"]], [mark[name] * 1e6 for mark in run["marks"]], 1)[0]
            for run in runs
        ]
        per_dim[name], per_entry[name] = (
            np.polyfit(dims, slopes, 1) if len(runs) > 1 else (4.0, slopes[0] - 4 * dims[0])
        )
    return per_entry, per_dim


if __name__ == "__main__":
    main()
