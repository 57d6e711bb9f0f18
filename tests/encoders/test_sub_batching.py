from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.encoders.sub_batching import FailureCause, SubBatcher, SubBatchResults
from penstock.errors import ConfigError, OverloadedError, PenstockError, WorkerBrokenError, WorkerLostError
from penstock.records import Float32


class FakeModel:
    """Has memory for `room` items, fails on poison, and records its parts."""

    def __init__(self, *, room: int = 1_000, poison: frozenset[int] = frozenset()) -> None:
        self.room = room
        self.poison = poison
        self.parts: list[list[int]] = []
        self.probes = 0
        self.releases = 0
        self.healthy = True

    def encode(self, rows: Sequence[int]) -> Float32:
        if len(rows) > self.room:
            raise MemoryError("out of memory")
        if poison := self.poison & set(rows):
            raise ValueError(f"cannot encode {sorted(poison)[0]}\nand a second line")
        self.parts.append(list(rows))
        return np.array([[row] for row in rows], dtype=np.float32)

    def probe(self) -> None:
        self.probes += 1
        if not self.healthy:
            raise ValueError("not even this")

    def release(self) -> None:
        self.releases += 1


def classify(exc: Exception) -> FailureCause:
    if isinstance(exc, MemoryError):
        return FailureCause.MEMORY
    return FailureCause.DEVICE if isinstance(exc, SystemError) else FailureCause.ITEM


def batcher(model: FakeModel, max_size: int = 32) -> SubBatcher:
    return SubBatcher(max_size, classify=classify, release_memory=model.release)


def rows_of(results: SubBatchResults) -> list[int]:
    return [row for rows, _ in results.encoded for row in rows]


@given(
    count=st.integers(0, 80),
    max_size=st.integers(1, 40),
    room=st.integers(1, 50),
    poison=st.frozensets(st.integers(0, 79), max_size=8),
)
def test_every_good_item_is_encoded_once_in_order_and_exactly_the_poison_fails(
    count: int, max_size: int, room: int, poison: frozenset[int]
) -> None:
    model = FakeModel(room=room, poison=poison)
    results = batcher(model, max_size).run(range(count), model.encode, model.probe)

    good = [row for row in range(count) if row not in poison]
    assert rows_of(results) == good
    assert [row for part in model.parts for row in part] == good
    assert [row for row, _ in results.failed] == [row for row in range(count) if row in poison]
    assert all(len(rows) <= min(max_size, room) for rows, _ in results.encoded)
    for rows, vectors in results.encoded:
        assert vectors[:, 0].tolist() == list(rows)


def test_a_failure_is_reported_in_one_line() -> None:
    model = FakeModel(poison=frozenset({3}))
    results = batcher(model).run(range(8), model.encode, model.probe)
    assert results.failed == [(3, "ValueError: cannot encode 3")]


def test_the_size_that_fitted_is_remembered() -> None:
    model = FakeModel(room=9)
    subject = batcher(model)
    subject.run(range(32), model.encode, model.probe)
    assert subject.size == 8
    releases = model.releases
    assert releases == 2  # 32 → 16 → 8
    subject.run(range(32), model.encode, model.probe)
    assert model.releases == releases


def test_the_size_grows_back_slowly_once_memory_is_there_again() -> None:
    model = FakeModel(room=8)
    subject = batcher(model)
    subject.run(range(32), model.encode, model.probe)
    model.room = 1_000
    sizes = []
    for _ in range(400):
        subject.run(range(32), model.encode, model.probe)
        sizes.append(subject.size)
    assert sizes == sorted(sizes)
    assert sizes[0] == 8
    assert sizes[-1] == 32


def test_parts_that_are_not_full_do_not_grow_the_size() -> None:
    model = FakeModel(room=8)
    subject = batcher(model)
    subject.run(range(32), model.encode, model.probe)
    for _ in range(400):
        subject.run(range(3), model.encode, model.probe)
    assert subject.size == 8


def test_memory_short_for_a_single_item_is_overload_and_no_poison() -> None:
    model = FakeModel(room=0)
    with pytest.raises(OverloadedError) as caught:
        batcher(model).run(range(4), model.encode, model.probe)
    assert caught.value.retry_after_s > 0


def test_an_encoder_that_fails_on_a_good_item_too_rejects_no_item() -> None:
    model = FakeModel(poison=frozenset(range(100)))
    model.healthy = False
    with pytest.raises(WorkerBrokenError, match="known-good"):
        batcher(model).run(range(4), model.encode, model.probe)


def test_the_known_good_item_is_tried_once_a_batch() -> None:
    model = FakeModel(poison=frozenset({1, 4, 6}))
    batcher(model).run(range(8), model.encode, model.probe)
    assert model.probes == 1


def test_a_lost_device_is_reported_immediately() -> None:
    calls = []

    def encode(rows: Sequence[int]) -> Float32:
        calls.append(rows)
        raise SystemError("CUDA error")

    with pytest.raises(WorkerBrokenError, match="restart"):
        batcher(FakeModel()).run(range(8), encode, lambda: None)
    assert len(calls) == 1


@pytest.mark.parametrize("error", [WorkerLostError("gone"), ConfigError("two profiles")])
def test_an_error_that_is_no_items_fault_passes_through(error: PenstockError) -> None:
    def encode(_: Sequence[int]) -> Float32:
        raise error

    with pytest.raises(type(error)) as caught:
        batcher(FakeModel()).run(range(8), encode, lambda: None)
    assert caught.value is error
