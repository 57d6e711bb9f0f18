"""Tests of the requests that switch steps on and off, and of their table."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import pytest

from benchmarks.components import Component
from benchmarks.query_steps import EMPTY, PLAIN, LoadResult, RequestKind, requests_by_step, step_rows
from penstock.serve.schemas.search_request import SearchBody


def test_every_kind_of_request_is_valid() -> None:
    sent: list[Mapping[str, Any]] = []

    def search(request: Mapping[str, Any]) -> Mapping[str, Any]:
        sent.append(request)
        return {"next_cursor": "next"}

    numbers = count()
    for kind in requests_by_step().values():
        for _ in range(2):
            kind.send(search, lambda: f"question {next(numbers)}")
    for request in sent:
        SearchBody.model_validate(request)
    texts = [request["text"] for request in sent]
    assert len(set(texts)) == len(texts) - 3  # one question is repeated, and that of the second page twice
    assert [request["cursor"] for request in sent if "cursor" in request] == ["next", "next"]


def test_a_second_page_fetches_its_cursor_once() -> None:
    sent: list[Mapping[str, Any]] = []

    def search(request: Mapping[str, Any]) -> Mapping[str, Any]:
        sent.append(request)
        return {"next_cursor": "next"}

    kind = RequestKind({"limit": 5}, page=2)
    for _ in range(3):
        kind.send(search, lambda: "heron")
    assert [request.get("cursor") for request in sent] == [None, "next", "next", "next"]


def test_rows_compare_with_steps_off_and_with_the_empty_route() -> None:
    cpu_s = {Component.QUERY: 0.3}
    loads = {
        (name, 1): [LoadResult([took_ms] * 10, 10 * took_ms / 1000, cpu_s)]
        for name, took_ms in {EMPTY: 5.0, PLAIN: 20.0, "explain": 25.0}.items()
    }
    rows = {row["request"]: row for row in step_rows(loads)}
    assert rows["explain"]["of_steps_off"] == pytest.approx(0.8)
    assert rows["explain"]["above_route_ms"] == pytest.approx(20.0)
    assert rows["explain"]["above_steps_off_ms"] == pytest.approx(5.0)
    assert rows["explain"]["query_cpu_ms"] == pytest.approx(30.0)
