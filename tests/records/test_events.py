from __future__ import annotations

from penstock.records import AssetRef, Version


def test_asset_ids_depend_on_the_length_of_each_name() -> None:
    assert AssetRef("a", "bc", "d").id != AssetRef("ab", "c", "d").id
    assert len(AssetRef("a", "bc", "d").id) == 32


def test_the_offset_decides_within_a_partition_and_the_timestamp_across_partitions() -> None:
    assert Version(1, 0, 9).newer_than(Version(2, 0, 8))
    assert Version(2, 0, 8).newer_than(Version(1, 1, 9))
    assert not Version(1, 0, 9).newer_than(Version(1, 0, 9))
