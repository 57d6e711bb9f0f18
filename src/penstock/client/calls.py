"""Builds the requests of both clients."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from penstock.client.attempts import PlaneCall
from penstock.client.requests import (
    AskOptionsJson,
    EventJson,
    FeedbackOptionsJson,
    FileOptionsJson,
    SearchOptionsJson,
    WatchRequestJson,
)
from penstock.errors import UsageError

DEFAULT_URL = "http://127.0.0.1:8600"
# A spoken question is transcribed for up to 30 s before its search begins, and a generator may think before it writes.
DEFAULT_TIMEOUT_S = 60.0
_PIECES_S = 30.0  # between two parts of a stream, which has a comment every 10 s
# Nothing else: a path with `..` in it, which a model may propose, would reach other routes.
_MEDIA = re.compile(r"(?:/v1/media/)?([0-9a-f]{64})")
_WORDS = re.compile(r"/v1/media/([0-9a-f]{64})/captions\.vtt")
_SIGNED = frozenset(("tenant", "exp", "sig"))  # parameters of a signed path


class Calls:
    """The requests of a client, by its tenant. Over the limit because it has a method for each route.

    Args:
        tenant: of every request that names none; None: the default one of the query plane.
    """

    def __init__(self, tenant: str | None) -> None:
        self._tenant = tenant

    def search(
        self, text: str | None, image: bytes | None, audio: bytes | None, options: SearchOptionsJson
    ) -> PlaneCall:
        """Returns the request of `search`."""
        return PlaneCall("POST", "/v1/search", json=self._query({"text": text}, image, audio, options))

    def ask(
        self, question: str | None, image: bytes | None, audio: bytes | None, options: AskOptionsJson, *, stream: bool
    ) -> PlaneCall:
        """Returns the request of `ask` or `ask_stream`, which is not repeated: the plane may be writing an answer."""
        body = self._query({"question": question}, image, audio, options)
        if stream:
            body |= {"stream": True, "resumable": True}
        timeout_s = _PIECES_S if stream else None
        return PlaneCall(
            "POST", "/v1/ask", json=body, timeout_s=timeout_s, repeatable=False, repeatable_when_unavailable=True
        )

    def check(self, answer: str, sources: Sequence[str]) -> PlaneCall:
        """Returns the request of `check`."""
        body: dict[str, Any] = {"answer": answer, "sources": list(sources)}
        return PlaneCall("POST", "/v1/check", json=body | self._of_tenant())

    def feedback(self, question: str, entry: str, options: FeedbackOptionsJson) -> PlaneCall:
        """Returns the request of `feedback`. It may be repeated: a caller has one vote for a question and an asset."""
        body: dict[str, Any] = {"question": question, "entry": entry, **options}
        return PlaneCall("POST", "/v1/feedback", json=self._of_tenant() | body)

    def produce(self, events: Sequence[EventJson], tenant: str | None, idempotency_key: str | None) -> PlaneCall:
        """Returns the request of `produce`. It may be repeated, as it has an idempotency key in any case."""
        body: dict[str, Any] = {"events": [_event(event) for event in events]}
        own = self._of_tenant() if tenant is None else {"tenant": tenant}
        return PlaneCall("POST", "/v1/events", json=body | own, headers=_idempotent(idempotency_key))

    def produce_files(
        self, files: Mapping[str, bytes], idempotency_key: str | None, options: FileOptionsJson
    ) -> PlaneCall:
        """Returns the request of `produce_files`. Raises UsageError without files."""
        if not files:
            raise UsageError("there are no files to produce")
        form = {"event": json.dumps({**self._of_tenant(), **options})}
        return PlaneCall("POST", "/v1/events", files=files, form=form, headers=_idempotent(idempotency_key))

    def event_limits(self) -> PlaneCall:
        """Returns the request of `event_limits`."""
        return PlaneCall("GET", "/v1/events")

    def suggest(self, typed: str, limit: int) -> PlaneCall:
        """Returns the request of `suggest`."""
        return PlaneCall("GET", "/v1/suggest", {"q": typed, "limit": limit, **self._of_tenant()})

    def media(self, media: str, start: int, end: int | None) -> PlaneCall:
        """Returns the request of media by their path or hash, from byte `start` to before `end`."""
        headers = {"Range": f"bytes={start}-{'' if end is None else end - 1}", "Accept-Encoding": "identity"}
        return PlaneCall("GET", media_path(media), self._of_media(media), headers=headers, timeout_s=_PIECES_S)

    def thumbnail(self, entry_id: str, width_px: int) -> PlaneCall:
        """Returns the request of `thumbnail`."""
        path = f"/v1/entries/{quote(entry_id, safe='')}/thumbnail"
        return PlaneCall("GET", path, {"w": width_px, **self._of_tenant()})

    def captions(self, media: str, entry_id: str | None) -> PlaneCall:
        """Returns the request of `captions`."""
        return PlaneCall("GET", f"{words_path(media)}/captions.vtt", self._of_words(media, entry_id))

    def entries(self, media: str, entry_id: str | None) -> PlaneCall:
        """Returns the request of `entries`."""
        return PlaneCall("GET", f"{words_path(media)}/entries", self._of_words(media, entry_id))

    def live(self, backlog: int, last_id: str) -> PlaneCall:
        """Returns the request of `live`, or of its events behind that of an id."""
        headers = {"Last-Event-ID": last_id} if last_id else {}
        return PlaneCall("GET", "/v1/live", {"backlog": backlog, **self._of_tenant()}, None, headers, _PIECES_S)

    def status(self) -> PlaneCall:
        """Returns the request of `status`."""
        return PlaneCall("GET", "/v1/status")

    def create_watch(self, body: WatchRequestJson) -> PlaneCall:
        """Returns the request of `create_watch`, which is not repeated: there might be two."""
        return PlaneCall("POST", "/v1/watches", json={**self._of_tenant(), **body}, repeatable=False)

    def watches(self) -> PlaneCall:
        """Returns the request of `watches`."""
        return PlaneCall("GET", "/v1/watches", self._of_tenant())

    def delete_watch(self, watch_id: str) -> PlaneCall:
        """Returns the request of `delete_watch`."""
        return PlaneCall("DELETE", f"/v1/watches/{quote(watch_id, safe='')}", self._of_tenant())

    def tenant_of(self, options: SearchOptionsJson) -> str | None:
        """Returns the tenant of a request with these options."""
        return options.get("tenant", self._tenant)

    def _query(
        self, words: Mapping[str, str | None], image: bytes | None, audio: bytes | None, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        media = {"image": image, "audio": audio}
        return {
            **self._of_tenant(),
            **{name: text for name, text in words.items() if text is not None},
            **{name: base64.b64encode(data).decode() for name, data in media.items() if data is not None},
            **options,
        }

    def _of_media(self, media: str) -> dict[str, str]:
        """Returns the tenant of media, and the signature if they are named by a signed path."""
        return self._of_tenant() | _parameters(media, _SIGNED)

    def _of_words(self, media: str, entry_id: str | None) -> dict[str, str]:
        """Returns the tenant of media and an entry of them; the signature if they are named by a path of captions.

        That of a path of media is for their bytes alone.
        """
        names = _SIGNED | {"entry"} if _WORDS.fullmatch(urlsplit(media).path) else {"tenant"}
        return self._of_tenant() | _parameters(media, names) | ({} if entry_id is None else {"entry": entry_id})

    def _of_tenant(self) -> dict[str, str]:
        return {} if self._tenant is None else {"tenant": self._tenant}


def _event(event: EventJson) -> dict[str, Any]:
    """Returns the JSON of an event, with its bytes in base64."""
    data = event.get("data")
    return {**event} if data is None else {**event, "data": base64.b64encode(data).decode()}


def _idempotent(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4()) if key is None else key}


def media_path(media: str) -> str:
    """Returns the path of media by their hash, or by a `media_url` or `play_url` of a result.

    Raises:
        UsageError: it is neither.
    """
    parts = urlsplit(media)
    match = _MEDIA.fullmatch(parts.path)
    if match is None or parts.scheme or parts.netloc:
        raise UsageError(
            f"{media[:200]!r} is no hash and no path of media at the query plane, as `media_url` of a hit is"
        )
    return f"/v1/media/{match[1]}"


def words_path(media: str) -> str:
    """Returns the path of media also by a `captions_url` of a result. Raises as `media_path`."""
    parts = urlsplit(media)
    match = None if parts.scheme or parts.netloc else _WORDS.fullmatch(parts.path)
    return media_path(media if match is None else match[1])


def _parameters(path: str, names: AbstractSet[str]) -> dict[str, str]:
    """Returns those of these parameters that a path has."""
    return {name: values[0] for name, values in parse_qs(urlsplit(path).query).items() if name in names}
