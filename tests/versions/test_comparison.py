"""Two versions are compared by their asset rows, in bounded memory, and what is under way does not count as missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.records import AssetRef, AssetRow, Collection, Outcome, Version
from penstock.store.memory import MemoryStore
from penstock.versions.comparison import VersionCounts, compare_assets
from tests.store.builders import spec


def made(rows: Sequence[AssetRow]) -> MemoryStore:
    store = MemoryStore()
    store.ensure(spec())
    store.put_asset_rows(rows)
    return store


def row(key: str, *, tenant: str = "acme", offset: int = 1, outcome: Outcome = Outcome.INDEXED) -> AssetRow:
    counts = {Collection.TEXT: 3} if outcome is Outcome.INDEXED else {}
    return AssetRow(AssetRef(tenant, "media.text", key), Version(1_000 + offset, 0, offset), outcome, counts, "", 0)


def test_counts_are_by_tenant_and_topic() -> None:
    old = made([row("a"), row("b"), row("c", tenant="globex")])
    new = made([row("a"), row("b"), row("d", tenant="globex"), row("e", outcome=Outcome.DELETED)])
    compared = compare_assets(old, new)
    assert compared.counts == {
        ("acme", "media.text"): (VersionCounts(2, 6), VersionCounts(2, 6)),
        ("globex", "media.text"): (VersionCounts(1, 3), VersionCounts(1, 3)),
    }
    assert [asset.key for asset in compared.named] == ["c"]
    assert (compared.missing, compared.surplus) == (1, 1)


def test_an_asset_that_a_newer_event_deleted_is_not_missing() -> None:
    old = made([row("gone"), row("back", offset=9)])
    new = made([row("gone", offset=5, outcome=Outcome.DELETED), row("back", offset=5, outcome=Outcome.DELETED)])
    compared = compare_assets(old, new)
    assert [asset.key for asset in compared.named] == ["back"]


def test_an_asset_that_settles_while_rows_are_read_is_not_missing() -> None:
    class Late(MemoryStore):
        """Writes a row after its scan."""

        def scan_asset_rows(self, **options: object):  # type: ignore[no-untyped-def]
            yield from super().scan_asset_rows(**options)  # type: ignore[arg-type]
            self.put_asset_rows([row("late")])

    new = Late()
    new.ensure(spec())
    compared = compare_assets(made([row("late"), row("never")]), new)
    assert [asset.key for asset in compared.named] == ["never"]


OUTCOMES = st.sampled_from([None, Outcome.INDEXED, Outcome.DELETED])


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdefghij"), st.tuples(OUTCOMES, OUTCOMES), max_size=10))
def test_every_asset_is_merged_with_its_own(states: Mapping[str, tuple[Outcome | None, Outcome | None]]) -> None:
    old = made([row(key, outcome=before) for key, (before, _) in states.items() if before])
    new = made([replace(row(key, outcome=after)) for key, (_, after) in states.items() if after])
    compared = compare_assets(old, new)
    indexed = {key for key, (before, _) in states.items() if before is Outcome.INDEXED}
    expected = {key for key in indexed if states[key][1] is None}
    assert {asset.key for asset in compared.named} == expected
    assert compared.missing == len(expected)
    assert sum(before.assets for before, _ in compared.counts.values()) == len(indexed)
