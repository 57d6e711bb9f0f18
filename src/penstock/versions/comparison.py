"""Compares the assets of two versions of the index: counts by tenant and topic, and the missing ones.

Both versions are read by ascending id of the asset and merged, so that memory holds two pages and the names of the
missing. What is under way while the rows are read is looked up again at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias, TypeGuard

from penstock.records import AssetRef, AssetRow, Outcome
from penstock.store.base import AssetLookup, EntryScan
from penstock.versions.progress import MAX_NAMED

# Rows that are looked up in one call.
_ROWS = 500

Group: TypeAlias = tuple[str, str]
"""The tenant and the topic of assets."""


@dataclass(frozen=True, slots=True)
class VersionCounts:
    """Counts what one version has of a tenant and a topic.

    Attributes:
        assets: those that are indexed.
        entries: of these assets, in all collections.
    """

    assets: int = 0
    entries: int = 0


@dataclass(frozen=True, slots=True)
class AssetComparison:
    """The assets of two versions.

    Attributes:
        counts: of the old and the new version, by tenant and topic.
        missing: the number of assets that the old version has and the new one lacks.
        named: the first of them.
        surplus: the number of assets that only the new version has, such as those whose deletion it has not seen yet.
    """

    counts: Mapping[Group, tuple[VersionCounts, VersionCounts]]
    missing: int
    named: Sequence[AssetRef]
    surplus: int


@dataclass(slots=True)
class _Tally:
    assets: Counter[Group] = field(default_factory=Counter)
    entries: Counter[Group] = field(default_factory=Counter)

    def add(self, row: AssetRow) -> None:
        group = (row.asset.tenant, row.asset.topic)
        self.assets[group] += 1
        self.entries[group] += sum(row.counts.values())

    def of(self, group: Group) -> VersionCounts:
        return VersionCounts(self.assets[group], self.entries[group])


def compare_assets(old: EntryScan, new: EntryScan) -> AssetComparison:
    """Compares the versions that two stores read.

    An asset that the new version has deleted by a newer event is not missing.

    Raises:
        UnavailableError: a store does not answer.
    """
    before, after = _Tally(), _Tally()
    missing: list[AssetRef] = []
    unnamed = surplus = 0
    for old_row, new_row in _merged(_rows(old), _rows(new)):
        if _is_indexed(old_row):
            before.add(old_row)
        if _is_indexed(new_row):
            after.add(new_row)
        if old_row is not None and _is_missing(old_row, new_row):
            if len(missing) < MAX_NAMED:
                missing.append(old_row.asset)
            else:
                unnamed += 1
        surplus += _is_indexed(new_row) and not _is_indexed(old_row)
    named = list(_still_missing(missing, old, new))
    groups = sorted(before.assets.keys() | after.assets.keys())
    counts = {group: (before.of(group), after.of(group)) for group in groups}
    return AssetComparison(counts, len(named) + unnamed, named, surplus)


def _is_indexed(row: AssetRow | None) -> TypeGuard[AssetRow]:
    return row is not None and row.outcome is Outcome.INDEXED


def _is_missing(old: AssetRow | None, new: AssetRow | None) -> bool:
    """Returns whether the old version has an asset that the new one has neither indexed nor rightly removed."""
    if old is None or not _is_indexed(old) or _is_indexed(new):
        return False
    return new is None or old.version.newer_than(new.version)


def _still_missing(assets: Sequence[AssetRef], old: AssetLookup, new: AssetLookup) -> Iterator[AssetRef]:
    """Yields the assets that are missing also now: events under way may have settled since their rows were read."""
    remaining = iter(assets)
    while part := list(islice(remaining, _ROWS)):
        ids = [asset.id for asset in part]
        old_rows, new_rows = old.asset_rows(ids), new.asset_rows(ids)
        yield from (asset for asset in part if _is_missing(old_rows.get(asset.id), new_rows.get(asset.id)))


def _rows(store: EntryScan) -> Iterator[AssetRow]:
    for page in store.scan_asset_rows():
        yield from page


def _merged(old: Iterator[AssetRow], new: Iterator[AssetRow]) -> Iterator[tuple[AssetRow | None, AssetRow | None]]:
    """Yields the rows of each asset in both versions, by ascending id."""
    left, right = next(old, None), next(new, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left.asset.id < right.asset.id):
            yield left, None
            left = next(old, None)
        elif left is None or right.asset.id < left.asset.id:
            yield None, right
            right = next(new, None)
        else:
            yield left, right
            left, right = next(old, None), next(new, None)
