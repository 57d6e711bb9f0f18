"""A copy of vectors writes under the lease of its plane, and not a request later."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from penstock.broker.base import Partition
from penstock.config import Settings
from penstock.errors import LeaseHeldError
from penstock.ingest.reindex import vectors
from penstock.ingest.reindex.job import FillJob
from penstock.ingest.reindex.throttle import Throttle
from penstock.ingest.reindex.vectors import copy_vectors
from penstock.records import Collection
from penstock.store.memory import MemoryStore
from penstock.versions import Reindex
from penstock.versions.progress import drop_progress
from tests.ingest.doubles import DIM
from tests.ingest.lane.harness import running
from tests.ingest.reindex.twin import TwinPlant

SETTINGS = Settings(profile=f"null:{DIM}", ingest={"modalities": ["text"]})


class Services:
    """The new version in memory, and the offsets of its group."""

    def __init__(self, plant: TwinPlant, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = MemoryStore()
        self.offsets: dict[Partition, int] = {}
        self._plant = plant
        monkeypatch.setattr(vectors, "open_store", self._opened)
        monkeypatch.setattr(vectors, "open_version", lambda *_: plant.store)
        monkeypatch.setattr(vectors, "open_assets", lambda _: plant.assets)
        monkeypatch.setattr(vectors, "group_lag", lambda *_: plant.lag())
        monkeypatch.setattr(vectors, "KafkaGroupOffsets", lambda _: self)

    def set(self, offsets: Mapping[Partition, int]) -> None:
        self.offsets.update(offsets)

    def copy(self, check_lease: Callable[[], None]) -> None:
        """Copies into an empty version."""
        drop_progress(self._plant.assets)
        self.offsets.clear()
        throttle = Throttle(normal_s=0.0, max_per_s=1e9, clock=lambda: 0.0)
        throttle.pace = 1e9
        job = FillJob(SETTINGS, Reindex(1, 2, SETTINGS.profile, "penstock.v2", 1), SETTINGS)
        copy_vectors(job, threading.Event(), throttle, lambda: 0.0, check_lease)

    def _opened(self, _settings: object, before_write: Callable[[], None] = lambda: None) -> MemoryStore:
        self.store = MemoryStore(before_write=before_write)
        return self.store


def test_a_copy_ends_at_whatever_request_the_lease_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant = TwinPlant(tmp_path / "assets")
    for number in range(5):
        plant.append(f"k{number}", b"parts:2")
    with running(plant.started()):
        plant.settled()
    services = Services(plant, monkeypatch)
    confirmed: list[int] = []
    services.copy(lambda: confirmed.append(1))
    assert services.store.count(Collection.TEXT) == 10
    assert services.offsets
    for lost_at in range(len(confirmed)):
        left = iter(range(lost_at))

        def check_lease() -> None:
            if next(left, None) is None:  # noqa: B023  # called in this turn only
                raise LeaseHeldError("another driver")

        with pytest.raises(LeaseHeldError):
            services.copy(check_lease)
        assert services.offsets == {}
        assert services.store.count(Collection.TEXT) == (10 if lost_at else 0)
    assert len(confirmed) >= 4  # entries, rows, the pause after them, and the offsets of the group
