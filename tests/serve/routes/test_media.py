"""Stored media: their headers, and what a browser may show."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

import httpx
import pytest

from penstock.serve.plane import QueryPlane
from tests.serve.sample_index import IMAGES


def test_an_image_finds_itself_and_its_media_can_be_fetched(
    search: Callable[..., httpx.Response], call: Callable[..., httpx.Response]
) -> None:
    image = base64.b64encode(IMAGES["noon"]).decode()
    hit = search(image=image, modalities=["image"], limit=1).json()["hits"][0]
    assert hit["key"] == "noon"
    media = call("GET", hit["media_url"])
    assert media.content == IMAGES["noon"]
    assert media.headers["content-type"] == "image/png"
    assert media.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in media.headers["content-security-policy"]
    again = call("GET", hit["media_url"], headers={"If-None-Match": media.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "data", [b"<!doctype html><script>alert(1)</script>", b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", b"\0\1\2"]
)
def test_media_that_can_hold_a_script_or_are_unknown_are_attachments(
    plane: QueryPlane, call: Callable[..., httpx.Response], data: bytes
) -> None:
    sha256 = plane.assets.put(data)  # type: ignore[attr-defined]
    answer = call("GET", f"/v1/media/{sha256}")
    assert answer.content == data
    shown = answer.headers["content-disposition"] == "inline"
    assert not shown or answer.headers["content-type"].startswith("text/plain")
    if b"html" in data:
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["content-type"] == "application/octet-stream"


def test_media_are_named_by_their_hash(plane: QueryPlane) -> None:
    assert plane.assets.put(b"x") == hashlib.sha256(b"x").hexdigest()  # type: ignore[attr-defined]
