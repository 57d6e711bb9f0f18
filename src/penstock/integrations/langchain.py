"""A retriever of LangChain over the query plane: `pip install penstock[langchain]`.

PenstockRetriever(url="http://127.0.0.1:8600", k=5).invoke("a red bicycle")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import Field, SecretStr

from penstock.client import AsyncPenstockClient, HitJson, PenstockClient, RetryPolicy
from penstock.client.attempts import DEFAULT_RETRIES
from penstock.client.calls import DEFAULT_TIMEOUT_S, DEFAULT_URL


class PenstockRetriever(BaseRetriever):
    """Finds texts, images, moments of audio and video, and pages of documents as documents, best first.

    The content of a document is its words: a passage, a transcript, or the title of an image. Its metadata have what a
    citation needs: where it is from, which characters, seconds or page, and how relevant it is.

    Attributes:
        url: of the query plane.
        tenant: whose index is searched; None: the default one.
        k: maximum number of documents. `invoke` takes one, too.
        options: further fields of a search (docs/search.md), such as `filter`, `modalities` and `min_relevance`.
        api_key: API key or bearer token of the requests, or a function that returns the token of now.
        headers: sent with each request.
        timeout_s: until a response begins, seconds.
        max_retries: attempts after the first, of a request that the plane could not take.
    """

    url: str = DEFAULT_URL
    tenant: str | None = None
    k: int = Field(4, ge=1)
    options: Mapping[str, Any] = Field(default_factory=dict)
    api_key: SecretStr | Callable[[], str] | None = Field(None, exclude=True)
    headers: Mapping[str, str] = Field(default_factory=dict, repr=False)
    timeout_s: float = Field(DEFAULT_TIMEOUT_S, gt=0)
    max_retries: int = Field(DEFAULT_RETRIES.max_retries, ge=0)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        with PenstockClient(self.url, **self._client_options()) as penstock:
            return self._documents(penstock.search(query, **self._options(k))["hits"])

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        async with AsyncPenstockClient(self.url, **self._client_options()) as penstock:
            result = await penstock.search(query, **self._options(k))
        return self._documents(result["hits"])

    def _client_options(self) -> Any:
        retries = RetryPolicy(max_retries=self.max_retries)
        api_key = self.api_key.get_secret_value() if isinstance(self.api_key, SecretStr) else self.api_key
        return {
            "tenant": self.tenant,
            "api_key": api_key,
            "headers": self.headers,
            "timeout_s": self.timeout_s,
            "retries": retries,
        }

    def _options(self, k: int | None) -> Any:
        return {**self.options, "limit": self.k if k is None else k}

    def _documents(self, hits: Any) -> list[Document]:
        return [document_of(hit, self.url) for hit in hits]


def document_of(hit: HitJson, url: str) -> Document:
    """Returns the document of a hit, whose paths become addresses at the query plane."""
    moment = hit["moment"]
    words = moment["transcript"] if moment else hit["text"]
    start_ms, end_ms = (moment["start_ms"], moment["end_ms"]) if moment else (hit["start_ms"], hit["end_ms"])
    metadata = {
        "id": hit["id"],
        "title": hit["title"],
        "source": hit["uri"] or f"penstock:{hit['topic']}/{quote(hit['key'])}",
        "media_url": _address(hit["media_url"], url),
        "thumbnail_url": _address(hit["thumbnail_url"], url),
        "collection": hit["collection"],
        "mime": hit["mime"],
        "topic": hit["topic"],
        "key": hit["key"],
        "start_ms": start_ms,
        "end_ms": end_ms,
        "start_char": hit["start_char"],
        "end_char": hit["end_char"],
        "page": hit["page"],
        "page_label": hit["page_label"],
        "page_url": _address(hit["page_url"], url),
        "event_time": hit["event_time"],
        "relevance": hit["relevance"],
        "below_floor": hit["below_floor"],
        "score": hit["score"],
        "attributes": dict(hit["attributes"]),
    }
    return Document(page_content=words or hit["title"] or hit["key"], metadata=metadata, id=hit["id"])


def _address(path: str | None, url: str) -> str | None:
    return None if path is None else url.rstrip("/") + path
