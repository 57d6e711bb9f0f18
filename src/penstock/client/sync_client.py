"""The client of the query plane for programs without an event loop."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack, cast

import httpx

from penstock.client.answer_stream import FollowedAnswer
from penstock.client.answers import AnswerEventJson, AnswerJson, CheckJson, SentenceJson
from penstock.client.attempts import DEFAULT_RETRIES, PlaneCall, RequestAttempts, RetryPolicy
from penstock.client.calls import DEFAULT_TIMEOUT_S, DEFAULT_URL, Calls
from penstock.client.credentials import ApiKey, credentials_of
from penstock.client.live_stream import LiveEventJson, LiveStream
from penstock.client.media_stream import FollowedMedia
from penstock.client.problems import json_of
from penstock.client.requests import (
    AskOptionsJson,
    EventJson,
    FeedbackOptionsJson,
    FileOptionsJson,
    SearchOptionsJson,
    WatchRequestJson,
)
from penstock.client.results import (
    AcceptedEventsJson,
    AssetEntriesJson,
    AssetEntryJson,
    EventLimitsJson,
    FeedbackJson,
    QueryStatusJson,
    SearchResultJson,
    SuggestionJson,
    SuggestionsJson,
    WatchesJson,
    WatchJson,
)
from penstock.errors import PenstockError, UsageError


class PenstockClient:
    """Calls a query plane. Safe to use from several threads. Close it, or use it in a `with` statement.

    A request that gets 429 or 503 is sent again after its `Retry-After`, and one that could not be sent after a moment,
    as far as `retries` allows. Over the limit because it has a method for each route.

    Args:
        url: of the query plane.
        tenant: of every request that names none; None: the default one of the query plane.
        api_key: API key or bearer token of the requests, or a function that returns the token of now.
        headers: sent with each request, such as those that a proxy in front of it needs.
        ca_file: CA certificates (PEM) of the query plane's; None: those of the system.
        timeout_s: until a response begins, seconds.
        retries: how often a request is sent again.
        transport: of httpx, for tests and special networks.
        sleep: waits, seconds.

    Raises:
        UsageError: the URL is none of HTTP.

    Every method raises:
        QueryError: the request is invalid, or what it names does not exist; with `status` and `field`.
        OverloadedError: 429; with `retry_after_s`.
        UnavailableError: no query plane responds, or one of its backends is unavailable.
        PenstockError: the query plane failed.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        tenant: str | None = None,
        api_key: ApiKey | None = None,
        headers: Mapping[str, str] | None = None,
        ca_file: Path | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: RetryPolicy = DEFAULT_RETRIES,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = checked_url(url)
        self._calls = Calls(tenant)
        self._retries = retries
        self._sleep = sleep
        self._http = httpx.Client(
            base_url=self.url,
            auth=credentials_of(api_key),
            headers=headers,
            timeout=timeout_s,
            verify=True if ca_file is None else ssl.create_default_context(cafile=ca_file),
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    # --- search and answers -----------------------------------------------------------------------------------------

    def search(
        self,
        text: str | None = None,
        *,
        image: bytes | None = None,
        audio: bytes | None = None,
        **options: Unpack[SearchOptionsJson],
    ) -> SearchResultJson:
        """Searches by any mix of words, an encoded image, a spoken query, and indexed entries (`like`, `frame`)."""
        return cast(SearchResultJson, self._json(self._calls.search(text, image, audio, options)))

    def ask(
        self,
        question: str | None = None,
        *,
        image: bytes | None = None,
        audio: bytes | None = None,
        **options: Unpack[AskOptionsJson],
    ) -> AnswerJson:
        """Returns an answer whose sentences were checked against their sources."""
        return cast(AnswerJson, self._json(self._calls.ask(question, image, audio, options, stream=False)))

    def ask_stream(
        self,
        question: str | None = None,
        *,
        image: bytes | None = None,
        audio: bytes | None = None,
        **options: Unpack[AskOptionsJson],
    ) -> Iterator[AnswerEventJson]:
        """Yields an answer as it is written: what was found, tokens, checked sentences, and the whole answer.

        A connection that breaks or falls silent is continued where it broke. Closing the iterator stops the answer.
        """
        call = self._calls.ask(question, image, audio, options, stream=True)
        stream = FollowedAnswer(call, self._calls.tenant_of(options))
        attempts = RequestAttempts(call, self._retries, self.url)
        try:
            while not stream.finished:
                broken: httpx.TransportError
                try:
                    with self._open(stream.next_call()) as response:
                        for piece in response.iter_bytes():
                            for event in stream.feed(piece):
                                attempts.succeeded()
                                yield event
                    broken = httpx.RemoteProtocolError("the stream ended before the answer did")
                except httpx.TransportError as exc:
                    broken = exc
                if not stream.finished:
                    after = attempts.after_break if stream.begun else attempts.after_error
                    self._sleep(after(broken))
        except PenstockError:
            stream.give_up()
            raise
        finally:
            if (cancel := stream.cancel_call()) is not None:
                with suppress(PenstockError):
                    self._send(cancel)

    def check(self, answer: str, sources: Sequence[str]) -> Sequence[SentenceJson]:
        """Returns the sentences of any answer, checked against sources: texts, or ids of entries."""
        return cast(CheckJson, self._json(self._calls.check(answer, sources)))["sentences"]

    def feedback(self, question: str, entry: str, **options: Unpack[FeedbackOptionsJson]) -> FeedbackJson:
        """Reports that a hit was chosen: `action` click, like or dislike, its `rank`, and the ids that were `shown`."""
        return cast(FeedbackJson, self._json(self._calls.feedback(question, entry, options)))

    def suggest(self, typed: str, *, limit: int = 10) -> Sequence[SuggestionJson]:
        """Returns completions of a text by the words and titles of the index."""
        return cast(SuggestionsJson, self._json(self._calls.suggest(typed, limit)))["suggestions"]

    # --- events -----------------------------------------------------------------------------------------------------

    def produce(
        self, events: Sequence[EventJson], *, tenant: str | None = None, idempotency_key: str | None = None
    ) -> AcceptedEventsJson:
        """Produces events to Kafka, all of them or none; returns once every in-sync replica of the broker has them.

        Args:
            events: at most `max_events` of `event_limits`.
            tenant: their owner; None: that of the client.
            idempotency_key: a request of the same key is answered as the first one for an hour; None: a new key, so
                that only what the client itself sends again is produced once.
        """
        call = self._calls.produce(events, tenant, idempotency_key)
        return cast(AcceptedEventsJson, self._json(call))

    def produce_files(
        self, files: Mapping[str, bytes], *, idempotency_key: str | None = None, **options: Unpack[FileOptionsJson]
    ) -> AcceptedEventsJson:
        """Produces files to Kafka, each with `prefix` and its name as its key; otherwise as `produce`."""
        call = self._calls.produce_files(files, idempotency_key, options)
        return cast(AcceptedEventsJson, self._json(call))

    def event_limits(self) -> EventLimitsJson:
        """Returns the limits of requests with events, and the modalities that are indexed."""
        return cast(EventLimitsJson, self._json(self._calls.event_limits()))

    # --- media ------------------------------------------------------------------------------------------------------

    def media(self, media: str, *, start: int = 0, end: int | None = None) -> bytes:
        """Returns media by their hash or path (`media_url`), or their bytes from `start` to before `end`."""
        return b"".join(self.media_pieces(media, start=start, end=end))

    def media_pieces(self, media: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yields the same in pieces, for media too large for memory. Broken connections are continued."""
        stream = FollowedMedia(self._calls, media, start, end)
        attempts = RequestAttempts(stream.next_call(), self._retries, self.url)
        while not stream.finished:
            try:
                with self._open(stream.next_call()) as response:
                    stream.begin(response)
                    for piece in response.iter_bytes():
                        if new := stream.feed(piece):
                            attempts.succeeded()
                            yield new
                        if stream.has_enough:
                            break
                stream.complete()
            except httpx.TransportError as exc:
                self._sleep(attempts.after_break(exc))
            except PenstockError as exc:
                if not stream.is_empty(exc):
                    raise
                return

    def thumbnail(self, entry_id: str, *, width_px: int = 320) -> bytes:
        """Returns a small JPEG of an image, frame or page, or of the frame of speech in a video."""
        return self._send(self._calls.thumbnail(entry_id, width_px)).content

    def captions(self, media: str, *, entry_id: str | None = None) -> str:
        """Returns the words of audio or video as WebVTT, by their hash or path (`captions_url`, `media_url`).

        The id of an entry, such as a hit, makes that fast; a `captions_url` has one.
        """
        return self._send(self._calls.captions(media, entry_id)).text

    def entries(self, media: str, *, entry_id: str | None = None) -> Sequence[AssetEntryJson]:
        """Returns what is indexed of media, in order of time. They are named as for `captions`."""
        return cast(AssetEntriesJson, self._json(self._calls.entries(media, entry_id)))["entries"]

    # --- the plane --------------------------------------------------------------------------------------------------

    def status(self) -> QueryStatusJson:
        """Returns the status of the query plane."""
        return cast(QueryStatusJson, self._json(self._calls.status()))

    def live(self, *, backlog: int = 0) -> Iterator[LiveEventJson]:
        """Yields each change of the index as it is stored, without end. Broken connections are continued."""
        stream = LiveStream(self._calls, backlog)
        attempts = RequestAttempts(stream.next_call(), self._retries, self.url)
        while True:
            try:
                with self._open(stream.next_call()) as response:
                    for piece in response.iter_bytes():
                        for event in stream.feed(piece):
                            attempts.succeeded()
                            yield event
                pause_s = stream.pause_s()
            except httpx.TransportError as exc:
                pause_s = attempts.after_break(exc)
            self._sleep(pause_s)

    def create_watch(self, body: WatchRequestJson) -> WatchJson:
        """Keeps a search, whose matches go to a topic (docs/watches.md)."""
        return cast(WatchJson, self._json(self._calls.create_watch(body)))

    def watches(self) -> WatchesJson:
        """Returns the watches of the tenant."""
        return cast(WatchesJson, self._json(self._calls.watches()))

    def delete_watch(self, watch_id: str) -> None:
        """Deletes a watch."""
        self._send(self._calls.delete_watch(watch_id))

    # --- sending ----------------------------------------------------------------------------------------------------

    def _json(self, call: PlaneCall) -> object:
        return json_of(self._send(call))

    def _send(self, call: PlaneCall) -> httpx.Response:
        """Returns a successful response with its body, after as many attempts as it takes."""
        attempts = RequestAttempts(call, self._retries, self.url)
        while True:
            try:
                response = self._http.send(request_of(self._http, call))
            except httpx.TransportError as exc:
                self._sleep(attempts.after_error(exc))
                continue
            if response.is_success:
                return response
            self._sleep(attempts.after_response(response))

    @contextmanager
    def _open(self, call: PlaneCall) -> Iterator[httpx.Response]:
        """Gives a successful response whose body is not read yet, after as many attempts as it takes."""
        attempts = RequestAttempts(call, self._retries, self.url)
        while True:
            try:
                response = self._http.send(request_of(self._http, call), stream=True)
                if not response.is_success:
                    response.read()
            except httpx.TransportError as exc:
                self._sleep(attempts.after_error(exc))
                continue
            if response.is_success:
                break
            self._sleep(attempts.after_response(response))
        try:
            yield response
        finally:
            response.close()


def checked_url(url: str) -> str:
    """Returns an HTTP URL without a slash at its end. Raises UsageError if it is none."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as exc:
        raise UsageError(f"{url!r} is no URL: {exc}") from exc
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UsageError(f"{url!r} is no URL of a query plane, such as {DEFAULT_URL}")
    return url.rstrip("/")


def request_of(http: httpx.Client | httpx.AsyncClient, call: PlaneCall) -> httpx.Request:
    """Returns the request of httpx for a call."""
    timeout = http.timeout if call.timeout_s is None else call.timeout_s
    options: dict[str, Any] = {"json": call.json}
    if call.files:
        files = [("file", (name, data, "application/octet-stream")) for name, data in call.files.items()]
        options = {"files": files, "data": call.form}
    return http.build_request(
        call.method, call.path, params=call.params, headers=call.headers, timeout=timeout, **options
    )
