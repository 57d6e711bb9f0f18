"""Tests the options of `penstock deadletters` and how positions, keys and times are read and shown."""

from __future__ import annotations

import time

import pytest

from penstock.cli.deadletter_options import filter_from_options, format_time, parse_position, text_preview
from penstock.errors import Reason, UsageError


@pytest.mark.parametrize("text", ["3@17", "media.dlq[3]@17"])
def test_a_position_has_partition_and_offset(text: str) -> None:
    assert parse_position(text) == (3, 17)


@pytest.mark.parametrize("text", ["17", "3@", "@17", "a@17", "3@-1"])
def test_a_malformed_position_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="PARTITION@OFFSET"):
        parse_position(text)


def test_options_become_a_filter() -> None:
    letter_filter = filter_from_options("corrupt", "media.image", "a/b.jpg", "2026-03-01T12:00:00Z")
    assert letter_filter == filter_from_options("corrupt", "media.image", "a/b.jpg", "2026-03-01T12:00:00")
    assert (letter_filter.reason, letter_filter.topic, letter_filter.key) == (
        Reason.CORRUPT, "media.image", b"a/b.jpg",
    )  # fmt: skip
    assert letter_filter.since_ms == 1_772_366_400_000


@pytest.mark.parametrize(("age", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7_200), ("3d", 259_200)])
def test_an_age_counts_back_from_now(age: str, seconds: int) -> None:
    since_ms = filter_from_options(None, None, None, age).since_ms
    assert since_ms == pytest.approx((time.time() - seconds) * 1000, abs=5_000)


def test_a_key_that_is_not_utf_8_is_shown_with_escapes() -> None:
    assert text_preview(b"a\xff") == "a\\xff"
    assert text_preview(None) is None


def test_times_are_shown_in_utc() -> None:
    assert format_time(1_772_366_400_000) == "2026-03-01T12:00:00.000Z"
