from __future__ import annotations

from benchmarks.synthetic_index import QuerySampler, fill
from penstock.config import StoreSettings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import load_profile
from penstock.records import DEFAULT_ACL, Collection
from penstock.store.memory import MemoryStore
from penstock.store.spec import index_spec
from tests.store.scans import all_entries


def test_an_index_is_filled_half_with_texts_and_half_with_pictures() -> None:
    store, profile = MemoryStore(), load_profile("null:16")
    store.ensure(index_spec(profile, profile_fingerprints(profile), StoreSettings()))
    fill(store, profile, 41, "default")
    assert store.count(Collection.TEXT) == 21
    assert store.count(Collection.IMAGE) == 20
    entries = all_entries(store, Collection.TEXT)
    assert all(len(entry.text.split()) == 60 for entry in entries)


def test_no_question_is_asked_twice() -> None:
    questions = QuerySampler()
    assert len({questions.query() for _ in range(200)}) == 200


def test_every_key_of_a_tenant_may_read_its_entries() -> None:
    store, profile = MemoryStore(), load_profile("null:16")
    store.ensure(index_spec(profile, profile_fingerprints(profile), StoreSettings()))
    fill(store, profile, 4, "default")
    assert {entry.acl for entry in all_entries(store, Collection.TEXT)} == {DEFAULT_ACL}
