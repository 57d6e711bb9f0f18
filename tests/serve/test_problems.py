"""Errors as problem documents."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from penstock.errors import OverloadedError, UnavailableError
from penstock.serve.plane import QueryPlane
from tests.serve.sample_index import IMAGES, PROBLEM, raising


@pytest.mark.parametrize(
    ("body", "status", "field", "words"),
    [
        ({}, 400, "/text", "nothing to search for"),
        ({"text": "  "}, 400, "/text", "empty"),
        ({"text": "a", "filter": {"colour": "red"}}, 400, "/filter", "colour"),
        ({"text": "a", "filter": "mime"}, 422, "/filter", "dict"),
        ({"text": "a", "modalities": ["smell"]}, 400, "/modalities/0", "smell"),
        ({"text": "a", "modalities": "image"}, 422, "/modalities", "list"),
        ({"text": "a", "limit": 51}, 400, "/limit", "1 to 50"),
        ({"text": "a", "limit": "many"}, 422, "/limit", "integer"),
        ({"text": "a", "deadline_ms": 0}, 400, "/deadline_ms", "1 to"),
        ({"text": 7}, 422, "/text", "string"),
        ({"text": "a", "page": 2}, 422, "/page", "not permitted"),
        ({"image": "no base64!"}, 400, "/image", "base64"),
        ({"image": base64.b64encode(b"not an image").decode()}, 422, "/image", "image"),
        ({"image": base64.b64encode(IMAGES["noon"][:60]).decode()}, 422, "/image", "does not decode"),
        ({"image": base64.b64encode(b"x" * 5000).decode()}, 413, "/image", "4,096"),
        ({"image": "AAAA", "modalities": ["audio"]}, 400, "/modalities", "image query"),
        ({"audio": "no base64!"}, 400, "/audio", "base64"),
        ({"audio": 7}, 422, "/audio", "string"),
        ({"audio": base64.b64encode(b"not audio").decode()}, 422, "/audio", "audio"),
        ({"audio": base64.b64encode(b"x" * 100_001).decode()}, 413, "/audio", "max_audio_bytes"),
    ],
)
def test_an_invalid_request_is_a_problem_that_points_at_its_field(
    search: Callable[..., httpx.Response], body: dict[str, Any], status: int, field: str, words: str
) -> None:
    answer = search(**body)
    problem = answer.json()
    assert answer.headers["content-type"] == PROBLEM
    assert answer.status_code == problem["status"] == status
    assert problem["instance"] == "/v1/search"
    assert problem["field"].startswith(field)
    assert words in problem["detail"]
    assert set(problem) == {"type", "title", "status", "detail", "instance", "field"}


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/v1/search", b"{", 400),
        ("POST", "/v1/search", b"[]", 422),
        ("POST", "/v1/search", b"\xff\xfe", 400),
        ("GET", "/v1/search", b"", 405),
        ("GET", "/v2/search", b"", 404),
        ("GET", "/v1/media/short", b"", 404),
        ("GET", f"/v1/media/{'A' * 64}", b"", 404),
        ("GET", f"/v1/media/{'a' * 64}", b"", 404),
        ("GET", "/v1/media/..%2f..%2fetc%2fpasswd", b"", 404),
    ],
)
def test_errors_of_the_framework_are_problems_too(
    call: Callable[..., httpx.Response], method: str, path: str, content: bytes, status: int
) -> None:
    answer = call(method, path, content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    assert answer.json()["status"] == status


def test_a_store_that_is_down_is_503_with_a_time_to_wait(
    plane: QueryPlane,
    search: Callable[..., httpx.Response],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plane.store, "search", raising(UnavailableError("Milvus at nowhere:19530 does not answer")))
    answer = search(text="cat")
    assert (answer.status_code, answer.headers["content-type"]) == (503, PROBLEM)
    assert int(answer.headers["retry-after"]) >= 1
    assert "nowhere:19530" in answer.json()["detail"]


def test_an_overloaded_replica_is_429_with_a_time_to_wait(
    plane: QueryPlane,
    search: Callable[..., httpx.Response],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plane.pipeline, "search", raising(OverloadedError("full", retry_after_s=1.2)))
    answer = search(text="cat")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")


def test_an_unexpected_error_reveals_nothing_to_the_client(
    plane: QueryPlane,
    search: Callable[..., httpx.Response],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plane.pipeline, "search", raising(ZeroDivisionError("secret")))
    answer = search(text="cat")
    assert (answer.status_code, answer.headers["content-type"]) == (500, PROBLEM)
    assert "secret" not in answer.text
