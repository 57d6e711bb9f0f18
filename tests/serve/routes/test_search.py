"""The JSON of a search: hits, moments, tenants, filters and spoken queries."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.config import Normalisation
from penstock.errors import UnavailableError
from penstock.query.understand import understanding
from penstock.records import Access, AssetRef, Collection, Field, Float32, ScoredEntry, TimedText, Transcript, entry_id
from penstock.serve import app as app_module
from penstock.serve.plane import QueryPlane
from penstock.store.base import EntryQuery
from tests.media.media_files import write_audio
from tests.serve.sample_index import IMAGES, PROFILE, entry, vector
from tools.reference_models.speech_synthesis import SpeechSynthesizer


def test_a_hit_has_every_field_of_its_entry(search: Callable[..., httpx.Response]) -> None:
    answer = search(text="a cat on a mat", modalities=["text"])
    assert answer.status_code == 200
    body = answer.json()
    hit = body["hits"][0]
    found_by = hit.pop("found_by")
    assert [(by["channel"], by["rank"]) for by in found_by] == [
        ("text.passage", 1),
        ("text.joint", 1),
        ("text.lexical", 1),
    ]
    assert found_by[0]["score"] == pytest.approx(1.0, abs=1e-4)
    assert isinstance(hit.pop("score"), float)
    assert hit == {
        "id": entry_id(AssetRef("default", "media.text", "cat"), Collection.TEXT, 0),
        "collection": "text",
        "tenant": "default",
        "topic": "media.text",
        "key": "cat",
        "part": 0,
        "title": "cat",
        "text": "a cat on a mat",
        "uri": "",  # an internal address
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
        "page_url": None,
        "page": None,
        "page_label": None,
        "figure": None,
        "thumbnail_url": None,
        "captions_url": None,
        "moment": None,
        "indexing": False,
        "relevance": None,
        "below_floor": False,
        "promoted": False,
        "clicked": None,
        "others": [],
        "explain": None,
    }
    assert (body["nothing_found"], body["why"]) == (False, None)
    assert (body["partial"], body["missing"], body["transcript"]) == (False, {}, None)
    assert set(body["took_ms"]) == {"understand", "route", "encode", "search", "fuse", "judge", "mark", "total"}
    assert (body["profile"], body["notice"]) == (PROFILE.name, PROFILE.notice)
    assert body["notices"] == [PROFILE.notice]
    weights = body["query"].pop("route")
    assert set(weights.values()) == {1.0}
    assert body["query"] == {
        "asked": "a cat on a mat",
        "used": "a cat on a mat",
        "language": None,
        "spelling": [],
        "did_you_mean": None,
        "synonyms": {},
        "rewritten": None,
        "compose": {},
        "frame_image": None,
        "because": [],
        "proposed_filter": None,
    }
    assert body["rerank"] is None


def test_a_misspelt_word_is_suggested_or_corrected_by_the_words_of_the_tenant(
    plane: QueryPlane, search: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(understanding, "SPELLING_TIMEOUT_S", 30.0)
    vocabularies = plane.words.vocabularies
    assert vocabularies is not None
    vocabularies.changed([])  # counted before the index was filled
    ends_s = time.monotonic() + 20
    while "breakfast" not in vocabularies.get(Access.to_all_of("default")) and time.monotonic() < ends_s:
        threading.Event().wait(0.01)
    suggested = search(text="bred for braekfast").json()["query"]
    assert (suggested["used"], suggested["did_you_mean"]) == ("bred for braekfast", "bred for breakfast")
    applied = search(text="bred for braekfast", understand={"spelling": "apply"}).json()["query"]
    assert (applied["asked"], applied["used"]) == ("bred for braekfast", "bred for breakfast")
    assert applied["spelling"] == [{"from": "braekfast", "to": "breakfast", "applied": True}]
    assert applied["did_you_mean"] is None
    assert "'bred for breakfast' was searched instead of" in applied["because"][0]
    other = search(text="bred for braekfast", tenant="acme").json()["query"]
    assert (other["spelling"], other["did_you_mean"]) == ([], None)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"understand": {"spelling": "maybe"}}, "/understand/spelling"),
        ({"messages": [{"role": "system", "content": "x"}]}, "/messages/0/role"),
        ({"messages": [{"role": "user", "content": "x" * 10_001}]}, "/messages/0/content"),
    ],
)
def test_wishes_about_words_that_are_wrong_are_pointed_at(
    search: Callable[..., httpx.Response], body: dict[str, Any], field: str
) -> None:
    response = search(text="a cat", **body)
    assert response.status_code in {400, 413}
    assert response.json()["field"] == field


def test_speech_and_a_frame_at_the_same_time_are_a_moment_with_frame_and_transcript(
    plane: QueryPlane, search: Callable[..., httpx.Response]
) -> None:
    text = "the bread is done"
    asset = AssetRef("default", "media.video", "video")
    of_video: dict[str, Any] = {"asset": asset, "title": "video", "mime": "video/mp4"}
    spoken = entry(
        Collection.SPEECH,
        "spoken",
        **of_video,
        text=text,
        start_ms=61_000,
        end_ms=64_500,
        vectors={Field.PASSAGE: vector("passage.text", text, plane.settings)},
    )
    shown = entry(
        Collection.FRAME,
        "shown",
        **of_video,
        part=4,
        thumbnail=f"asset:{'ab' * 32}",
        start_ms=58_000,
        end_ms=63_000,
        vectors={Field.JOINT: vector("joint.text", text, plane.settings)},
    )
    plane.store.upsert(Collection.SPEECH, [spoken])
    plane.store.upsert(Collection.FRAME, [shown])
    (hit,) = search(text=text, modalities=["video"]).json()["hits"]
    assert [by["channel"] for by in hit["found_by"]] == ["frame.joint", "speech.passage", "speech.lexical"]
    moment = hit["moment"]
    assert (moment["start_ms"], moment["end_ms"], moment["transcript"]) == (61_000, 64_500, text)
    assert moment["frame"] == {
        "id": shown.id, "start_ms": 58_000, "end_ms": 63_000, "thumbnail_url": f"/v1/media/{'ab' * 32}"
    }  # fmt: skip
    assert not hit["indexing"]
    assert [(member["id"], member["part"], member["text"]) for member in moment["members"]] == [
        (shown.id, 4, ""),
        (spoken.id, 0, text),
    ]
    assert [[by["rank"] for by in member["found_by"]] for member in moment["members"]] == [[1], [1, 1]]


@pytest.mark.parametrize(
    ("fuse", "status", "field"),
    [
        ({"method": "learned"}, 400, "/fuse/method"),
        ({"method": "early"}, 400, "/fuse/method"),
        ({"method": "rrf", "normalise": "robust"}, 400, "/fuse/normalise"),
        ({"method": "weighted", "normalise": "log-odds"}, 400, "/fuse/normalise"),
        ({"weights": {"sound.joint.x": 1}}, 400, "/fuse/weights/sound.joint.x"),
        ({"method": "rrf", "k": "10"}, 422, "/fuse/k"),
        ({"methods": "rrf"}, 422, "/fuse/methods"),
    ],
)
def test_a_fusion_at_fault_is_pointed_to(
    search: Callable[..., httpx.Response], fuse: dict[str, Any], status: int, field: str
) -> None:
    answer = search(text="cat", modalities=["text", "image"], fuse=fuse)
    assert (answer.status_code, answer.json()["field"]) == (status, field)


@pytest.mark.parametrize(
    "fuse",
    [
        {"method": "rrf", "k": 60},
        {"method": "calibrated", "weights": {"image": 0.5, "text.lexical": 2}},
        *({"method": "weighted", "normalise": name} for name in Normalisation if name != "log-odds"),
    ],
)
def test_every_fusion_finds_the_same_hits_and_explains_them_by_the_same_ranks(
    search: Callable[..., httpx.Response], fuse: dict[str, Any]
) -> None:
    def explained(answer: httpx.Response) -> dict[str, list[tuple[str, int, float]]]:
        return {
            hit["id"]: [(by["channel"], by["rank"], by["score"]) for by in hit["found_by"]]
            for hit in answer.json()["hits"]
        }

    assert explained(search(text="a cat on a mat", fuse=fuse)) == explained(search(text="a cat on a mat"))


def test_a_tenant_sees_its_own_entries_only(search: Callable[..., httpx.Response]) -> None:
    keys = {hit["key"] for hit in search(text="a dog in the fog").json()["hits"]}
    assert "dog" not in keys
    assert [hit["key"] for hit in search(text="a dog in the fog", tenant="acme").json()["hits"]] == ["dog"]


def test_a_filter_holds_for_every_hit(search: Callable[..., httpx.Response]) -> None:
    hits = search(text="cat", filter={"mime": "image/png"}).json()["hits"]
    assert {hit["key"] for hit in hits} == set(IMAGES)


def test_a_spoken_query_is_answered_with_its_transcript(
    plane: QueryPlane, search: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[list[Float32]] = []

    class SpeechModelDouble:
        def transcribe(self, windows: list[Float32]) -> tuple[Transcript, ...]:
            calls.append(windows)
            return (Transcript("en", 1.0, (TimedText(0.0, 1.0, "a cat on a mat"),)),)

    monkeypatch.setattr(app_module, "load_transcriber", lambda *_, **__: SpeechModelDouble())
    spoken = SpeechSynthesizer().synthesize("A cat on a mat.").samples
    query = write_audio(tmp_path / "query.mp3", spoken).read_bytes()
    answer = search(audio=base64.b64encode(query).decode(), modalities=["text"])
    assert answer.status_code == 200
    body = answer.json()
    assert body["transcript"] == "a cat on a mat"
    assert body["hits"] == search(text="a cat on a mat", modalities=["text"]).json()["hits"]
    assert "transcribe" in body["took_ms"]
    ((window,),) = calls
    assert len(window) == pytest.approx(len(spoken), rel=0.5)


def test_the_limit_is_kept(search: Callable[..., httpx.Response]) -> None:
    assert len(search(text="cat", limit=1).json()["hits"]) == 1


def test_a_late_channel_is_named_and_the_others_answer(
    plane: QueryPlane, search: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_time = plane.store.search
    timeouts_s = []

    def late_images(query: EntryQuery) -> Sequence[ScoredEntry]:
        if query.channel.collection is Collection.IMAGE:
            timeouts_s.append(query.timeout_s)
            raise UnavailableError("no answer in time")
        return in_time(query)

    monkeypatch.setattr(plane.store, "search", late_images)
    body = search(text="a cat on a mat", deadline_ms=5_000).json()
    assert body["partial"] is True
    assert body["missing"] == {"image.joint": "no answer in time"}
    assert 0 < timeouts_s[0] <= 5
    assert body["hits"][0]["key"] == "cat"


@pytest.mark.parametrize("min_relevance", [-0.1, 1.5, 0.5])
def test_a_min_relevance_that_cannot_be_met_is_refused(
    search: Callable[..., httpx.Response], min_relevance: float
) -> None:
    answer = search(text="a cat on a mat", min_relevance=min_relevance)
    assert answer.status_code == 400
    assert answer.json()["field"] == "/min_relevance"


def test_parts_of_a_query_are_composed(search: Callable[..., httpx.Response]) -> None:
    image = base64.b64encode(IMAGES["dawn"]).decode()
    plain = search(image=image, modalities=["image"]).json()
    noon = entry_id(AssetRef("default", "media.image", "noon"), Collection.IMAGE, 0)
    body = {"image": image, "frame": {"id": noon}, "compose": {"image": 1, "frame": 0.01}, "modalities": ["image"]}
    composed = search(**body).json()
    assert [hit["key"] for hit in plain["hits"]] == [hit["key"] for hit in composed["hits"]] == ["dawn", "noon"]
    assert composed["hits"][1]["found_by"][0]["score"] > plain["hits"][1]["found_by"][0]["score"]
    assert composed["query"]["compose"] == {"frame": 0.01, "image": 1.0}
    assert composed["query"]["frame_image"] == "stored vector"
    assert "load" in composed["took_ms"]
    without = search(text="a cat on a mat", **{"not": {"text": ["bread"], "like": [noon]}}).json()
    assert "noon" not in [hit["key"] for hit in without["hits"]]


def test_more_like_an_entry_leaves_it_out(search: Callable[..., httpx.Response]) -> None:
    dawn = entry_id(AssetRef("default", "media.image", "dawn"), Collection.IMAGE, 0)
    answer = search(like=[dawn], modalities=["image"]).json()
    assert [hit["key"] for hit in answer["hits"]] == ["noon"]


def test_a_region_of_an_indexed_image_is_read_from_the_asset_store(search: Callable[..., httpx.Response]) -> None:
    dawn = entry_id(AssetRef("default", "media.image", "dawn"), Collection.IMAGE, 0)
    region = {"x": 0, "y": 0, "w": 0.5, "h": 0.5}
    answer = search(frame={"id": dawn}, region=region, modalities=["image"]).json()
    assert answer["query"]["frame_image"] == "stored media"
    assert answer["hits"][0]["key"] == "dawn"  # it is plain: every region of it looks the same


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"like": ["0" * 32]}, "/like/0"),
        ({"text": "cat", "not": {}}, "/not"),
        ({"not": {"text": ["cat"]}}, "/not"),
        ({"text": "cat", "compose": {"text": -1}}, "/compose/text"),
        ({"text": "cat", "compose": {"text": 0}}, "/compose"),
        ({"text": "cat", "region": {"x": 0, "y": 0, "w": 1, "h": 1}}, "/region"),
        ({"frame": {"id": entry_id(AssetRef("acme", "media.text", "dog"), Collection.TEXT, 0)}}, "/frame/id"),
    ],
)
def test_a_part_that_cannot_be_searched_by_is_pointed_at(
    search: Callable[..., httpx.Response], body: dict[str, Any], field: str
) -> None:
    answer = search(**body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


@pytest.mark.parametrize("body", [{"frame": "x"}, {"region": {"x": 0}}, {"not": ["cat"]}, {"like": "x"}])
def test_a_part_of_the_wrong_type_is_refused(search: Callable[..., httpx.Response], body: dict[str, Any]) -> None:
    assert search(text="cat", **body).status_code == 422


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"text": "a cat", "tenant": "\ud800"}, "/tenant"),
        ({"like": ["\ud800"]}, "/like/0"),
        ({"frame": {"id": "\ud800"}}, "/frame/id"),
        ({"text": "a cat", "route": {"\ud800": 1}}, "/route"),
        ({"text": "a cat", "fuse": {"weights": {"\ud800": 1}}}, "/fuse/weights"),
        ({"text": "a cat", "not": {"text": ["x", "\udfff"]}}, "/not/text/1"),
        ({"text": "\ud83d"}, "/text"),
    ],
)
def test_half_of_a_surrogate_pair_is_refused_where_it_stands(
    call: Callable[..., httpx.Response], body: dict[str, object], field: str
) -> None:
    answer = call("POST", "/v1/search", content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["field"] == field
