"""LangChain's standard tests of retrievers, and what a document says about its source."""

from __future__ import annotations

import pytest

pytest.importorskip("langchain_tests", reason="langchain-tests is not installed: it is in the group dev")

from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests

from penstock.client import HitJson
from penstock.errors import UnavailableError
from penstock.integrations.langchain import PenstockRetriever, document_of


class TestStandard(RetrieversIntegrationTests):
    """LangChain's tests as they are; the plane has four entries of the default tenant."""

    @pytest.fixture(autouse=True)
    def _plane(self, url: str) -> None:
        self.url = url

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return PenstockRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, object]:
        return {"url": self.url, "k": 2}

    @property
    def retriever_query_example(self) -> str:
        return "a cat on a mat"


def test_documents_are_the_hits_of_the_search(url: str) -> None:
    (dog,) = PenstockRetriever(url=url, tenant="acme", k=5).invoke("a dog in the fog")
    assert (dog.page_content, dog.metadata["key"]) == ("a dog in the fog", "dog")
    assert dog.metadata["attributes"] == {"lines": 1}
    assert dog.metadata["source"] == "penstock:media.text/dog"
    images = PenstockRetriever(url=url, options={"modalities": ["image"]}).invoke("dawn")
    assert {image.metadata["collection"] for image in images} == {"image"}
    assert images[0].metadata["media_url"].startswith(f"{url}/v1/media/")


def test_the_document_of_a_moment_has_its_words_and_seconds() -> None:
    hit: HitJson = {  # type: ignore[typeddict-item]
        **dict.fromkeys(HitJson.__required_keys__),
        "id": "e1",
        "title": "A film",
        "text": "",
        "attributes": {},
        "topic": "media.video",
        "key": "films/a wolf.mp4",
        "media_url": "/v1/media/ab",
        "moment": {"transcript": "a wolf howls", "start_ms": 1_000, "end_ms": 2_500, "frame": None, "members": []},
    }
    document = document_of(hit, "http://plane/")
    assert (document.id, document.page_content) == ("e1", "a wolf howls")
    assert (document.metadata["start_ms"], document.metadata["end_ms"]) == (1_000, 2_500)
    assert document.metadata["media_url"] == "http://plane/v1/media/ab"
    assert document.metadata["source"] == "penstock:media.video/films/a%20wolf.mp4"


def test_the_document_of_a_page_says_where_it_opens() -> None:
    hit: HitJson = {  # type: ignore[typeddict-item]
        **dict.fromkeys(HitJson.__required_keys__),
        "id": "e2",
        "title": "Report",
        "text": "Sales grew.",
        "attributes": {"page_count": 80},
        "topic": "media.document",
        "key": "report.pdf",
        "page": 4,
        "page_label": "iv",
        "page_url": "/v1/media/ab#page=4",
    }
    document = document_of(hit, "http://plane/")
    assert document.page_content == "Sales grew."
    assert (document.metadata["page"], document.metadata["page_label"]) == (4, "iv")
    assert document.metadata["page_url"] == "http://plane/v1/media/ab#page=4"


def test_a_plane_that_does_not_run_is_an_error_of_penstock() -> None:
    with pytest.raises(UnavailableError, match="no query plane responds"):
        PenstockRetriever(url="http://127.0.0.1:1", max_retries=0).invoke("x")
