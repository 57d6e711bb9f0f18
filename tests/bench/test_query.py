from __future__ import annotations

import threading
import time

import pytest

from penstock.bench.query import fill, hammer
from penstock.config import StoreSettings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.errors import UnavailableError
from penstock.records import Collection
from penstock.store.memory import MemoryStore
from penstock.store.spec import index_spec


def test_an_index_is_filled_half_with_texts_and_half_with_pictures() -> None:
    store, profile = MemoryStore(), load_profile("null:16")
    store.ensure(index_spec(profile, profile_fingerprints(profile), StoreSettings()))
    fill(store, profile, 41, "default")
    assert store.count(Collection.TEXT) == 21
    assert store.count(Collection.IMAGE) == 20
    entries = [entry for page in store.scan_entries(Collection.TEXT) for entry in page]
    assert all(len(entry.text.split()) == 60 for entry in entries)


def test_so_many_clients_ask_at_once() -> None:
    together, met = threading.Barrier(4, timeout=60), threading.local()

    def ask() -> None:
        if not hasattr(met, "others"):  # the first question of each client is answered when all have asked
            met.others = together.wait()

    load = hammer(ask, clients=4, seconds=0.05)

    assert load.per_s > 0
    assert load.p50_ms <= load.p95_ms


def test_an_answer_that_fails_ends_the_measurement() -> None:
    def ask() -> None:
        raise UnavailableError("the store does not answer")

    began_s = time.monotonic()
    with pytest.raises(UnavailableError, match="does not answer"):
        hammer(ask, clients=2, seconds=600.0)
    assert time.monotonic() - began_s < 60
