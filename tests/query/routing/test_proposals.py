"""Tests of the filters that the words of a question imply."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import ConfigError
from penstock.query.routing.proposals import SHIPPED_PROPOSALS, FilterProposals
from penstock.store.filters import parse_filter

PROPOSALS = FilterProposals()
WEDNESDAY_MS = round(datetime(2026, 3, 4, 15, 30, tzinfo=UTC).timestamp() * 1000)


def proposed(question: str, now_ms: int = WEDNESDAY_MS) -> object:
    return PROPOSALS.propose(question, now_ms)


def between(begin: str, end: str) -> object:
    return {"event_time": {"gte": f"{begin}T00:00:00Z", "lt": f"{end}T00:00:00Z"}}


@pytest.mark.parametrize(
    ("question", "begin", "end"),
    [
        ("photos from today", "2026-03-04", "2026-03-05"),
        ("what did she say yesterday", "2026-03-03", "2026-03-04"),
        ("images of the harbour from last week", "2026-02-23", "2026-03-02"),
        ("this week", "2026-03-02", "2026-03-09"),
        ("Bilder aus der letzten Woche", "2026-02-23", "2026-03-02"),
        ("photos de la semaine dernière", "2026-02-23", "2026-03-02"),
        ("fotos de la semana pasada", "2026-02-23", "2026-03-02"),
        ("上周的照片", "2026-02-23", "2026-03-02"),
        ("先週の動画", "2026-02-23", "2026-03-02"),
        ("last month", "2026-02-01", "2026-03-01"),
        ("this month", "2026-03-01", "2026-04-01"),
        ("last year", "2025-01-01", "2026-01-01"),
        ("pictures from 2023", "2023-01-01", "2024-01-01"),
    ],
)
def test_a_period_is_that_of_the_calendar(question: str, begin: str, end: str) -> None:
    assert proposed(question) == between(begin, end)


@pytest.mark.parametrize(
    ("question", "filter_"),
    [
        ("heron by camera x100", {"attributes.camera": "x100"}),
        ("heron taken with GR3", {"attributes.camera": "GR3"}),
        ("Reiher, mit der Kamera X-T5", {"attributes.camera": "X-T5"}),
        ("written by Beckett", {"attributes.author": "Beckett"}),
    ],
)
def test_an_attribute_has_the_word_after_it_as_the_question_writes_it(question: str, filter_: object) -> None:
    assert proposed(question) == filter_


def test_several_conditions_are_one_filter() -> None:
    assert proposed("by camera x100 from last year") == {
        "attributes.camera": "x100",
        **between("2025-01-01", "2026-01-01"),  # type: ignore[dict-item]
    }


@pytest.mark.parametrize("question", ["a heron", "todayish", "in 20234 steps", "by camera", "from 1", ""])
def test_a_question_that_implies_nothing_proposes_nothing(question: str) -> None:
    assert proposed(question) is None


@given(st.sampled_from(["today", "yesterday", "last week", "last month", "this year"]), st.integers(0, 4 * 10**12))
def test_a_period_is_a_valid_filter_and_holds_now_or_lies_before_it(words: str, now_ms: int) -> None:
    document = proposed(words, now_ms)
    assert isinstance(document, dict)
    assert parse_filter(document) is not None
    begin, end = (datetime.fromisoformat(document["event_time"][name]).timestamp() for name in ("gte", "lt"))
    assert begin < end
    assert begin <= now_ms / 1000
    assert (now_ms / 1000 < end) == (words.startswith("this") or words == "today")


def test_a_file_of_the_user_adds_attributes(tmp_path: Path) -> None:
    file = tmp_path / "proposals.txt"
    file.write_text("attribute ward en: on ward\n", encoding="utf-8")
    proposals = FilterProposals((SHIPPED_PROPOSALS, file))
    assert proposals.propose("patients on ward B7", WEDNESDAY_MS) == {"attributes.ward": "B7"}


def test_an_unknown_period_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "proposals.txt"
    file.write_text("\nfortnight en: fortnight\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 2: expected one of today, yesterday"):
        FilterProposals((file,))
