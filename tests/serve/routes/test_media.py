"""Stored media: their headers, and what a browser may show."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest

from penstock.media.known_good import sample
from penstock.records import Modality
from penstock.serve.app import create_app
from penstock.serve.plane import QueryPlane
from penstock.serve.use_cases.media import MAX_RANGE_BYTES, PIECE_BYTES, VERIFIED_BYTES, MediaService
from tests.serve.asgi_stream import open_stream
from tests.serve.sample_index import IMAGES, PROBLEM, raising


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


@pytest.fixture(params=["small", "large"])
def film(request: pytest.FixtureRequest, plane: QueryPlane) -> tuple[str, bytes]:
    """The path and the bytes of a video, in one piece or in several."""
    data = sample(Modality.VIDEO)
    if request.param == "large":
        size = VERIFIED_BYTES + 3 * PIECE_BYTES
        data += size.to_bytes(4, "big") + b"free" + (bytes(range(251)) * (size // 251 + 1))[: size - 8]
    return f"/v1/media/{plane.assets.put(data)}", data  # type: ignore[attr-defined]


def test_a_player_gets_the_bytes_that_it_asks_for(film: tuple[str, bytes], call: Callable[..., httpx.Response]) -> None:
    path, data = film
    size = len(data)
    whole = call("GET", path)
    assert (whole.status_code, whole.content == data) == (200, True)
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-type"] == "video/mp4"
    for requested, start, end in (
        ("bytes=0-", 0, min(size, MAX_RANGE_BYTES)),
        ("bytes=7-16", 7, 17),
        (f"bytes={size // 2}-{size // 2 + 1_300_000}", size // 2, min(size, size // 2 + 1_300_001)),
        ("bytes=-5", size - 5, size),
    ):
        part = call("GET", path, headers={"Range": requested, "If-Range": whole.headers["etag"]})
        assert (part.status_code, part.content == data[start:end]) == (206, True), requested
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert part.headers["content-length"] == str(end - start)
        assert part.headers["content-type"] == "video/mp4"


def test_head_tells_size_and_type_without_the_bytes(
    film: tuple[str, bytes], call: Callable[..., httpx.Response]
) -> None:
    path, data = film
    head = call("HEAD", path, headers={"Range": "bytes=0-1"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(data))
    assert head.headers["accept-ranges"] == "bytes"
    assert head.headers["content-type"] == "video/mp4"
    assert call("HEAD", f"/v1/media/{'0' * 64}").status_code == 404


def test_a_range_that_has_no_bytes_is_refused_with_their_number(
    film: tuple[str, bytes], call: Callable[..., httpx.Response]
) -> None:
    path, data = film
    refused = call("GET", path, headers={"Range": f"bytes={len(data)}-"})
    assert refused.status_code == 416
    assert refused.headers["content-type"] == PROBLEM
    assert refused.headers["content-range"] == f"bytes */{len(data)}"


@pytest.mark.parametrize(
    "headers", [{"Range": "bytes=0-1,5-6"}, {"Range": "lines=1-2"}, {"Range": "bytes=0-1", "If-Range": '"other"'}]
)
def test_any_other_range_is_answered_whole(
    film: tuple[str, bytes], call: Callable[..., httpx.Response], headers: dict[str, str]
) -> None:
    path, data = film
    answer = call("GET", path, headers=headers)
    assert (answer.status_code, answer.content == data) == (200, True)


def test_large_media_are_read_in_pieces(plane: QueryPlane, call: Callable[..., httpx.Response]) -> None:
    data = bytes(VERIFIED_BYTES + 2 * PIECE_BYTES)
    spans: list[int] = []
    read_range = plane.assets.read_range

    def noted(sha256: str, start: int, end: int) -> bytes:
        spans.append(end - start)
        return read_range(sha256, start, end)

    plane.assets.read_range = noted  # type: ignore[method-assign]
    plane.assets.read = raising(AssertionError("read whole"))  # type: ignore[method-assign]
    answer = call("GET", f"/v1/media/{plane.assets.put(data)}")  # type: ignore[attr-defined]
    assert len(answer.content) == len(data)
    assert max(spans) == PIECE_BYTES
    assert sum(spans) < len(data) + 4 * 65_536  # the type takes the ends only


def test_whole_media_wait_for_those_that_others_have_not_received_and_ranges_do_not(plane: QueryPlane) -> None:
    data = bytes(2 * MAX_RANGE_BYTES)
    media = MediaService(plane.assets, plane.pipeline.executor, timeout_s=0.2, max_whole_bytes=len(data) + 1)
    path, limited = f"/v1/media/{plane.assets.put(data)}", replace(plane, media=media)  # type: ignore[attr-defined]

    async def scenario() -> None:
        app = create_app(limited)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://penstock") as client:
            # As behind Ray Serve, all of it is taken immediately, and the client has not read it.
            async with open_stream(app, path) as slow:
                assert slow.status == 200
                refused = await client.get(path)
                assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
                assert "for ranges of them" in refused.json()["detail"]
                part = await client.get(path, headers={"Range": "bytes=5-"})
                assert (part.status_code, len(part.content)) == (206, MAX_RANGE_BYTES)
            assert len((await client.get(path)).content) == len(data)

    asyncio.run(scenario())


def test_media_that_are_gone_or_incomplete_are_missing(plane: QueryPlane, call: Callable[..., httpx.Response]) -> None:
    sha256 = plane.assets.put(b"a few words")  # type: ignore[attr-defined]
    path = plane.assets.local_folder / sha256[:2] / sha256  # type: ignore[attr-defined]
    assert call("GET", f"/v1/media/{sha256}").status_code == 200
    path.write_bytes(b"a few wor")  # as a crash leaves it
    assert call("GET", f"/v1/media/{sha256}").status_code == 404
    path.unlink()
    for method in ("GET", "HEAD"):
        missing = call(method, f"/v1/media/{sha256}", headers={"If-None-Match": f'"{sha256}"'})
        assert missing.status_code == 404


def test_empty_media_are_an_empty_answer(plane: QueryPlane, call: Callable[..., httpx.Response]) -> None:
    sha256 = plane.assets.put(b"")  # type: ignore[attr-defined]
    answer = call("GET", f"/v1/media/{sha256}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert call("GET", f"/v1/media/{sha256}", headers={"Range": "bytes=0-"}).status_code == 416
