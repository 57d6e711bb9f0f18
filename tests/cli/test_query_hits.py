"""Tests of groups, pages, diversity and explanations on the command line."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.cli.query_hits import format_explanation
from tests.cli.test_search import ANSWER, HIT, QueryPlane, plane, search

__all__ = ["plane"]

EXPLANATION: dict[str, Any] = {
    "collections": [
        {
            "collection": "text",
            "channels": [
                {"channel": "text.passage", "part": 3.9, "share": 0.78},
                {"channel": "text.lexical", "part": 1.1, "share": 0.22},
            ],
            "constant": -3.1,
            "value": 1.9,
            "weighted": 1.9,
        }
    ],
    "combined": "sum",
    "fused_score": 1.9,
    "fused_rank": 2,
    "reranked_rank": 1,
    "rank": 1,
    "promoted": False,
    "relevance": {"text.passage": 2.5, "prior": -1.0, "words": 0.0},
}


def test_the_options_are_in_the_request(plane: QueryPlane) -> None:
    assert search(plane, "a heron", "--group-by", "asset", "--diversify", "0.7", "--explain", "--cursor", "abc") == 0
    body = plane.bodies[-1]
    assert (body["group_by"], body["diversify"], body["explain"]) == ("asset", {"lambda": 0.7}, True)
    assert body["cursor"] == "abc"


def test_without_options_the_request_has_none_of_them(plane: QueryPlane) -> None:
    assert search(plane, "a heron") == 0
    assert not plane.bodies[-1].keys() & {"group_by", "diversify", "explain", "cursor"}


def test_a_later_page_is_fetched_by_the_cursors_before_it(
    plane: QueryPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    plane.answer = {**ANSWER, "next_cursor": "next"}
    assert search(plane, "a heron", "--page", "3") == 0
    assert [body.get("cursor") for body in plane.bodies] == [None, "next", "next"]
    output = capsys.readouterr()
    assert output.out.splitlines()[1].split()[0] == "3"
    assert "--page 4" in output.err


def test_a_page_behind_the_last_one_is_refused(plane: QueryPlane, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(plane, "a heron", "--page", "2") == 2
    assert "there is no page 2: the search has 1 with 1 hits" in " ".join(capsys.readouterr().err.split())


def test_a_page_and_a_cursor_exclude_each_other(plane: QueryPlane, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(plane, "a heron", "--page", "2", "--cursor", "abc") == 2
    assert "give --page or --cursor" in capsys.readouterr().err
    assert plane.bodies == []


def test_a_change_of_the_pages_before_is_said(plane: QueryPlane, capsys: pytest.CaptureFixture[str]) -> None:
    plane.answer = {**ANSWER, "changed": True}
    assert search(plane, "a heron", "--cursor", "abc") == 0
    assert "The pages before would be others now" in capsys.readouterr().err


def test_an_explanation_is_a_sum_with_ranks_and_relevance(
    plane: QueryPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    plane.answer = {**ANSWER, "hits": [{**HIT, "relevance": 0.82, "explain": EXPLANATION}]}
    assert search(plane, "a heron", "--explain") == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "#1: text.passage +3.90 (78%) text.lexical +1.10 (22%) -3.10 = 1.90 (sum: 1.9000)" in shown
    assert "fused 2, reranked 1; log-odds of relevance text.passage +2.50 prior -1.00 = 1.50" in shown


def test_an_explanation_says_what_moved_the_hit() -> None:
    explanation: Any = {**EXPLANATION, "reranked_rank": None, "rank": 5, "promoted": True, "relevance": None}
    hit: Any = HIT
    assert format_explanation(hit, explanation).endswith("; fused 2, shown 5, first for the share of its kind")
