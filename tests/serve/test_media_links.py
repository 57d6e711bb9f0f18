"""Media, thumbnails and captions are for callers whose entries refer to them, and for requests with a signed link."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from penstock.auth import MediaLinks, Permission
from penstock.serve.app import create_app
from penstock.serve.media_links import media_name
from penstock.serve.plane import QueryPlane
from tests.clock import Clock
from tests.serve.conftest import caller
from tests.serve.keyed import keyed_plane
from tests.serve.sample_index import IMAGES

READS = (Permission.SEARCH, Permission.MEDIA)
KEYS: dict[str, dict[str, Any]] = {
    "owner": {"tenants": ("default",), "permissions": READS},
    "stranger": {"tenants": ("acme",), "permissions": READS},
    "searcher": {"tenants": ("default",), "permissions": (Permission.SEARCH,)},
    "unlabelled": {"tenants": ("default",), "permissions": READS, "labels": ("personnel",)},
    "operator": {"tenants": ("*",), "permissions": READS, "labels": ("*",)},
    "both": {"tenants": ("acme", "default"), "permissions": READS},
}
ABSENT = "0" * 64


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[QueryPlane, dict[str, str]]]:
    with keyed_plane(tmp_path_factory.mktemp("keyed"), KEYS) as plane_and_texts:
        yield plane_and_texts


@pytest.fixture(scope="module")
def get(keyed: tuple[QueryPlane, dict[str, str]]) -> Callable[..., httpx.Response]:
    """Returns `get(path, key, **query)`."""
    plane, texts = keyed
    send = caller(plane, create_app(plane))

    def request(path: str, key: str | None = None, **query: Any) -> httpx.Response:
        headers = {} if key is None else {"Authorization": f"Bearer {texts[key]}"}
        return send("GET", path, headers=headers, params=query or None)

    return request


@pytest.fixture(scope="module")
def hit(keyed: tuple[QueryPlane, dict[str, str]]) -> dict[str, Any]:
    """The image as the owner's search shows it."""
    plane, texts = keyed
    body = {
        "image": base64.b64encode(IMAGES["noon"]).decode(),
        "modalities": ["image"],
        "limit": 1,
        "deadline_ms": 60_000,
    }
    headers = {"Authorization": f"Bearer {texts['owner']}"}
    answer = caller(plane)("POST", "/v1/search", json=body, headers=headers)
    shown: dict[str, Any] = answer.json()["hits"][0]
    return shown


def sha256_of(hit: dict[str, Any]) -> str:
    match = re.match(r"/v1/media/([0-9a-f]{64})\?", hit["media_url"])
    assert match is not None
    return match[1]


def document(answer: httpx.Response, sha256: str) -> tuple[int, str]:
    """Returns the status and the body of an answer, without the hash."""
    return answer.status_code, answer.text.replace(sha256, "HASH")


def test_the_links_of_an_answer_open_media_and_thumbnails_without_credentials(
    get: Callable[..., httpx.Response], hit: dict[str, Any]
) -> None:
    assert get(hit["media_url"]).content == IMAGES["noon"]
    thumbnail = get(hit["thumbnail_url"] + "&w=80")
    assert thumbnail.headers["content-type"] == "image/jpeg"


def test_a_link_opens_nothing_else(get: Callable[..., httpx.Response], hit: dict[str, Any]) -> None:
    query = {name: values[0] for name, values in parse_qs(urlsplit(hit["media_url"]).query).items()}
    sha256 = sha256_of(hit)
    for words in ("captions.vtt", "entries"):
        assert get(f"/v1/media/{sha256}/{words}", **query).status_code == 401
        assert get(f"/v1/media/{sha256}/{words}", entry=hit["id"], **query).status_code == 401
    assert get(f"/v1/media/{ABSENT}", **query).status_code == 401
    assert get(f"/v1/entries/{hit['id']}/thumbnail", **query).status_code == 401
    assert get(f"/v1/media/{sha256}", **query | {"tenant": "acme"}).status_code == 401
    assert get(f"/v1/media/{sha256}", **query | {"exp": str(int(query["exp"]) + 1)}).status_code == 401
    other = "B" if query["sig"][0] == "A" else "A"
    assert get(f"/v1/media/{sha256}", **query | {"sig": other + query["sig"][1:]}).status_code == 401
    assert get(f"/v1/media/{sha256}", exp=query["exp"], sig=query["sig"]).status_code == 401
    assert get(f"/v1/media/{sha256}", tenant="default").status_code == 401


def test_a_caller_reads_media_that_its_entries_refer_to(
    get: Callable[..., httpx.Response], hit: dict[str, Any]
) -> None:
    path = f"/v1/media/{sha256_of(hit)}"
    assert get(path, "owner").content == IMAGES["noon"]
    assert get(path, "both", tenant="default").content == IMAGES["noon"]
    assert get(path, "both").status_code == 400
    assert get(path, "searcher").status_code == 403
    assert get(path).status_code == 401


def test_the_media_of_another_tenant_are_not_found_in_the_same_bytes_as_absent_ones(
    get: Callable[..., httpx.Response], hit: dict[str, Any]
) -> None:
    sha256 = sha256_of(hit)
    for suffix in ("", "?w=80"):
        absent = document(get(f"/v1/media/{ABSENT}{suffix}", "stranger"), ABSENT)
        assert absent[0] == 404
        assert document(get(f"/v1/media/{sha256}{suffix}", "stranger"), sha256) == absent
    named = document(get(f"/v1/media/{ABSENT}", "both", tenant="acme"), ABSENT)
    assert document(get(f"/v1/media/{sha256}", "both", tenant="acme"), sha256) == named
    assert document(get(f"/v1/media/{sha256}", "stranger", tenant="default"), sha256) == document(
        get(f"/v1/media/{ABSENT}", "stranger", tenant="default"), ABSENT
    )


def test_media_of_entries_without_a_label_of_the_caller_are_not_found_either(
    get: Callable[..., httpx.Response], hit: dict[str, Any]
) -> None:
    sha256 = sha256_of(hit)
    absent = document(get(f"/v1/media/{ABSENT}", "unlabelled"), ABSENT)
    assert document(get(f"/v1/media/{sha256}", "unlabelled"), sha256) == absent
    assert get(f"/v1/entries/{hit['id']}/thumbnail", "unlabelled").status_code == 404
    assert get(f"/v1/media/{sha256}/entries", "unlabelled").json() == {"entries": []}
    assert get(f"/v1/media/{sha256}", "operator").content == IMAGES["noon"]


def test_media_that_are_stored_and_that_no_entry_refers_to_are_not_found(
    keyed: tuple[QueryPlane, dict[str, str]], get: Callable[..., httpx.Response]
) -> None:
    plane, _ = keyed
    sha256 = plane.assets.put(b"a stashed dead letter")  # type: ignore[attr-defined]
    assert get(f"/v1/media/{sha256}", "owner").status_code == 404


def test_the_entries_and_captions_of_media_are_those_of_the_callers_tenant(
    get: Callable[..., httpx.Response], hit: dict[str, Any]
) -> None:
    path = f"/v1/media/{sha256_of(hit)}"
    assert [entry["id"] for entry in get(f"{path}/entries", "owner").json()["entries"]] == [hit["id"]]
    assert get(f"{path}/entries", "stranger").json() == get(f"/v1/media/{ABSENT}/entries", "stranger").json()
    assert get(f"/v1/entries/{hit['id']}/thumbnail", "stranger").status_code == 404
    assert get(f"/v1/entries/{hit['id']}/thumbnail", "stranger", tenant="default").status_code == 403


def test_a_cached_answer_gets_new_links_before_its_own_expire(
    keyed: tuple[QueryPlane, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, texts = keyed
    plane.changes.set_available(True)
    clock = Clock(1e9)
    monkeypatch.setattr(plane.media_links, "_clock", clock)
    send = caller(plane, create_app(plane))
    body = {
        "image": base64.b64encode(IMAGES["dawn"]).decode(),
        "modalities": ["image"],
        "limit": 1,
        "deadline_ms": 60_000,
    }

    def media_url() -> str:
        headers = {"Authorization": f"Bearer {texts['owner']}"}
        answer = send("POST", "/v1/search", json=body, headers=headers).json()
        cached.append("cached" in answer["took_ms"])
        url: str = answer["hits"][0]["media_url"]
        return url

    cached: list[bool] = []
    first = media_url()
    clock.now_s += 60
    assert media_url() == first
    clock.now_s += 600
    assert media_url() != first
    assert cached == [False, True, True]
    assert send("GET", media_url()).status_code == 200
    clock.now_s += 600
    assert send("GET", first).status_code == 401


def test_a_plane_without_credentials_signs_nothing_and_serves_media_by_their_hash(
    call: Callable[..., httpx.Response], search: Callable[..., httpx.Response]
) -> None:
    image = base64.b64encode(IMAGES["noon"]).decode()
    shown = search(image=image, modalities=["image"], limit=1, deadline_ms=60_000).json()["hits"][0]
    assert re.fullmatch(r"/v1/media/[0-9a-f]{64}", shown["media_url"])
    assert call("GET", shown["media_url"]).status_code == 200


def test_a_bound_link_needs_the_credentials_of_its_caller(
    keyed: tuple[QueryPlane, dict[str, str]],
    get: Callable[..., httpx.Response],
    hit: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plane, _ = keyed
    bound = MediaLinks(lambda: (b"k" * 32,), lifetime_s=900, bound=True)
    monkeypatch.setattr(plane.media_links, "_keys", lambda: (b"k" * 32,))
    monkeypatch.setattr(plane.media_links, "_bound", True)
    link = bound.sign(media_name(sha256_of(hit)), tenant="default", subject="key:owner")
    query = {"tenant": "default", "exp": link.expires, "sig": link.signature}
    path = f"/v1/media/{sha256_of(hit)}"
    assert get(path, "owner", **query).status_code == 200
    assert get(path, **query).status_code == 401
    assert get(path, "stranger", **query).status_code == 403
