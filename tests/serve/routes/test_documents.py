"""Tests what the API says of documents: the sample documents, which the steps of the ingest plane index in memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from penstock.config import IngestSettings, Settings
from penstock.records import Modality
from penstock.samples.documents import sample_documents
from penstock.serve.app import build_query_plane
from tests.serve.conftest import caller
from tools.examples.memory_index import MemoryIndex

PDF, SHEET = "document_files/bicycle-handbook.pdf", "document_files/seed-list.xlsx"
CHAIN = "how do I keep salt off my bicycle chain in winter"


@pytest.fixture(scope="module")
def ask_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., httpx.Response]]:
    """Returns `call(method, path, …)` of a plane over the sample documents and a text."""
    folder: Path = tmp_path_factory.mktemp("documents")
    ingest = IngestSettings(modalities=tuple(Modality), min_free_disk_bytes=0)
    settings = Settings(profile="reference", data_dir=folder / "data", ingest=ingest)
    index = MemoryIndex(settings)
    text = folder / "salt.txt"
    text.write_text("Salt on winter roads is scattered against ice, and a chain of lorries brings it.", "utf-8")
    index.add([*(str(document.file) for document in sample_documents()), str(text)], tenant=settings.tenant)
    plane = build_query_plane(settings, index.store)
    yield caller(plane)
    plane.close()


def hits(call: Callable[..., httpx.Response], **request: Any) -> list[dict[str, Any]]:
    response = call("POST", "/v1/search", json={"deadline_ms": 20_000, **request})
    assert response.status_code == 200, response.text
    result: list[dict[str, Any]] = response.json()["hits"]
    return result


def test_a_passage_says_its_page_and_opens_there(ask_plane: Callable[..., httpx.Response]) -> None:
    passage = next(hit for hit in hits(ask_plane, text=CHAIN) if hit["collection"] == "text" and hit["page"])
    assert passage["title"] == "bicycle-handbook.pdf"
    assert (passage["page"], passage["figure"]) == (2, None)
    assert "Salt eats a chain" in passage["text"]
    assert passage["attributes"]["page_count"] == 3
    assert passage["page_url"] == f"{passage['media_url']}#page=2"
    shown = ask_plane("GET", passage["media_url"])
    assert (shown.headers["content-type"], shown.headers["content-disposition"]) == ("application/pdf", "inline")
    assert shown.headers["content-security-policy"] == "default-src 'none'; object-src 'self'"
    assert shown.headers["x-content-type-options"] == "nosniff"


def test_a_passage_and_its_page_have_the_image_of_the_page(ask_plane: Callable[..., httpx.Response]) -> None:
    every = hits(ask_plane, text=CHAIN, limit=30, group_by="entry")
    matches = [hit for hit in every if hit["key"] == PDF]
    whole = [hit for hit in matches if hit["collection"] == "page" and hit["figure"] == 0]
    images = {}
    for hit in (*whole, *(hit for hit in matches if hit["collection"] == "text")):
        response = ask_plane("GET", f"{hit['thumbnail_url']}&w=320")
        assert response.status_code == 200, response.text
        images.setdefault(hit["page"], []).append(response.content)
    assert sorted(images) == [1, 2, 3]
    for page in (1, 2, 3):
        assert len(images[page]) == 2  # the passage and the page itself
        assert len(set(images[page])) == 1
        assert max(Image.open(io.BytesIO(images[page][0])).size) == 320
    assert len({of_page[0] for of_page in images.values()}) == 3


def test_the_image_of_a_page_is_no_hit_after_a_passage_of_it(ask_plane: Callable[..., httpx.Response]) -> None:
    matches = hits(ask_plane, text=CHAIN, limit=30)
    passage = next(hit for hit in matches if "Salt eats a chain" in hit["text"])
    assert [(other["collection"], other["page"]) for other in passage["others"]] == [("page", 2)]
    assert passage["others"][0]["id"] not in {hit["id"] for hit in matches}


def test_an_image_on_a_page_is_a_hit_of_its_own(ask_plane: Callable[..., httpx.Response]) -> None:
    matches = hits(ask_plane, text="a bicycle", modalities=["document"], limit=30)
    (figure,) = [hit for hit in matches if hit["figure"]]
    assert (figure["key"], figure["collection"], figure["page"], figure["figure"]) == (PDF, "page", 2, 1)


@pytest.mark.parametrize(
    ("modalities", "kinds"),
    [
        (["text"], {("text", False)}),
        (["document"], {("text", True), ("page", True)}),
        (["text", "document"], {("text", False), ("text", True), ("page", True)}),
        (["image"], set()),
    ],
)
def test_documents_and_texts_are_kinds_of_their_own(
    ask_plane: Callable[..., httpx.Response], modalities: list[str], kinds: set[tuple[str, bool]]
) -> None:
    matches = hits(ask_plane, text=CHAIN, modalities=modalities, limit=50)
    assert {(hit["collection"], hit["page"] is not None) for hit in matches} == kinds


def test_pages_can_be_filtered_by_their_number(ask_plane: Callable[..., httpx.Response]) -> None:
    matches = hits(ask_plane, text=CHAIN, filter={"page": {"gte": 3}}, limit=50)
    assert {(hit["key"], hit["page"]) for hit in matches} == {(PDF, 3)}


def test_a_sheet_has_its_name_and_no_address_of_a_page(ask_plane: Callable[..., httpx.Response]) -> None:
    matches = hits(ask_plane, text="when is the sweet pea sown", filter={"key": SHEET})
    best = matches[0]
    assert best["page"] == 2
    assert best["page_label"]
    assert (best["page_url"], best["thumbnail_url"]) == (None, None)
    saved = ask_plane("GET", best["media_url"])
    assert saved.headers["content-type"] == "application/octet-stream"
    assert saved.headers["content-disposition"].startswith("attachment")


def test_an_answer_quotes_a_page(ask_plane: Callable[..., httpx.Response]) -> None:
    response = ask_plane(
        "POST", "/v1/ask", json={"question": "When is a brake pad worn out?"}, headers={"Accept": "application/json"}
    )
    assert response.status_code == 200, response.text
    source = response.json()["sources"][0]
    assert (source["hit"]["key"], source["hit"]["page"]) == (PDF, 3)
    assert "less than one millimetre" in source["quote"]
    assert source["thumbnail_url"] is not None
