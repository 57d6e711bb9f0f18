"""Vocabularies: by tenant, counted in the background, refreshed by changes, bounded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from penstock.errors import UnavailableError
from penstock.query.changes import IndexChanges
from penstock.query.understand import vocabularies as module
from penstock.query.understand.vocabularies import Vocabularies, VocabularyLimits
from penstock.records import Access, AssetRef, Collection, Entry, IndexChange, Position, bare_entry
from penstock.store.access import allows
from penstock.store.base import EntryText

REFRESH_S = 0.05


class Texts:
    """Entries by tenant, as a store returns them.

    Attributes:
        invisible: ids that lookups do not return yet.
        failing: raised by every read.
        reads: threads that read.
    """

    def __init__(self) -> None:
        self.stored: dict[str, Entry] = {}
        self.invisible: set[str] = set()
        self.failing: Exception | None = None
        self.reads: list[str] = []

    def add(
        self, tenant: str, key: str, text: str, *, collection: Collection = Collection.TEXT, acl: tuple[str, ...] = ()
    ) -> IndexChange:
        bare = bare_entry(AssetRef(tenant, "docs", key), collection)
        entry = replace(bare, text=text, title="", acl=acl)
        self.stored[entry.id] = entry
        return IndexChange(tenant, "docs", key, Position("docs", 0, 0), False, {collection: 1}, 0)

    def texts(
        self, collection: Collection, *, access: Access, after: str, limit: int, timeout_s: float
    ) -> Sequence[EntryText]:
        self._read()
        entries = sorted(
            (entry for entry in self.stored.values() if allows(access, entry) and entry.id > after),
            key=lambda entry: entry.id,
        )
        chosen = [entry for entry in entries if entry.collection is collection][:limit]
        return [EntryText(entry.id, entry.part, entry.title, entry.text) for entry in chosen]

    def entries(self, ids: Sequence[str], *, access: Access, timeout_s: float) -> Mapping[str, Entry]:
        self._read()
        return {
            id_: self.stored[id_]
            for id_ in ids
            if id_ in self.stored and id_ not in self.invisible and allows(access, self.stored[id_])
        }

    def _read(self) -> None:
        self.reads.append(threading.current_thread().name)
        if self.failing is not None:
            raise self.failing


@pytest.fixture
def texts() -> Texts:
    return Texts()


@pytest.fixture
def open_vocabularies(texts: Texts) -> Iterator[Callable[..., Vocabularies]]:
    opened: list[Vocabularies] = []

    def start(*tenants: str, limits: VocabularyLimits | None = None, recount_s: float = 900.0) -> Vocabularies:
        opened.append(Vocabularies(texts, limits, refresh_s=REFRESH_S, recount_s=recount_s))
        opened[-1].start(map(Access.to_all_of, tenants))
        return opened[-1]

    yield start
    for vocabularies in opened:
        vocabularies.close()


def becomes(holds: Callable[[], bool]) -> None:
    """Waits until a condition holds, which the thread of the vocabularies brings about."""
    ends_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < ends_s
        threading.Event().wait(0.005)


def test_words_are_counted_in_the_background_when_a_tenant_is_first_seen(
    texts: Texts, open_vocabularies: Callable[..., Vocabularies]
) -> None:
    texts.add("a", "one", "anchor chain")
    texts.add("a", "two", "anchor", collection=Collection.SPEECH)
    vocabularies = open_vocabularies()
    assert len(vocabularies.get(Access.to_all_of("a"))) == 0
    becomes(lambda: vocabularies.get(Access.to_all_of("a")).count("anchor") == 2)
    assert vocabularies.get(Access.to_all_of("a")).count("chain") == 1
    assert set(texts.reads) == {"vocabularies"}


def test_a_tenant_of_the_start_is_counted_before_it_searches(
    texts: Texts, open_vocabularies: Callable[..., Vocabularies]
) -> None:
    texts.add("a", "one", "anchor")
    vocabularies = open_vocabularies("a")
    becomes(lambda: bool(texts.reads))
    becomes(lambda: "anchor" in vocabularies.get(Access.to_all_of("a")))


def test_no_tenant_has_the_words_of_another(texts: Texts, open_vocabularies: Callable[..., Vocabularies]) -> None:
    texts.add("a", "one", "anchor")
    texts.add("b", "one", "secret anchor")
    vocabularies = open_vocabularies("a", "b")
    becomes(lambda: "secret" in vocabularies.get(Access.to_all_of("b")))
    becomes(lambda: "anchor" in vocabularies.get(Access.to_all_of("a")))
    of_a = vocabularies.get(Access.to_all_of("a"))
    assert "secret" not in of_a
    assert of_a.count("anchor") == 1
    assert of_a.near("secrett", 1) == of_a.near("zzzzzz", 1) == []
    assert of_a.complete("secr", 5) == []
    vocabularies.changed([texts.add("b", "two", "another secret")])
    becomes(lambda: vocabularies.get(Access.to_all_of("b")).count("secret") == 2)
    assert vocabularies.get(Access.to_all_of("a")) is of_a


def test_a_change_is_known_within_seconds(texts: Texts, open_vocabularies: Callable[..., Vocabularies]) -> None:
    texts.add("a", "one", "anchor")
    vocabularies = open_vocabularies("a")
    becomes(lambda: "anchor" in vocabularies.get(Access.to_all_of("a")))
    changes = IndexChanges(available=True)
    changes.subscribe(vocabularies.changed)
    changed = texts.add("a", "two", "harbour anchor")
    (id_,) = changed.new_entry_ids()[Collection.TEXT]
    texts.invisible.add(id_)
    reads = len(texts.reads)
    changes.receive([changed])
    becomes(lambda: len(texts.reads) > reads)  # the store does not return it yet
    texts.invisible.clear()
    started_s = time.monotonic()
    becomes(lambda: "harbour" in vocabularies.get(Access.to_all_of("a")))
    assert vocabularies.get(Access.to_all_of("a")).count("anchor") == 2
    assert time.monotonic() - started_s < 60


def test_a_vocabulary_has_the_words_of_its_labels_alone(
    texts: Texts, open_vocabularies: Callable[..., Vocabularies]
) -> None:
    texts.add("a", "1", "anchor", acl=("tenant",))
    texts.add("a", "2", "secret", acl=("group:x",))
    vocabularies = open_vocabularies()
    everybody, some = (Access("a", frozenset(labels)) for labels in ({"tenant"}, {"tenant", "group:x"}))
    for access in (everybody, some, Access("a", frozenset())):
        vocabularies.get(access)
    becomes(lambda: "secret" in vocabularies.get(some))
    becomes(lambda: "anchor" in vocabularies.get(everybody))
    vocabularies.changed([texts.add("a", "3", "harbour", acl=("group:x",))])
    becomes(lambda: "harbour" in vocabularies.get(some))
    assert "secret" not in vocabularies.get(everybody)
    assert "harbour" not in vocabularies.get(everybody)
    assert len(vocabularies.get(Access("a", frozenset()))) == 0


def test_changes_of_a_tenant_that_does_not_search_read_nothing(
    texts: Texts, open_vocabularies: Callable[..., Vocabularies]
) -> None:
    vocabularies = open_vocabularies()
    vocabularies.changed([texts.add("b", "one", "anchor")])
    texts.add("a", "one", "anchor")
    vocabularies.get(Access.to_all_of("a"))
    becomes(lambda: "anchor" in vocabularies.get(Access.to_all_of("a")))
    assert len(texts.reads) == len(Collection)  # those of a


def test_words_of_deleted_entries_go_with_the_next_count(
    texts: Texts, open_vocabularies: Callable[..., Vocabularies]
) -> None:
    changed = texts.add("a", "one", "anchor")
    texts.add("a", "two", "harbour")
    vocabularies = open_vocabularies("a", recount_s=0.0)
    becomes(lambda: "anchor" in vocabularies.get(Access.to_all_of("a")))
    texts.stored.pop(changed.new_entry_ids()[Collection.TEXT][0])
    vocabularies.changed([replace(changed, deleted=True, counts={})])
    becomes(lambda: "anchor" not in vocabularies.get(Access.to_all_of("a")))
    assert "harbour" in vocabularies.get(Access.to_all_of("a"))


def test_without_a_feed_a_vocabulary_is_counted_again_after_a_time(
    texts: Texts, open_vocabularies: Callable[..., Vocabularies]
) -> None:
    vocabularies = open_vocabularies("a", recount_s=0.0)
    becomes(lambda: bool(texts.reads))
    texts.add("a", "one", "anchor")
    becomes(lambda: "anchor" in vocabularies.get(Access.to_all_of("a")))


def test_after_a_gap_of_the_feed_all_are_counted_again(
    texts: Texts, open_vocabularies: Callable[..., Vocabularies]
) -> None:
    vocabularies = open_vocabularies("a")
    becomes(lambda: bool(texts.reads))
    texts.add("a", "one", "anchor")
    vocabularies.changed([])
    becomes(lambda: "anchor" in vocabularies.get(Access.to_all_of("a")))


def test_a_store_that_does_not_answer_is_asked_again(
    texts: Texts,
    open_vocabularies: Callable[..., Vocabularies],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    texts.add("a", "one", "anchor")
    texts.failing = UnavailableError("the store is away")
    vocabularies = open_vocabularies("a")
    becomes(lambda: "the store is away" in caplog.text)
    texts.failing = None
    becomes(lambda: "anchor" in vocabularies.get(Access.to_all_of("a")))
    texts.failing = UnavailableError("away again")
    vocabularies.changed([texts.add("a", "two", "harbour")])
    becomes(lambda: "away again" in caplog.text)
    texts.failing = None
    becomes(lambda: "harbour" in vocabularies.get(Access.to_all_of("a")))


def test_the_rarest_words_and_the_oldest_tenants_are_left_out(
    texts: Texts, open_vocabularies: Callable[..., Vocabularies]
) -> None:
    for tenant in ("a", "b"):
        for number in range(3):
            texts.add(tenant, str(number), f"often rare{number}{tenant}")
    vocabularies = open_vocabularies(limits=VocabularyLimits(words=2, all_words=3))
    becomes(lambda: "often" in vocabularies.get(Access.to_all_of("a")))
    assert len(vocabularies.get(Access.to_all_of("a"))) == 2
    becomes(lambda: "often" in vocabularies.get(Access.to_all_of("b")))
    assert len(vocabularies.get(Access.to_all_of("b"))) == 2
    assert len(vocabularies.get(Access.to_all_of("a"))) == 0


def test_a_bounded_number_of_entries_is_read(texts: Texts, open_vocabularies: Callable[..., Vocabularies]) -> None:
    for number in range(10):
        texts.add("a", str(number), "anchor")
    vocabularies = open_vocabularies("a", limits=VocabularyLimits(entries=4))
    becomes(lambda: vocabularies.get(Access.to_all_of("a")).count("anchor") == 4)


def test_invented_tenants_do_not_displace_real_ones(
    texts: Texts, open_vocabularies: Callable[..., Vocabularies], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 3)
    texts.add("a", "one", "anchor")
    vocabularies = open_vocabularies("a")
    becomes(lambda: "anchor" in vocabularies.get(Access.to_all_of("a")))
    of_a = vocabularies.get(Access.to_all_of("a"))
    for number in range(9):
        vocabularies.get(Access.to_all_of(f"invented{number}"))
    becomes(lambda: len(texts.reads) == 10 * len(Collection))
    assert vocabularies.get(Access.to_all_of("a")) is of_a
