"""Up to which timestamp a read has to see everything."""

from __future__ import annotations

from penstock.store.milvus.read_timestamps import STRONG, Guarantees


def caught_up(at: int = 100, most_keys: int = 16) -> Guarantees:
    guarantees = Guarantees(most_keys)
    guarantees.caught_up(at)
    return guarantees


def test_everything_is_read_at_strong_consistency_until_it_has_caught_up() -> None:
    guarantees = Guarantees()
    guarantees.wrote(["a"], 50)
    assert guarantees.of(["a"]) == guarantees.of(["b"]) == STRONG
    guarantees.caught_up(100)
    assert guarantees.of(["a", "b"]) == 100


def test_a_read_sees_the_latest_write_of_its_own_keys_and_waits_for_no_other() -> None:
    guarantees = caught_up()
    guarantees.wrote(["a", "b"], 200)
    guarantees.wrote(["b"], 300)
    assert [guarantees.of(keys) for keys in (["a"], ["b"], ["a", "b"], ["c"], [])] == [200, 300, 300, 100, 100]


def test_an_acknowledgement_that_comes_late_lowers_nothing() -> None:
    guarantees = caught_up()
    guarantees.wrote(["a"], 300)
    guarantees.wrote(["a"], 200)
    guarantees.caught_up(50)
    assert (guarantees.of(["a"]), guarantees.of(["b"])) == (300, 100)


def test_what_is_forgotten_of_a_key_is_kept_for_all() -> None:
    guarantees = caught_up(most_keys=2)
    for at, key in enumerate("abca", start=201):
        guarantees.wrote([key], at)
    assert [guarantees.of([key]) for key in "abc"] == [204, 202, 203]
    guarantees.wrote(["d"], 205)
    assert [guarantees.of([key]) for key in "abcd"] == [204, 203, 203, 205]


def test_keys_forgotten_before_it_caught_up_are_read_at_strong_consistency_still() -> None:
    guarantees = Guarantees(most_keys=1)
    guarantees.wrote(["a"], 50)
    guarantees.wrote(["b"], 60)
    assert guarantees.of(["a"]) == STRONG


def test_keys_of_an_unanswered_write_are_read_at_strong_consistency_until_they_are_written_again() -> None:
    guarantees = caught_up()
    guarantees.unanswered(["a", "b"])
    guarantees.caught_up(400)
    assert (guarantees.of(["a"]), guarantees.of(["c", "b"]), guarantees.of(["c"])) == (STRONG, STRONG, 400)
    guarantees.wrote(["a"], 500)
    assert (guarantees.of(["a"]), guarantees.of(["b"])) == (500, STRONG)


def test_a_write_without_a_timestamp_counts_as_unanswered() -> None:
    guarantees = caught_up()
    guarantees.wrote(["a"], STRONG)
    assert guarantees.of(["a"]) == STRONG
