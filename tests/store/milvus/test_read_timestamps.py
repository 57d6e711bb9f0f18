"""Tests up to which timestamp a read has to see everything."""

from __future__ import annotations

from penstock.store.milvus.read_timestamps import STRONG, ReadTimestamps


def advanced(at: int = 100, max_keys: int = 16) -> ReadTimestamps:
    timestamps = ReadTimestamps(max_keys)
    timestamps.advance(at)
    return timestamps


def test_every_read_is_strongly_consistent_before_the_first_advance() -> None:
    timestamps = ReadTimestamps()
    timestamps.record_write(["a"], 50)
    assert timestamps.required_for(["a"]) == timestamps.required_for(["b"]) == STRONG
    timestamps.advance(100)
    assert timestamps.required_for(["a", "b"]) == 100


def test_a_read_sees_the_latest_write_of_its_own_keys_and_waits_for_no_other() -> None:
    timestamps = advanced()
    timestamps.record_write(["a", "b"], 200)
    timestamps.record_write(["b"], 300)
    cases = {("a",): 200, ("b",): 300, ("a", "b"): 300, ("c",): 100, (): 100}
    assert {keys: timestamps.required_for(keys) for keys in cases} == cases


def test_a_late_acknowledgement_lowers_no_timestamp() -> None:
    timestamps = advanced()
    timestamps.record_write(["a"], 300)
    timestamps.record_write(["a"], 200)
    timestamps.advance(50)
    assert (timestamps.required_for(["a"]), timestamps.required_for(["b"])) == (300, 100)


def test_the_timestamp_of_an_evicted_key_applies_to_all_others() -> None:
    timestamps = advanced(max_keys=2)
    for at, key in enumerate("abca", start=201):
        timestamps.record_write([key], at)
    assert [timestamps.required_for([key]) for key in "abc"] == [204, 202, 203]
    timestamps.record_write(["d"], 205)
    assert [timestamps.required_for([key]) for key in "abcd"] == [204, 203, 203, 205]


def test_keys_evicted_before_the_first_advance_are_read_at_strong_consistency() -> None:
    timestamps = ReadTimestamps(max_keys=1)
    timestamps.record_write(["a"], 50)
    timestamps.record_write(["b"], 60)
    assert timestamps.required_for(["a"]) == STRONG


def test_keys_of_an_unknown_write_are_read_at_strong_consistency_until_they_are_written_again() -> None:
    timestamps = advanced()
    timestamps.mark_unknown(["a", "b"])
    timestamps.advance(400)
    assert [timestamps.required_for(keys) for keys in (["a"], ["c", "b"], ["c"])] == [STRONG, STRONG, 400]
    timestamps.record_write(["a"], 500)
    assert (timestamps.required_for(["a"]), timestamps.required_for(["b"])) == (500, STRONG)


def test_a_write_without_a_timestamp_counts_as_unknown() -> None:
    timestamps = advanced()
    timestamps.record_write(["a"], STRONG)
    assert timestamps.required_for(["a"]) == STRONG
