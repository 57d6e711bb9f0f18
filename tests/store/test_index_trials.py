"""Tests of the trials of indexes, which the double and real servers pass alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from pymilvus import MilvusClient

from penstock.config import StoreSettings, VectorIndexSettings
from penstock.store.index_trials import IndexTrials, buckets_of
from penstock.store.memory_trials import MemoryTrials
from penstock.store.milvus.trials import PREFIX, MilvusTrials

VECTORS = np.random.default_rng(1).normal(size=(600, 16)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
FLAT = VectorIndexSettings(type="FLAT")


@pytest.fixture(
    params=[
        "memory",
        pytest.param("lite", marks=[pytest.mark.services]),
        pytest.param("standalone", marks=[pytest.mark.services, pytest.mark.exhaustive]),
    ]
)
def trials(request: pytest.FixtureRequest) -> Iterator[IndexTrials]:
    if request.param == "memory":
        yield MemoryTrials()
        return
    server = request.getfixturevalue(request.param)
    opened = MilvusTrials(StoreSettings(uri=server.uri))
    yield opened
    opened.close()
    client = MilvusClient(server.uri)
    assert not [name for name in client.list_collections() if name.startswith(PREFIX)]
    client.close()


def exact(query: int, allowed: np.ndarray, count: int) -> list[int]:
    rows = np.flatnonzero(allowed)
    best: list[int] = rows[np.argsort(-(VECTORS[rows] @ VECTORS[query]))][:count].tolist()
    return best


def test_flat_is_exact_with_and_without_a_filter(trials: IndexTrials) -> None:
    trials.load(VECTORS)
    assert trials.build(FLAT) > 0
    everything = np.ones(len(VECTORS), dtype=np.bool_)
    for query in range(3):
        result = trials.search(VECTORS[query], FLAT, limit=10)
        assert result.rows.tolist() == exact(query, everything, 10)
        assert result.took_ms > 0
        filtered = trials.search(VECTORS[query], FLAT, limit=5, below_bucket=10)
        assert filtered.rows.tolist() == exact(query, buckets_of(len(VECTORS)) < 10, 5)


def test_every_type_of_the_server_is_built_after_another_and_finds_the_vector_itself(trials: IndexTrials) -> None:
    trials.load(VECTORS)
    for kind in trials.index_types:
        index = VectorIndexSettings.model_validate({"type": kind, "nlist": 8, "nprobe": 8, "ef": 200})
        trials.build(index)
        result = [trials.search(VECTORS[query], index, limit=10).rows.tolist() for query in range(20)]
        assert sum(query in rows[:2] for query, rows in enumerate(result)) >= 18, kind
    trials.restart()
    assert len(trials.search(VECTORS[0], index, limit=10).rows) == 10


def test_other_vectors_replace_the_ones_before(trials: IndexTrials) -> None:
    trials.load(VECTORS)
    trials.build(FLAT)
    trials.load(VECTORS[:50])
    trials.build(FLAT)
    rows = trials.search(VECTORS[7], FLAT, limit=100).rows
    assert sorted(rows.tolist()) == list(range(50))
