from __future__ import annotations

from benchmarks.store_ceiling import BATCH, StoreCeiling
from penstock.config import StoreSettings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.records import Collection
from penstock.store.memory import MemoryStore
from penstock.store.spec import index_spec


def test_every_event_of_every_round_is_a_new_asset_with_its_entry_and_its_row() -> None:
    profile, store = load_profile("null:16"), MemoryStore()
    store.ensure(index_spec(profile, profile_fingerprints(profile), StoreSettings()))
    alone = StoreCeiling(store, 16)
    assert alone.per_s(BATCH + 10) > 0
    assert alone.per_s(7) > 0
    assert store.count(Collection.IMAGE) == store.count_assets() == BATCH + 17
