"""The HTTP contract over the ASGI application, with a store in memory and encoders that hash."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from penstock.config import Settings
from penstock.encoders.load import load_encoder
from penstock.encoders.profiles import JOINT_IMAGE, load_profile
from penstock.errors import OverloadedError, UnavailableError
from penstock.query.understand.image import query_image_decoder
from penstock.records import (
    AssetRef,
    Channel,
    Collection,
    EncoderInput,
    Entry,
    Field,
    Float32,
    Position,
    TimedText,
    Transcript,
    entry_id,
)
from penstock.serve import app as app_module
from penstock.serve import service as service_module
from penstock.serve.app import build_service
from penstock.serve.routes.search import create_app
from penstock.serve.service import QueryService
from penstock.store.memory import MemoryStore
from tests.media.recordings import write_sound
from tools.reference_models.speech_synthesis import SpeechSynthesizer

PROFILE = load_profile("null:32")
TEXTS = ("a cat on a mat", "a dog in the fog", "bread and butter for breakfast")
PROBLEM = "application/problem+json"


def png(shade: int) -> bytes:
    """A plain grey picture; null encoders tell each shade from every other."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16), (shade, shade, shade)).save(out, "PNG")
    return out.getvalue()


PICTURES = {"dawn": png(40), "noon": png(250)}


def vector(role: str, item: str | bytes, settings: Settings) -> Float32:
    encoder = load_encoder(role, PROFILE)
    if isinstance(item, bytes):
        pixels = query_image_decoder(PROFILE.image, settings.image)(item)
        return encoder.encode(EncoderInput(JOINT_IMAGE, ("k",), pixels=pixels[np.newaxis])).vectors[0]
    return encoder.encode(EncoderInput(role, ("k",), texts=(item,))).vectors[0]


def entry(collection: Collection, key: str, *, tenant: str = "default", **fields: Any) -> Entry:
    asset = fields.pop("asset", AssetRef(tenant, f"media.{collection}", key))
    defaults: dict[str, Any] = {
        "part": 0,
        "title": key,
        "text": "",
        "uri": f"file:///media/{key}",
        "mime": "text/plain",
        "attributes_json": "{}",
        "start_ms": 0,
        "end_ms": 0,
        "start_char": 0,
        "end_char": 0,
        "event_time_ms": 1_767_225_600_000,
        "indexed_at_ms": 1_767_225_601_250,
        "origin": Position(asset.topic, 3, 17),
    }
    return Entry(id=entry_id(asset, collection, 0), collection=collection, asset=asset, **{**defaults, **fields})


def fill(service: QueryService) -> None:
    """Three texts (one of them another tenant's), and two pictures that the asset store keeps."""
    settings = service.settings
    texts = [
        entry(
            Collection.TEXT,
            text.split()[1],
            tenant="acme" if "dog" in text else "default",
            text=text,
            attributes_json='{"lines": 1}',
            end_char=len(text),
            vectors={
                Field.PASSAGE: vector("passage.text", text, settings),
                Field.JOINT: vector("joint.text", text, settings),
            },
        )
        for text in TEXTS
    ]
    service.store.upsert(Collection.TEXT, texts)
    pictures = [
        entry(
            Collection.IMAGE,
            key,
            mime="image/png",
            uri=f"asset:{service.media.put(data)}",  # type: ignore[attr-defined]
            vectors={Field.JOINT: vector(JOINT_IMAGE, data, settings)},
        )
        for key, data in PICTURES.items()
    ]
    service.store.upsert(Collection.IMAGE, pictures)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[QueryService]:
    settings = Settings(
        profile=PROFILE.name,
        data_dir=tmp_path,
        query={"max_image_bytes": 4096, "max_audio_bytes": 100_000, "max_limit": 50},  # type: ignore[arg-type]
        ingest={"min_free_disk_bytes": 0},  # type: ignore[arg-type]
    )
    made = build_service(settings, store=MemoryStore())
    fill(made)
    yield made
    made.close()


@pytest.fixture
def call(service: QueryService) -> Callable[..., httpx.Response]:
    """`call(method, path, **options)`: one request to the application."""

    def request(method: str, path: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://penstock") as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())

    return request


@pytest.fixture
def search(call: Callable[..., httpx.Response]) -> Callable[..., httpx.Response]:
    return lambda **body: call("POST", "/v1/search", json=body)


def test_a_text_is_found_with_everything_that_is_known_of_it(search: Callable[..., httpx.Response]) -> None:
    answer = search(text="a cat on a mat", modalities=["text"])
    assert answer.status_code == 200
    body = answer.json()
    hit = body["hits"][0]
    found_by = hit.pop("found_by")
    assert [(found["channel"], found["rank"]) for found in found_by] == [
        ("text.passage", 1),
        ("text.joint", 1),
        ("text.lexical", 1),
    ]
    assert found_by[0]["score"] == pytest.approx(1.0, abs=1e-4)
    assert hit.pop("score") == pytest.approx(1 / 11)
    assert hit == {
        "id": entry_id(AssetRef("default", "media.text", "cat"), Collection.TEXT, 0),
        "collection": "text",
        "tenant": "default",
        "topic": "media.text",
        "key": "cat",
        "part": 0,
        "title": "cat",
        "text": "a cat on a mat",
        "uri": "file:///media/cat",
        "mime": "text/plain",
        "attributes": {"lines": 1},
        "start_ms": 0,
        "end_ms": 0,
        "start_char": 0,
        "end_char": 14,
        "event_time": "2026-01-01T00:00:00.000Z",
        "indexed_at": "2026-01-01T00:00:01.250Z",
        "origin": {"topic": "media.text", "partition": 3, "offset": 17},
        "media_url": None,
        "moment": None,
        "indexing": False,
    }
    assert (body["partial"], body["missing"], body["transcript"]) == (False, {}, None)
    assert set(body["took_ms"]) == {"encode", "search", "fuse", "total"}
    assert (body["profile"], body["notice"]) == (PROFILE.name, PROFILE.notice)


def test_a_picture_finds_itself_and_its_media_can_be_fetched(
    search: Callable[..., httpx.Response], call: Callable[..., httpx.Response]
) -> None:
    image = base64.b64encode(PICTURES["noon"]).decode()
    hit = search(image=image, modalities=["image"], limit=1).json()["hits"][0]
    assert hit["key"] == "noon"
    media = call("GET", hit["media_url"])
    assert media.content == PICTURES["noon"]
    assert media.headers["content-type"] == "image/png"
    assert media.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in media.headers["content-security-policy"]
    again = call("GET", hit["media_url"], headers={"If-None-Match": media.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_what_is_seen_and_said_at_once_is_a_moment_with_its_frame_and_its_words(
    service: QueryService, search: Callable[..., httpx.Response]
) -> None:
    text = "the bread is done"
    asset = AssetRef("default", "media.video", "film")
    of_film: dict[str, Any] = {"asset": asset, "title": "film", "mime": "video/mp4"}
    said = entry(
        Collection.SPEECH,
        "said",
        **of_film,
        text=text,
        start_ms=61_000,
        end_ms=64_500,
        vectors={Field.PASSAGE: vector("passage.text", text, service.settings)},
    )
    shown = entry(
        Collection.FRAME,
        "shown",
        **of_film,
        part=4,
        thumbnail=f"asset:{'ab' * 32}",
        start_ms=58_000,
        end_ms=63_000,
        vectors={Field.JOINT: vector("joint.text", text, service.settings)},
    )
    service.store.upsert(Collection.SPEECH, [said])
    service.store.upsert(Collection.FRAME, [shown])
    (hit,) = search(text=text, modalities=["video"]).json()["hits"]
    assert [found["channel"] for found in hit["found_by"]] == ["frame.joint", "speech.passage", "speech.lexical"]
    moment = hit["moment"]
    assert (moment["start_ms"], moment["end_ms"], moment["transcript"]) == (61_000, 64_500, text)
    assert moment["frame"] == {
        "id": shown.id, "start_ms": 58_000, "end_ms": 63_000, "thumbnail_url": f"/v1/media/{'ab' * 32}"
    }  # fmt: skip
    assert not hit["indexing"]
    assert [(one["id"], one["part"], one["text"]) for one in moment["members"]] == [
        (shown.id, 4, ""),
        (said.id, 0, text),
    ]
    assert [[found["rank"] for found in one["found_by"]] for one in moment["members"]] == [[1], [1, 1]]


@pytest.mark.parametrize(
    "data", [b"<!doctype html><script>alert(1)</script>", b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", b"\0\1\2"]
)
def test_media_that_could_run_or_are_unknown_are_only_saved(
    service: QueryService, call: Callable[..., httpx.Response], data: bytes
) -> None:
    sha256 = service.media.put(data)  # type: ignore[attr-defined]
    answer = call("GET", f"/v1/media/{sha256}")
    assert answer.content == data
    shown = answer.headers["content-disposition"] == "inline"
    assert not shown or answer.headers["content-type"].startswith("text/plain")
    if b"html" in data:
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["content-type"] == "application/octet-stream"


def test_a_tenant_sees_its_own_entries_only(search: Callable[..., httpx.Response]) -> None:
    keys = {hit["key"] for hit in search(text="a dog in the fog").json()["hits"]}
    assert "dog" not in keys
    assert [hit["key"] for hit in search(text="a dog in the fog", tenant="acme").json()["hits"]] == ["dog"]


def test_a_filter_holds_for_every_hit(search: Callable[..., httpx.Response]) -> None:
    hits = search(text="cat", filter={"mime": "image/png"}).json()["hits"]
    assert {hit["key"] for hit in hits} == set(PICTURES)


def test_a_question_by_voice_is_answered_and_says_what_was_understood(
    service: QueryService, search: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heard: list[list[Float32]] = []

    class Ear:
        def transcribe(self, windows: list[Float32]) -> tuple[Transcript, ...]:
            heard.append(windows)
            return (Transcript("en", 1.0, (TimedText(0.0, 1.0, "a cat on a mat"),)),)

    monkeypatch.setattr(app_module, "load_transcriber", lambda *_, **__: Ear())
    spoken = SpeechSynthesizer().synthesize("A cat on a mat.").samples
    question = write_sound(tmp_path / "question.mp3", spoken).read_bytes()
    answer = search(audio=base64.b64encode(question).decode(), modalities=["text"])
    assert answer.status_code == 200
    body = answer.json()
    assert body["transcript"] == "a cat on a mat"
    assert body["hits"] == search(text="a cat on a mat", modalities=["text"]).json()["hits"]
    assert "transcribe" in body["took_ms"]
    ((window,),) = heard
    assert len(window) == pytest.approx(len(spoken), rel=0.5)


def test_the_limit_is_kept(search: Callable[..., httpx.Response]) -> None:
    assert len(search(text="cat", limit=1).json()["hits"]) == 1


@pytest.mark.parametrize(
    ("body", "status", "field", "words"),
    [
        ({}, 400, "/text", "nothing to search for"),
        ({"text": "  "}, 400, "/text", "empty"),
        ({"text": "a", "image": "AAAA"}, 400, "/image", "not supported"),
        ({"text": "a", "filter": {"colour": "red"}}, 400, "/filter", "colour"),
        ({"text": "a", "filter": "mime"}, 422, "/filter", "dict"),
        ({"text": "a", "modalities": ["smell"]}, 400, "/modalities/0", "smell"),
        ({"text": "a", "modalities": "image"}, 422, "/modalities", "list"),
        ({"text": "a", "limit": 51}, 400, "/limit", "1 to 50"),
        ({"text": "a", "limit": "many"}, 422, "/limit", "integer"),
        ({"text": "a", "deadline_ms": 0}, 400, "/deadline_ms", "1 to"),
        ({"text": 7}, 422, "/text", "string"),
        ({"text": "a", "page": 2}, 422, "/page", "not permitted"),
        ({"image": "no base64!"}, 400, "/image", "base64"),
        ({"image": base64.b64encode(b"no picture").decode()}, 422, "/image", "image"),
        ({"image": base64.b64encode(PICTURES["noon"][:60]).decode()}, 422, "/image", "does not decode"),
        ({"image": base64.b64encode(b"x" * 5000).decode()}, 413, "/image", "4,096"),
        ({"image": "AAAA", "modalities": ["audio"]}, 400, "/modalities", "image query"),
        ({"text": "a", "audio": "AAAA"}, 400, "/audio", "not supported"),
        ({"audio": "no base64!"}, 400, "/audio", "base64"),
        ({"audio": 7}, 422, "/audio", "string"),
        ({"audio": base64.b64encode(b"no sound").decode()}, 422, "/audio", "audio"),
        ({"audio": base64.b64encode(b"x" * 100_001).decode()}, 413, "/audio", "max_audio_bytes"),
    ],
)
def test_a_wrong_request_is_a_problem_that_points_at_its_field(
    search: Callable[..., httpx.Response], body: dict[str, Any], status: int, field: str, words: str
) -> None:
    answer = search(**body)
    problem = answer.json()
    assert answer.headers["content-type"] == PROBLEM
    assert answer.status_code == problem["status"] == status
    assert problem["instance"] == "/v1/search"
    assert problem["field"].startswith(field)
    assert words in problem["detail"]
    assert set(problem) == {"type", "title", "status", "detail", "instance", "field"}


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/v1/search", b"{", 400),
        ("POST", "/v1/search", b"[]", 422),
        ("POST", "/v1/search", b"\xff\xfe", 400),
        ("GET", "/v1/search", b"", 405),
        ("GET", "/v2/search", b"", 404),
        ("GET", "/v1/media/short", b"", 404),
        ("GET", f"/v1/media/{'A' * 64}", b"", 404),
        ("GET", f"/v1/media/{'a' * 64}", b"", 404),
        ("GET", "/v1/media/..%2f..%2fetc%2fpasswd", b"", 404),
    ],
)
def test_whatever_else_is_wrong_is_a_problem_too(
    call: Callable[..., httpx.Response], method: str, path: str, content: bytes, status: int
) -> None:
    answer = call(method, path, content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    assert answer.json()["status"] == status


def test_a_body_that_is_too_large_is_refused_unread_and_when_it_lies(call: Callable[..., httpx.Response]) -> None:
    def unending() -> Any:
        async def chunks() -> Any:
            for _ in range(100):
                yield b" " * 10_000

        return chunks()

    json_header = {"content-type": "application/json"}
    announced = call("POST", "/v1/search", content=b" " * 1_000_000, headers=json_header)
    unannounced = call("POST", "/v1/search", content=unending(), headers=json_header)
    for answer in (announced, unannounced):
        assert (answer.status_code, answer.headers["content-type"]) == (413, PROBLEM)


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def test_a_store_that_is_down_is_503_with_a_time_to_come_back(
    service: QueryService, search: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.store, "search", failing(UnavailableError("Milvus at nowhere:19530 does not answer")))
    answer = search(text="cat")
    assert (answer.status_code, answer.headers["content-type"]) == (503, PROBLEM)
    assert int(answer.headers["retry-after"]) >= 1
    assert "nowhere:19530" in answer.json()["detail"]


def test_too_much_at_once_is_429_with_a_time_to_come_back(
    service: QueryService, search: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.pipeline, "search", failing(OverloadedError("full", retry_after_s=1.2)))
    answer = search(text="cat")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")


def test_a_fault_of_ours_tells_the_client_nothing_of_our_insides(
    service: QueryService, search: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.pipeline, "search", failing(ZeroDivisionError("secret")))
    answer = search(text="cat")
    assert (answer.status_code, answer.headers["content-type"]) == (500, PROBLEM)
    assert "secret" not in answer.text


def test_a_channel_that_is_late_is_named_and_the_rest_answers(
    service: QueryService, search: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_time = service.store.search

    def late_pictures(channel: Channel, *args: Any, timeout_s: float, **options: Any) -> Any:
        if channel.collection is Collection.IMAGE:
            raise UnavailableError(f"no answer within {timeout_s:.1f} s")
        return in_time(channel, *args, timeout_s=timeout_s, **options)

    monkeypatch.setattr(service.store, "search", late_pictures)
    body = search(text="a cat on a mat", deadline_ms=700).json()
    assert body["partial"] is True
    assert body["missing"] == {"image.joint": "no answer within 0.7 s"}
    assert body["hits"][0]["key"] == "cat"


def test_health_readiness_and_status(call: Callable[..., httpx.Response], search: Callable[..., Any]) -> None:
    assert call("GET", "/healthz").json() == {"status": "ok"}
    ready = call("GET", "/readyz")
    assert (ready.status_code, ready.json()) == (
        200,
        {"ready": True, "checks": {"store": "ok", "encoders": "ok", "disk": "ok"}},
    )
    search(text="cat")
    status = call("GET", "/v1/status").json()
    assert status["entries"]["image"] == len(PICTURES)
    assert status["searches"] == 1
    assert "text.lexical" in status["channels"]


def test_not_ready_says_what_is_missing(
    service: QueryService, call: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.store, "ping", failing(UnavailableError("Milvus does not answer")))
    monkeypatch.setattr(service_module, "free_bytes", lambda _: -1)
    ready = call("GET", "/readyz")
    assert ready.status_code == 503
    assert ready.json()["ready"] is False
    assert ready.json()["checks"]["store"] == "Milvus does not answer"
    assert "min_free_disk_bytes" in ready.json()["checks"]["disk"]
    assert call("GET", "/v1/status").json()["store"] is None


def test_the_documentation_needs_nobody_elses_server(call: Callable[..., httpx.Response]) -> None:
    page = call("GET", "/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    paths = call("GET", "/openapi.json").json()["paths"]
    assert {"/v1/search", "/v1/status", "/v1/media/{sha256}", "/healthz", "/readyz"} <= set(paths)


def test_closing_the_application_closes_what_it_owns(service: QueryService) -> None:
    closed: list[bool] = []
    service.store.close = lambda: closed.append(True)  # type: ignore[method-assign]

    async def live_and_die() -> None:
        app = create_app(service)
        async with app.router.lifespan_context(app):
            pass

    run: Coroutine[Any, Any, None] = live_and_die()
    asyncio.run(run)
    assert closed == [True]


def test_media_are_named_by_their_hash(service: QueryService) -> None:
    assert service.media.put(b"x") == hashlib.sha256(b"x").hexdigest()  # type: ignore[attr-defined]
