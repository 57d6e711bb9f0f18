"""`GET /v1/suggest`: completions of one tenant's words and titles."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import httpx
import pytest

from penstock.records import Access
from penstock.serve.plane import QueryPlane


@pytest.fixture
def counted(plane: QueryPlane) -> QueryPlane:
    """Returns the plane when the words of both tenants are counted."""
    vocabularies = plane.words.vocabularies
    assert vocabularies is not None
    vocabularies.changed([])  # the default tenant was counted before its index was filled
    ends_s = time.monotonic() + 20
    while "breakfast" not in vocabularies.get(Access.to_all_of("default")) or "dog" not in vocabularies.get(
        Access.to_all_of("acme")
    ):
        assert time.monotonic() < ends_s
        threading.Event().wait(0.01)
    return plane


@pytest.mark.usefixtures("counted")
def test_words_and_titles_of_the_tenant_are_suggested(call: Callable[..., httpx.Response]) -> None:
    answer = call("GET", "/v1/suggest", params={"q": "Brea"})
    assert answer.status_code == 200
    assert answer.json() == {
        "suggestions": [
            {"text": "bread", "kind": "word", "count": 1},
            {"text": "breakfast", "kind": "word", "count": 1},
        ]
    }
    titles = call("GET", "/v1/suggest", params={"q": "daw", "limit": 1}).json()["suggestions"]
    assert titles == [{"text": "dawn", "kind": "title", "count": 1}]


@pytest.mark.usefixtures("counted")
def test_no_tenant_is_suggested_the_words_of_another(call: Callable[..., httpx.Response]) -> None:
    def suggestions(q: str, **tenant: str) -> list[str]:
        answer = call("GET", "/v1/suggest", params={"q": q, **tenant})
        return [suggestion["text"] for suggestion in answer.json()["suggestions"]]

    assert suggestions("fo", tenant="acme") == ["fog"]
    assert "fog" not in suggestions("fo")
    assert suggestions("bread", tenant="acme") == suggestions("bread", tenant="unknown") == []


@pytest.mark.parametrize(
    ("params", "status"),
    [({}, 422), ({"q": "a" * 201}, 400), ({"q": "a", "limit": 11}, 400), ({"q": "a", "limit": "x"}, 422)],
)
def test_a_request_that_is_wrong_is_refused(
    call: Callable[..., httpx.Response], params: dict[str, str], status: int
) -> None:
    assert call("GET", "/v1/suggest", params=params).status_code == status
