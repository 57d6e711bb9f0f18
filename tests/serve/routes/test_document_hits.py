"""Tests hits of documents that have page labels and images, how they are searched by, and their media."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from penstock.encoders.profiles import JOINT_IMAGE
from penstock.records import AssetRef, Checkpoint, Collection, Entry, Field, MediaPosition, Version, part_id
from penstock.samples.documents import sample_documents
from penstock.serve.plane import QueryPlane
from tests.serve.sample_index import entry, png, vector

HANDBOOK = AssetRef("default", "media.document", "handbook.pdf")
PASSAGES = ("salt eats a chain", "tyres grip in winter")
LABELS = ("iv", "")

Call = Callable[..., httpx.Response]
Search = Callable[..., httpx.Response]


@dataclass(frozen=True, slots=True)
class Indexed:
    """A PDF of two pages, with an image on the second, and its bytes."""

    data: bytes
    passages: list[Entry]
    pages: list[Entry]

    @property
    def media(self) -> str:
        return f"/v1/media/{self.passages[0].uri.removeprefix('asset:')}"


def sample_bytes(suffix: str) -> bytes:
    return next(document for document in sample_documents() if document.file.suffix == suffix).file.read_bytes()


@pytest.fixture
def handbook(plane: QueryPlane) -> Indexed:
    data = sample_bytes(".pdf")
    uri = f"asset:{plane.assets.put(data)}"  # type: ignore[attr-defined]
    images = [png(shade) for shade in (90, 150, 210)]
    kept = [f"asset:{plane.assets.put(image)}" for image in images]  # type: ignore[attr-defined]

    def part(collection: Collection, number: int, page: int, **fields: Any) -> Entry:
        fields |= {"page": page, "page_label": LABELS[page - 1], "mime": "application/pdf", "uri": uri}
        part_entry = entry(collection, "", asset=HANDBOOK, attributes_json='{"page_count": 2}', **fields)
        return replace(part_entry, id=part_id(HANDBOOK.id, collection, number), part=number)

    passages = [
        part(
            Collection.TEXT,
            number,
            number + 1,
            title="Handbook",
            text=text,
            thumbnail=kept[number],
            vectors={
                Field.PASSAGE: vector("passage.text", text, plane.settings),
                Field.JOINT: vector("joint.text", text, plane.settings),
            },
        )
        for number, text in enumerate(PASSAGES)
    ]
    pages = [
        part(
            Collection.PAGE,
            number,
            page,
            title="Handbook",
            figure=figure,
            text="a bicycle" if figure else "",
            thumbnail=kept[number],
            vectors={Field.JOINT: vector(JOINT_IMAGE, images[number], plane.settings)},
        )
        for number, (page, figure) in enumerate([(1, 0), (2, 0), (2, 1)])
    ]
    plane.store.upsert(Collection.TEXT, passages)
    plane.store.upsert(Collection.PAGE, pages)
    return Indexed(data, passages, pages)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_passage_is_found_at_its_page(search: Search, handbook: Indexed) -> None:
    first, second = (search(text=text, limit=1).json()["hits"][0] for text in PASSAGES)
    assert (first["id"], second["id"]) == tuple(passage.id for passage in handbook.passages)
    assert (first["page"], first["page_label"], first["figure"]) == (1, "iv", None)
    assert (second["page"], second["page_label"], second["figure"]) == (2, None, None)
    assert first["media_url"].startswith(handbook.media)
    assert first["page_url"] == f"{first['media_url']}#page=1"
    assert second["page_url"].endswith("#page=2")
    assert (first["captions_url"], first["moment"], first["attributes"]) == (None, None, {"page_count": 2})


def test_a_page_and_an_image_on_it_are_found_by_what_they_show(search: Search, handbook: Indexed) -> None:
    hits = search(image=base64_of(png(210)), modalities=["document"], limit=3).json()["hits"]
    assert (hits[0]["id"], hits[0]["page"], hits[0]["figure"]) == (handbook.pages[2].id, 2, 1)
    whole = search(image=base64_of(png(90)), modalities=["document"], limit=1).json()["hits"][0]
    assert (whole["collection"], whole["page"], whole["figure"]) == ("page", 1, 0)
    assert [match["channel"] for match in whole["found_by"]] == ["page.joint"]


def test_the_places_of_a_document_are_one_hit_by_asset(search: Search, handbook: Indexed) -> None:
    hits = search(text=PASSAGES[0], modalities=["document"], group_by="asset", limit=5).json()["hits"]
    assert [hit["key"] for hit in hits] == ["handbook.pdf"]
    places = {(other["collection"], other["page"], other["page_label"]) for other in hits[0]["others"]}
    assert {("text", 2, None), ("page", 1, "iv"), ("page", 2, None)} <= places


def test_a_page_is_an_image_to_search_by_and_to_avoid(search: Search, handbook: Indexed) -> None:
    page = handbook.pages[0]
    like = search(like=[page.id], modalities=["document"], limit=20).json()
    assert page.id not in {hit["id"] for hit in like["hits"]}
    assert handbook.pages[1].id in {hit["id"] for hit in like["hits"]}
    part = search(frame={"id": page.id}, region={"x": 0.1, "y": 0.1, "w": 0.5, "h": 0.5}, limit=5)
    assert part.status_code == 200, part.text
    assert "thumbnail of the frame or page" in " ".join(part.json()["query"]["because"])
    refused = search(frame={"id": handbook.passages[0].id}, limit=5)
    assert refused.status_code == 400
    assert "an image, a frame of a video or a page" in refused.json()["detail"]


@pytest.mark.parametrize("suffix", [".docx", ".xlsx"])
def test_an_office_file_is_an_attachment_with_its_suffix(plane: QueryPlane, call: Call, suffix: str) -> None:
    sha256 = plane.assets.put(sample_bytes(suffix))  # type: ignore[attr-defined]
    headers = call("GET", f"/v1/media/{sha256}").headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"] == f'attachment; filename="{sha256[:16]}{suffix}"'
    assert "sandbox" in headers["content-security-policy"]


def test_the_entries_of_a_document_are_in_the_order_of_its_pages(call: Call, handbook: Indexed) -> None:
    entries = call("GET", f"{handbook.media}/entries").json()["entries"]
    assert [(listed["page"], listed["collection"]) for listed in entries] == [
        (1, "page"),
        (1, "text"),
        (2, "page"),
        (2, "page"),
        (2, "text"),
    ]


def test_a_document_that_is_still_being_indexed_says_so(plane: QueryPlane, search: Search, handbook: Indexed) -> None:
    passage = handbook.passages[0]
    assert not search(text=PASSAGES[0], limit=1).json()["hits"][0]["indexing"]
    version = Version(0, passage.origin.partition, passage.origin.offset)
    plane.store.put_checkpoints([Checkpoint(HANDBOOK, version, MediaPosition(page=2), {}, "", "")])
    assert search(text=PASSAGES[0], limit=1, deadline_ms=5_001).json()["hits"][0]["indexing"]
