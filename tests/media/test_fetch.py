"""Inline media, retries of claim checks, and batches."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from penstock.assets import AssetStore, asset_uri
from penstock.config import FetchSettings
from penstock.errors import Reason, UnavailableError
from penstock.media.fetch import Fetcher
from penstock.records import ClaimCheck, Event, FetchedMedia, Modality
from tests.media.helpers import TOPICS, rejection_of
from tests.media.http_server import PNG, Server, in_turn, png_bytes, send

# --- inline ----------------------------------------------------------------------------------------------------------


def test_inline_media_go_to_the_asset_store(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], assets: AssetStore
) -> None:
    fetched = fetcher_of().fetch(event_of(PNG))
    sha256 = hashlib.sha256(PNG).hexdigest()
    assert (fetched.data, fetched.mime, fetched.sha256, fetched.uri) == (PNG, "image/png", sha256, f"asset:{sha256}")
    assert fetched.event.payload == ClaimCheck(fetched.uri)
    assert assets.read(sha256) == PNG


@dataclass(frozen=True)
class Bad:
    data: bytes
    modality: Modality
    reason: Reason
    words: str


@pytest.mark.parametrize(
    "bad",
    [
        Bad(b"", Modality.IMAGE, Reason.CORRUPT, "null value"),
        Bad(PNG + bytes(2_000), Modality.IMAGE, Reason.TOO_LARGE, "fetch.max_bytes is 1,000"),
        Bad(b"\x7fELF\2\1\1" + bytes(90), Modality.IMAGE, Reason.UNSUPPORTED, "declared as image/png"),
        Bad(PNG, Modality.TEXT, Reason.WRONG_TOPIC, "send it to media.image"),
        Bad(b"words", Modality.IMAGE, Reason.WRONG_TOPIC, "send it to media.text"),
        Bad(b"ID3\4" + bytes(90), Modality.IMAGE, Reason.WRONG_TOPIC, "send it to media.audio"),
        Bad(b"%PDF-1.7\n%\xe2\xe3" + bytes(90), Modality.TEXT, Reason.WRONG_TOPIC, "send it to media.document"),
        Bad(b"%PDF-1.7\n%\xe2\xe3" + bytes(90), Modality.IMAGE, Reason.WRONG_TOPIC, "send it to media.document"),
        Bad(b"words", Modality.DOCUMENT, Reason.WRONG_TOPIC, "send it to media.text"),
        Bad(b"# Herons\n\nThey *fish*.", Modality.DOCUMENT, Reason.WRONG_TOPIC, "send it to media.text"),
        Bad(b"<!doctype html><p>Herons", Modality.DOCUMENT, Reason.WRONG_TOPIC, "send it to media.text"),
        Bad(PNG, Modality.DOCUMENT, Reason.WRONG_TOPIC, "send it to media.image"),
        Bad(b"ID3\4" + bytes(90), Modality.DOCUMENT, Reason.WRONG_TOPIC, "send it to media.audio"),
        Bad(b"PK\3\4" + bytes(90), Modality.DOCUMENT, Reason.UNSUPPORTED, "no decoder supports"),
        Bad(b"{\\rtf1\\ansi Herons}", Modality.DOCUMENT, Reason.UNSUPPORTED, "save it as DOCX"),
    ],
    ids=lambda bad: bad.words,
)
def test_inline_media_that_are_rejected_are_not_stored(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], assets: AssetStore, bad: Bad
) -> None:
    event = event_of(bad.data, modality=bad.modality, declared="image/png")
    rejection = rejection_of(fetcher_of(max_bytes=1_000), event)
    assert rejection.reason is bad.reason
    assert bad.words in str(rejection)
    assert list(assets.list()) == []


def test_a_tombstone_has_nothing_to_fetch(fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event]) -> None:
    with pytest.raises(ValueError, match="tombstone"):
        fetcher_of().fetch(event_of(None))


def test_an_unavailable_asset_store_stops_the_batch(event_of: Callable[..., Event], tmp_path: Path) -> None:
    (tmp_path / "blocker").write_bytes(b"")
    away = AssetStore(str(tmp_path / "blocker"))
    with Fetcher(FetchSettings(), away, topic_of=TOPICS) as fetcher, pytest.raises(UnavailableError):
        fetcher.fetch_batch([event_of(PNG)])


# --- retries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_transient_failure_is_retried(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server, status: int
) -> None:
    answers = (send(b"", status), send(b"", status), send())
    server.routes["/a"] = in_turn(*answers)
    assert fetcher_of().fetch(event_of(server.url("/a"))).data == PNG
    assert len(server.requests) == 3


def test_attempts_back_off_and_end_before_the_deadline(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes["/a"] = send(b"", 503)
    now_s, waits = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now_s[0] += seconds

    fetcher = fetcher_of(deadline_s=30.0, options={"clock": lambda: now_s[0], "sleep": sleep})
    rejection = rejection_of(fetcher, event_of(server.url("/a")))
    assert rejection.reason is Reason.UNREACHABLE
    assert f"{len(waits) + 1} attempts within fetch.deadline_s, 30 s" in str(rejection)
    assert len(server.requests) == len(waits) + 1
    assert waits[0] < 0.5 < waits[-1] <= 5.5
    assert sum(waits) < 30


def test_the_wait_that_a_server_requests_is_kept(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    answers = (send(b"", 429, {"Retry-After": "3"}), send())
    server.routes["/a"] = in_turn(*answers)
    waits: list[float] = []
    fetcher_of(options={"sleep": waits.append}).fetch(event_of(server.url("/a")))
    assert waits == [3.0]


def test_fewer_bytes_than_announced_are_a_transient_failure(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    def short(handler: BaseHTTPRequestHandler) -> None:
        send(PNG[:20], headers={"Content-Length": str(len(PNG))})(handler)
        handler.close_connection = True

    answers = (short, send())
    server.routes["/a"] = in_turn(*answers)
    assert fetcher_of().fetch(event_of(server.url("/a"))).data == PNG
    assert len(server.requests) == 2


# --- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_is_fetched_concurrently_and_keeps_its_order(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    gate = threading.Barrier(8, timeout=10)  # opens only if eight are requested concurrently

    def together(handler: BaseHTTPRequestHandler) -> None:
        gate.wait()
        send()(handler)

    server.routes["/together"] = together
    events = [event_of(server.url("/together")) for _ in range(8)]
    events[3:3] = [event_of(b"words"), event_of("gopher://x/")]
    fetched, rejected = fetcher_of().fetch_batch(events)
    assert [media.event.position for media in fetched] == [event.position for event in events[:3] + events[5:]]
    assert [(rejection.position, rejection.step, rejection.reason) for rejection in rejected] == [
        (events[3].position, "fetch", Reason.WRONG_TOPIC),
        (events[4].position, "fetch", Reason.FORBIDDEN),
    ]


def test_large_media_of_several_batches_wait_for_memory_and_small_ones_do_not(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    large, gate = png_bytes(30), threading.Event()

    def held(handler: BaseHTTPRequestHandler) -> None:
        """Delays the second request, which follows once the media are known to be large."""
        if server.requests.count(handler.path) > 1:
            gate.wait(10)
        send(large)(handler)

    server.routes |= {"/small": send(), "/large": held}
    fetcher = fetcher_of(
        max_bytes=4_000, deadline_s=30.0, options={"small_bytes": len(large) - 1, "large_budget_bytes": 2 * 4_000}
    )

    def batch(name: str) -> list[Event]:
        paths = (f"/large?{name}0", f"/small?{name}", f"/large?{name}1")
        return [event_of(server.url(path)) for path in paths]

    def request_count(name: str) -> int:
        return sum(path.startswith(f"/large?{name}") for path in server.requests)

    first, second, small = batch("a"), batch("b"), [event_of(server.url("/small?c"))]
    with ThreadPoolExecutor(3) as threads:
        try:
            holding = threads.submit(fetcher.fetch_batch, first)
            _until(lambda: request_count("a") == 4)
            waiting = threads.submit(fetcher.fetch_batch, second)
            _until(lambda: request_count("b") >= 2)
            assert len(threads.submit(fetcher.fetch_batch, small).result(10)[0]) == 1
            time.sleep(0.2)  # more than enough for another request
            assert request_count("b") == 2
        finally:
            gate.set()
        for events, call in ((first, holding), (second, waiting)):
            fetched, rejected = call.result(10)
            assert [media.event.position for media in fetched] == [event.position for event in events]
            assert rejected == []
    assert request_count("b") == 4


def test_media_fetched_alone_are_requested_once_at_any_size(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes["/a"] = send()
    fetched = fetcher_of(options={"small_bytes": 1, "large_budget_bytes": 1}).fetch_one(event_of(server.url("/a")))
    assert isinstance(fetched, FetchedMedia)
    assert server.requests == ["/a"]


def _until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_an_unexpected_error_rejects_that_event_alone(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.media import fetch

    real = fetch.sniff

    def fails_on_odd(data: bytes, *, declared: str | None) -> Any:
        if declared == "odd/one":
            raise ZeroDivisionError("odd")
        return real(data, declared=declared)

    monkeypatch.setattr(fetch, "sniff", fails_on_odd)
    fetched, rejected = fetcher_of().fetch_batch([event_of(PNG, declared="odd/one"), event_of(PNG)])
    assert len(fetched) == 1
    assert "ZeroDivisionError: odd" in rejected[0].detail


def test_a_fetcher_serves_several_threads(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], server: Server
) -> None:
    server.routes["/a"] = send()
    fetcher = fetcher_of()
    batches = [[event_of(server.url("/a")), event_of(png_bytes())] for _ in range(20)]
    with ThreadPoolExecutor(4) as threads:
        done: list[tuple[list[FetchedMedia], Any]] = list(threads.map(fetcher.fetch_batch, batches))
    assert [len(fetched) for fetched, _ in done] == [2] * 20
    assert all(isinstance(event.payload, ClaimCheck) for event, _ in batches)


# --- refills of a re-index --------------------------------------------------------------------------------------------


def test_only_a_refill_may_name_media_of_the_asset_store(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], assets: AssetStore
) -> None:
    uri = asset_uri(assets.put(PNG))
    fetcher = fetcher_of()
    fetched = fetcher.fetch(replace(event_of(uri), refills=True))
    assert (fetched.data, fetched.mime, fetched.uri) == (PNG, "image/png", uri)
    assert fetched.event.payload == ClaimCheck(uri)
    assert rejection_of(fetcher, event_of(uri)).reason is Reason.FORBIDDEN


def test_a_refill_whose_media_are_gone_or_too_large_is_rejected(
    fetcher_of: Callable[..., Fetcher], event_of: Callable[..., Event], assets: AssetStore
) -> None:
    fetcher = fetcher_of(max_bytes=1_000)
    absent = rejection_of(fetcher, replace(event_of("asset:" + "a" * 64), refills=True))
    assert absent.reason is Reason.UNREACHABLE
    large = replace(event_of(asset_uri(assets.put(PNG + bytes(2_000)))), refills=True)
    assert rejection_of(fetcher, large).reason is Reason.TOO_LARGE


def test_a_large_refill_waits_for_memory_as_a_large_claim_check_does(
    event_of: Callable[..., Event], assets: AssetStore
) -> None:
    data = png_bytes(200)
    event = replace(event_of(asset_uri(assets.put(data))), refills=True)
    with Fetcher(FetchSettings(), assets, topic_of=TOPICS, small_bytes=1_000) as fetcher:
        fetched, rejected = fetcher.fetch_batch([event])
    assert [media.data for media in fetched] == [data]
    assert rejected == []
