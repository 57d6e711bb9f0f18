"""Entries are shown by thumbnails, captions and lists."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from PIL import Image

from penstock.errors import UnavailableError
from penstock.records import AssetRef, Collection, Entry, Position, part_id
from penstock.serve.plane import QueryPlane
from tests.serve.sample_index import IMAGES, PROBLEM, entry, raising

VIDEO = "c" * 64
FILM = AssetRef("default", "media.video", "film")


def jpeg(width: int, height: int, colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, "JPEG")
    return out.getvalue()


def stored(plane: QueryPlane, data: bytes) -> str:
    return f"asset:{plane.assets.put(data)}"  # type: ignore[attr-defined]


def picture(plane: QueryPlane, data: bytes, *, tenant: str = "default", key: str = "picture") -> Entry:
    image = entry(Collection.IMAGE, key, tenant=tenant, mime="image/jpeg", uri=stored(plane, data))
    plane.store.upsert(Collection.IMAGE, [image])
    return image


def part(collection: Collection, number: int, start_s: float, end_s: float, **fields: object) -> Entry:
    """A part of the video, in its first slot."""
    defaults = {"mime": "video/mp4", "uri": f"asset:{VIDEO}", "start_ms": int(start_s * 1000)}
    part = entry(collection, "", asset=FILM, end_ms=int(end_s * 1000), **{**defaults, **fields})
    return replace(part, id=part_id(FILM.id, collection, number), part=number)


@pytest.fixture
def film(plane: QueryPlane) -> QueryPlane:
    """A video of ten seconds: three frames and two passages of speech."""
    frames = [
        part(Collection.FRAME, n, 4 * n, min(10, 4 * n + 4), thumbnail=stored(plane, jpeg(320, 180, colour)))
        for n, colour in enumerate(("red", "lime", "blue"))
    ]
    words = ("a wolf <howls>", "& the moon rises")
    speech = [part(Collection.SPEECH, n, 5 * n, 5 * n + 5, text=text) for n, text in enumerate(words)]
    plane.store.upsert(Collection.FRAME, frames)
    plane.store.upsert(Collection.SPEECH, speech)
    return plane


def size_and_colour(answer: httpx.Response) -> tuple[tuple[int, int], tuple[int, ...]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.content), formats=["JPEG"]) as image:
        red, green, blue = image.convert("RGB").getpixel((image.width // 2, image.height // 2))  # type: ignore[misc]
        return image.size, (red > 200, green > 200, blue > 200)


@pytest.mark.parametrize(
    ("width", "expected"), [(1, (80, 60)), (80, (80, 60)), (81, (160, 120)), (640, (640, 480)), (800, (800, 600))]
)
def test_a_thumbnail_has_one_of_few_sizes(
    plane: QueryPlane, call: Callable[..., httpx.Response], width: int, expected: tuple[int, int]
) -> None:
    image = picture(plane, jpeg(1200, 900))
    answer = call("GET", f"/v1/entries/{image.id}/thumbnail?w={width}")
    assert size_and_colour(answer) == (expected, (True, False, False))
    assert len(answer.content) < 10_000
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = call(
        "GET", f"/v1/entries/{image.id}/thumbnail?w={width}", headers={"If-None-Match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


def test_a_small_image_keeps_its_size_and_a_turned_one_stands_upright(
    plane: QueryPlane, call: Callable[..., httpx.Response]
) -> None:
    out = io.BytesIO()
    turned = Image.new("RGB", (100, 50), "blue")
    turned.getexif()[0x0112] = 6  # to be shown turned by 90°
    turned.save(out, "JPEG", exif=turned.getexif())
    image = picture(plane, out.getvalue())
    assert size_and_colour(call("GET", f"/v1/entries/{image.id}/thumbnail"))[0] == (50, 100)


def test_a_thumbnail_is_made_once(
    plane: QueryPlane, call: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(plane, jpeg(1200, 900))
    other = picture(plane, jpeg(1200, 900), key="the same media")
    assert call("GET", f"/v1/entries/{image.id}/thumbnail").status_code == 200
    plane.assets.delete(image.uri.removeprefix("asset:"))  # type: ignore[attr-defined]
    for cached in (image, other):
        assert size_and_colour(call("GET", f"/v1/entries/{cached.id}/thumbnail"))[0] == (320, 240)
    assert call("GET", f"/v1/entries/{image.id}/thumbnail?w=80").status_code == 404


def test_the_thumbnail_of_a_hit_is_where_the_hit_says(
    search: Callable[..., httpx.Response], call: Callable[..., httpx.Response]
) -> None:
    hits = search(image=base64.b64encode(IMAGES["noon"]).decode(), limit=5).json()["hits"]
    assert {hit["collection"] for hit in hits} == {"image", "text"}
    for hit in hits:
        if hit["collection"] == "image":
            assert size_and_colour(call("GET", f"{hit['thumbnail_url']}&w=80"))[0] == (16, 16)
        else:
            assert hit["thumbnail_url"] is None


def test_what_is_said_in_a_video_is_shown_by_the_frame_of_its_time(
    film: QueryPlane, call: Callable[..., httpx.Response]
) -> None:
    for number, colour in enumerate([(True, False, False), (False, True, False)]):  # in their middle: 2.5 s and 7.5 s
        speech = part_id(FILM.id, Collection.SPEECH, number)
        assert size_and_colour(call("GET", f"/v1/entries/{speech}/thumbnail")) == ((320, 180), colour)
    frame = part_id(FILM.id, Collection.FRAME, 2)
    assert size_and_colour(call("GET", f"/v1/entries/{frame}/thumbnail?w=160")) == ((160, 90), (False, False, True))


def test_entries_without_an_image_and_of_other_tenants_have_no_thumbnail(
    plane: QueryPlane, search: Callable[..., httpx.Response], call: Callable[..., httpx.Response]
) -> None:
    text = search(text="a cat on a mat", modalities=["text"]).json()["hits"][0]["id"]
    secret = picture(plane, jpeg(40, 40), tenant="acme")
    broken = picture(plane, b"\xff\xd8\xff\xe0 no JPEG", key="broken")
    lost = picture(plane, jpeg(41, 41), key="lost")
    plane.assets.delete(lost.uri.removeprefix("asset:"))  # type: ignore[attr-defined]
    assert call("GET", f"/v1/entries/{secret.id}/thumbnail?tenant=acme").status_code == 200
    for id_ in (text, secret.id, broken.id, lost.id, "none"):
        answer = call("GET", f"/v1/entries/{id_}/thumbnail")
        assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM), id_
        assert "field" not in answer.json()
    assert call("GET", f"/v1/entries/{text}/thumbnail?w=801").status_code == 422


def test_the_captions_of_a_hit_are_where_the_hit_says(
    film: QueryPlane, call: Callable[..., httpx.Response], search: Callable[..., httpx.Response]
) -> None:
    hits = search(text="a wolf howls", limit=10, deadline_ms=60_000).json()["hits"]
    assert {hit["captions_url"] for hit in hits if hit["collection"] in ("text", "image")} == {None}
    spoken = next(hit for hit in hits if hit["moment"] is not None)
    assert call("GET", spoken["captions_url"]).content == call("GET", f"/v1/media/{VIDEO}/captions.vtt").content


def test_captions_are_the_words_of_a_film(film: QueryPlane, call: Callable[..., httpx.Response]) -> None:
    answer = call("GET", f"/v1/media/{VIDEO}/captions.vtt")
    assert answer.headers["content-type"] == "text/vtt; charset=utf-8"
    first, second = (part_id(FILM.id, Collection.SPEECH, number) for number in range(2))
    assert answer.text == (
        f"WEBVTT\n\n{first}-1\n00:00:00.000 --> 00:00:05.000\na wolf &lt;howls&gt;\n"
        f"\n{second}-1\n00:00:05.000 --> 00:00:10.000\n&amp; the moon rises\n"
    )


@pytest.mark.parametrize("path", ["captions.vtt", "entries"])
def test_words_of_another_tenant_are_as_if_there_were_none(
    film: QueryPlane, call: Callable[..., httpx.Response], path: str
) -> None:
    others = call("GET", f"/v1/media/{VIDEO}/{path}?tenant=acme")
    nothing = call("GET", f"/v1/media/{'0' * 64}/{path}")
    assert (others.status_code, others.content) == (nothing.status_code, nothing.content)
    assert others.status_code == 200
    assert call("GET", f"/v1/media/{VIDEO[:-1]}/{path}").status_code == 404


def test_the_entries_of_a_film_are_listed_in_order_of_time(
    film: QueryPlane, call: Callable[..., httpx.Response]
) -> None:
    def listed(query: str = "") -> list[tuple[str, int]]:
        entries = call("GET", f"/v1/media/{VIDEO}/entries{query}").json()["entries"]
        assert all(entry["thumbnail_url"].startswith(f"/v1/entries/{entry['id']}/") for entry in entries)
        return [(entry["collection"], entry["start_ms"]) for entry in entries]

    frames, speech = [("frame", 0), ("frame", 4000), ("frame", 8000)], [("speech", 0), ("speech", 5000)]
    assert listed() == sorted(frames + speech, key=lambda item: item[1])
    assert listed("?collection=speech") == speech
    assert call("GET", f"/v1/media/{VIDEO}/entries?collection=nonsense").status_code == 422


@pytest.mark.parametrize("path", ["captions.vtt", "entries"])
def test_entries_are_read_by_their_ids_if_one_is_known(
    film: QueryPlane, call: Callable[..., httpx.Response], path: str
) -> None:
    expected = call("GET", f"/v1/media/{VIDEO}/{path}").content
    elsewhere = picture(film, jpeg(9, 9))
    select, selected = film.store.select, []

    def noted(*arguments: Any, **options: Any) -> Any:
        selected.append(arguments)
        return select(*arguments, **options)

    film.store.select = noted  # type: ignore[method-assign]
    for known in (part_id(FILM.id, Collection.SPEECH, 1), part_id(FILM.id, Collection.FRAME, 2)):
        assert call("GET", f"/v1/media/{VIDEO}/{path}?entry={known}").content == expected
    assert not selected
    for unknown in ("none", elsewhere.id):
        assert call("GET", f"/v1/media/{VIDEO}/{path}?entry={unknown}").content == expected
    assert selected
    secret = call("GET", f"/v1/media/{VIDEO}/{path}?tenant=acme&entry={part_id(FILM.id, Collection.SPEECH, 1)}").content
    assert secret == call("GET", f"/v1/media/{VIDEO}/{path}?tenant=acme").content != expected


def test_one_version_of_one_asset_is_listed(film: QueryPlane, call: Callable[..., httpx.Response]) -> None:
    """While a video is indexed again both versions are stored; other assets may have the same media."""
    newer = part(Collection.SPEECH, 0, 0, 5, text="once more", origin=Position("media.video", 3, 99))
    newer = replace(newer, id=part_id(FILM.id, Collection.SPEECH, 0, 1), indexed_at_ms=newer.indexed_at_ms + 9)
    copy = replace(part(Collection.SPEECH, 0, 0, 4, text="a copy"), asset=AssetRef("default", "media.video", "copy"))
    film.store.upsert(Collection.SPEECH, [newer, replace(copy, id=part_id(copy.asset.id, Collection.SPEECH, 0))])

    def texts() -> list[str]:
        entries = call("GET", f"/v1/media/{VIDEO}/entries?collection=speech").json()["entries"]
        return [entry["text"] for entry in entries]

    assert texts() == ["a wolf <howls>", "& the moon rises"]
    rest = part(Collection.SPEECH, 1, 5, 10, text="to the end", origin=newer.origin)
    rest = replace(rest, id=part_id(FILM.id, Collection.SPEECH, 1, 1), indexed_at_ms=newer.indexed_at_ms)
    film.store.upsert(Collection.SPEECH, [rest])
    assert texts() == ["once more", "to the end"]


@pytest.mark.parametrize("path", [f"/v1/entries/{'a' * 32}/thumbnail", f"/v1/media/{VIDEO}/captions.vtt"])
def test_a_store_that_is_down_is_said(plane: QueryPlane, call: Callable[..., httpx.Response], path: str) -> None:
    down = raising(UnavailableError("down"))
    plane.store.entries = plane.store.select = down  # type: ignore[method-assign]
    answer = call("GET", path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
