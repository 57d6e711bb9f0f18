"""`/v1/events`, over a broker in memory: what is produced, what is refused, and for whom."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from penstock.auth import Permission
from penstock.broker.base import Message, Partition, Producer
from penstock.broker.given_vectors import given_vector
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.wire import parse_record
from penstock.config import MIB, Settings
from penstock.errors import UnavailableError
from penstock.observability import metrics
from penstock.records import ClaimCheck, Event, Inline, Modality, Position
from penstock.serve.app import build_query_plane, create_app
from penstock.serve.dependencies import provide
from penstock.serve.plane import QueryPlane
from penstock.serve.schemas.events import EventsBody, SingleEventBody
from penstock.serve.use_cases.events import EventService
from penstock.store.memory import MemoryStore
from tests.counted import counted
from tests.media.documents.ole import ole_container
from tests.media.documents.test_types import MADE
from tests.serve.conftest import caller
from tests.serve.keyed import key_of, keyed_plane
from tests.serve.sample_index import PROBLEM, PROFILE, png

TOPICS = {"media.text": Modality.TEXT, "media.image": Modality.IMAGE}
Call = Callable[..., httpx.Response]


@pytest.fixture
def broker() -> MemoryBroker:
    broker = MemoryBroker()
    for topic in TOPICS:
        broker.create_topic(topic)
    return broker


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueryPlane]:
    """A query plane that all tests share: what differs between them is only where it produces to."""
    settings = Settings(
        profile=PROFILE.name,
        data_dir=tmp_path_factory.mktemp("plane"),
        query={"max_image_bytes": 4096, "max_audio_bytes": 100_000},  # type: ignore[arg-type]
        ingest={"min_free_disk_bytes": 0},  # type: ignore[arg-type]
    )
    plane = build_query_plane(settings, store=MemoryStore())
    yield plane
    plane.close()


@pytest.fixture(scope="module")
def app(plane: QueryPlane) -> FastAPI:
    return create_app(plane)


def with_events(plane: QueryPlane, producer: Producer, settings: Settings | None = None) -> QueryPlane:
    return replace(plane, events=EventService(settings or plane.settings, lambda: producer))


@pytest.fixture
def call(plane: QueryPlane, app: FastAPI, broker: MemoryBroker) -> Iterator[Call]:
    """Returns `call` over the shared application, which produces to the broker of the test."""
    own = with_events(plane, broker.producer())
    provide(app, own)
    yield caller(own, app)
    own.events.close()


def produced(broker: MemoryBroker) -> list[Event]:
    """Returns the events of all topics, as the ingest plane reads them."""
    events = []
    for topic, modality in TOPICS.items():
        for record in broker.read(Partition(topic, 0), 0, 1_000):
            event = parse_record(record, modality=modality, default_tenant="nobody", max_inline_bytes=MIB)
            assert isinstance(event, Event), event
            events.append(event)
    return events


def test_an_event_is_produced_and_answered_with_its_position(call: Call, broker: MemoryBroker) -> None:
    body = {
        "text": "The heron.",
        "key": "n-1",
        "title": "Heron",
        "attributes": {"river": "Isar", "years": [2025, 2026]},
        "acl": ["hr"],
        "time": "2026-01-01T00:00:00Z",
        "id": "e-1",
        "vectors": [{"encoder": "minilm/1/2", "values": [1, 0.5]}],
        "tenant": "acme",
    }
    answer = call("POST", "/v1/events", json=body)
    assert answer.status_code == 202, answer.text
    position = {"key": "n-1", "topic": "media.text", "partition": 0, "offset": 0}
    assert answer.json() == {"tenant": "acme", "events": [position]}
    (event,) = produced(broker)
    assert (event.asset.tenant, event.asset.key, event.payload) == ("acme", "n-1", Inline(b"The heron."))
    assert (event.title, event.acl, event.event_time_ms) == ("Heron", ("hr",), 1_767_225_600_000)
    assert json.loads(event.attributes_json) == {"river": "Isar", "years": [2025, 2026]}
    assert event.vectors == (given_vector("minilm/1/2", [1.0, 0.5]),)
    (record,) = broker.read(Partition("media.text", 0), 0, 1)
    assert dict(record.headers)["ce_id"] == b"e-1"


def test_a_batch_is_produced_in_its_order(call: Call, broker: MemoryBroker) -> None:
    image = png(7)
    events = [
        {"data": base64.b64encode(image).decode()},
        {"uri": "https://example.com/a.png", "modality": "image"},
        {"text": "words"},
        {"delete": True, "key": "old", "modality": "text"},
    ]
    answer = call("POST", "/v1/events", json={"events": events})
    assert answer.status_code == 202, answer.text
    places = [(event["topic"], event["offset"]) for event in answer.json()["events"]]
    assert places == [("media.image", 0), ("media.image", 1), ("media.text", 0), ("media.text", 1)]
    words, deleted, first, second = produced(broker)
    assert (first.payload, second.payload) == (Inline(image), ClaimCheck("https://example.com/a.png"))
    assert (words.payload, deleted.payload, deleted.asset.key) == (Inline(b"words"), None, "old")
    assert second.asset.key == "https://example.com/a.png"


def test_files_of_a_form_have_their_names_as_keys(call: Call, broker: MemoryBroker) -> None:
    files = [("file", ("a.png", png(3), "text/html")), ("file", ("note.txt", b"The heron.", "text/plain"))]
    shared = {"event": json.dumps({"tenant": "acme", "prefix": "uploads/", "attributes": {"by": "page"}})}
    answer = call("POST", "/v1/events", files=files, data=shared)
    assert answer.status_code == 202, answer.text
    assert [event["key"] for event in answer.json()["events"]] == ["uploads/a.png", "uploads/note.txt"]
    text, image = produced(broker)
    assert (text.title, text.payload, text.asset.tenant) == ("note.txt", Inline(b"The heron."), "acme")
    assert (image.title, image.payload, image.content_type) == ("a.png", Inline(png(3)), "image/png")
    assert json.loads(image.attributes_json) == {"by": "page"}


def test_documents_go_to_the_topic_that_their_bytes_decide(plane: QueryPlane, broker: MemoryBroker) -> None:
    broker.create_topic("media.document")
    ingest = plane.settings.ingest.model_copy(update={"modalities": (*TOPICS.values(), Modality.DOCUMENT)})
    own = with_events(plane, broker.producer(), plane.settings.model_copy(update={"ingest": ingest}))
    call = caller(own)
    sent = [make() for make, _, _ in MADE]
    as_data = [{"data": base64.b64encode(data).decode()} for data in sent]
    answer = call("POST", "/v1/events", json={"events": as_data})
    assert (answer.status_code, {event["topic"] for event in answer.json()["events"]}) == (202, {"media.document"})
    files = [("file", (f"{number}.txt", data, "text/plain")) for number, data in enumerate(sent)]
    assert call("POST", "/v1/events", files=files).status_code == 202
    address = {"uri": "https://example.com/a.pdf", "modality": "document"}
    assert call("POST", "/v1/events", json=address).json()["events"][0]["topic"] == "media.document"
    records = list(broker.read(Partition("media.document", 0), 0, 100))
    assert [record.value for record in records[:-1]] == [*sent, *sent]
    types = [dict(record.headers)["content-type"].decode() for record in records[:-1]]
    assert types == [mime for _, mime, _ in MADE] * 2
    own.events.close()


def test_a_document_that_is_not_read_is_refused_by_its_name(call: Call, broker: MemoryBroker) -> None:
    data = base64.b64encode(ole_container("WordDocument")).decode()
    answer = call("POST", "/v1/events", json={"data": data})
    assert answer.status_code == 422
    name = "is application/msword (Word before 2007, DOC), which no decoder supports: save it as DOCX"
    assert answer.json()["detail"] == f"the event {name}"
    pdf_data = base64.b64encode(MADE[0][0]()).decode()
    refused = call("POST", "/v1/events", json={"data": pdf_data}).json()["detail"]
    assert "is document, which is not ingested" in refused
    assert produced(broker) == []


@pytest.mark.parametrize(
    ("event", "status", "field"),
    [
        ({}, 422, "/text"),
        ({"text": "a", "uri": "s3://b/c"}, 422, "/text"),
        ({"text": ""}, 422, "/text"),
        ({"text": "a", "mood": 1}, 422, "/mood"),
        ({"data": "no base64!"}, 422, "/data"),
        ({"data": base64.b64encode(b"PK\x03\x04" + bytes(50)).decode()}, 422, None),
        ({"uri": "s3://b/c"}, 422, "/modality"),
        ({"delete": True, "modality": "text"}, 422, "/key"),
        ({"text": "a", "modality": "video"}, 422, None),
        ({"text": "a", "attributes": {"deep": {"er": 1}}}, 422, "/attributes"),
        ({"text": "a", "acl": ["two words"]}, 422, None),
        ({"text": "a", "time": "yesterday"}, 422, "/time"),
        ({"text": "a", "time": "9999-12-31T23:59:59-12:00"}, 422, None),
        ({"text": "a", "time": "0001-01-01T00:00:00+12:00"}, 422, None),
        ({"text": "a", "vectors": [{"encoder": "x", "values": [10**400]}]}, 422, None),
        ({"text": "a", "vectors": [{"encoder": "x", "values": [1e39]}]}, 422, None),
        ({"text": "a", "tenant": "no such name!"}, 422, None),
        ({"text": "a", "key": "k" * 2_000}, 422, "/key"),
        ({"text": "a", "key": "ü" * 1_000}, 422, None),
        ({"text": "a", "vectors": [{"encoder": "x", "values": []}]}, 422, "/vectors"),
        ({"uri": "s3://private/a.png", "modality": "image"}, 403, None),
        ({"uri": "gopher://a/b", "modality": "image"}, 403, None),
    ],
)
def test_an_event_that_cannot_be_sent_is_refused_in_words(
    event: dict[str, Any], status: int, field: str | None, call: Call, broker: MemoryBroker
) -> None:
    answer = call("POST", "/v1/events", json=event)
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
    assert len(answer.json()["detail"]) > 10
    if field is not None:
        assert answer.json()["field"].startswith(field)
    assert produced(broker) == []


def test_events_are_counted_by_what_became_of_them(call: Call, plane: QueryPlane) -> None:
    def results() -> dict[str, float]:
        names = ("accepted", "repeated", "refused", "unacknowledged")
        return {name: counted(metrics.RECEIVED_EVENTS, result=name) for name in names}

    def added(send: Callable[..., httpx.Response], body: Any, **headers: str) -> dict[str, float]:
        before = results()
        send("POST", "/v1/events", json=body, headers=headers)
        return {name: count - before[name] for name, count in results().items() if count != before[name]}

    two = {"events": [{"text": "a"}, {"text": "b"}]}
    assert added(call, two, **{"Idempotency-Key": "k"}) == {"accepted": 2}
    assert added(call, two, **{"Idempotency-Key": "k"}) == {"repeated": 2}
    assert added(call, {"events": [{"text": "a"}, {"text": "b", "acl": ["two words"]}]}) == {"refused": 2}
    assert added(call, {"events": [{"text": "a"}, {"mood": 1}]}) == {"refused": 1}  # which was not read
    assert added(caller(plane), two) == {"unacknowledged": 2}  # it has no Kafka


def test_nothing_of_a_batch_is_produced_if_one_event_is_wrong(call: Call, broker: MemoryBroker) -> None:
    answer = call(
        "POST", "/v1/events", json={"events": [{"text": "a"}, {"data": base64.b64encode(b"\x00\x01").decode()}]}
    )
    assert (answer.status_code, answer.json()["field"]) == (422, "/events/1")
    assert produced(broker) == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b'{"events": []}', b'{"events": 7}', b"\xff"])
def test_a_body_that_is_no_request_is_refused(body: bytes, call: Call) -> None:
    answer = call("POST", "/v1/events", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == PROBLEM


def test_other_types_of_bodies_are_refused(call: Call) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/cloudevents+json"):
        answer = call("POST", "/v1/events", content=b'{"text": "a"}', headers={"Content-Type": kind})
        assert answer.status_code == 415
    broken = call("POST", "/v1/events", content=b"x", headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert broken.status_code in (400, 422)


def test_forms_without_names_or_with_other_fields_are_refused(call: Call, broker: MemoryBroker) -> None:
    twice = [("file", ("a.txt", b"one")), ("file", ("a.txt", b"two"))]
    for files, data in ((twice, {}), ([], {"event": "{}"}), ([twice[0]], {"other": "x"}), ([twice[0]], {"event": "{"})):
        answer = call("POST", "/v1/events", files=files or {"x": b""}, data=data)
        assert answer.status_code in (400, 422), (files, data)
    assert produced(broker) == []


def test_a_request_has_a_bound_of_events(plane: QueryPlane, broker: MemoryBroker) -> None:
    query = plane.settings.query.model_copy(update={"max_events": 2})
    settings = plane.settings.model_copy(update={"query": query})
    call = caller(with_events(plane, broker.producer(), settings))
    assert call("POST", "/v1/events", json={"events": [{"text": "a"}] * 3}).status_code == 413
    files = [("file", (f"{number}.txt", b"a")) for number in range(3)]
    assert call("POST", "/v1/events", files=files).status_code in (400, 413)
    assert produced(broker) == []
    assert call("POST", "/v1/events", json={"events": [{"text": "a"}] * 2}).status_code == 202


@pytest.mark.parametrize(
    "body",
    [
        '{"events":[' + "{}," * 600 + "{}]}",
        '{"events":[' + "1," * 600 + "1]}",
        '{"events":[' + "{}," * 80_000 + "{}]}",
        '{"text":"a","attributes":{"a":[' + "{}," * 80_000 + "{}]}}",
        '{"text":"a",' + ",".join(f'"f{number}":0' for number in range(80_000)) + "}",
        '{"text":"a","vectors":[{"encoder":"e","values":[' + "0," * 2_000_001 + "0]}]}",
    ],
    ids=["events", "no events", "many events", "objects", "fields", "numbers"],
)
def test_a_body_of_too_many_parts_is_refused_before_objects_are_made_of_it(
    body: str, call: Call, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def validate(_: bytes) -> None:
        raise AssertionError("objects are made of the body")

    for model in (EventsBody, SingleEventBody):
        monkeypatch.setattr(model, "model_validate_json", validate)
    answer = call("POST", "/v1/events", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413, answer.text
    assert produced(broker) == []


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"vectors": [{"encoder": "e", "values": ["x"] * 5_000}]}, "/vectors/0/values/0"),
        ({"vectors": [0] * 5_000}, "/vectors/0"),
        ({"acl": [0] * 5_000}, "/acl/0"),
    ],
)
def test_of_a_long_list_one_wrong_item_is_named(fields: dict[str, Any], pointer: str, call: Call) -> None:
    with pytest.raises(ValidationError) as caught:
        SingleEventBody.model_validate_json(json.dumps({"text": "a", **fields}))
    assert len(caught.value.errors()) <= 2  # of both types that a number may have
    answer = call("POST", "/v1/events", json={"text": "a", **fields})
    assert answer.status_code == 422
    assert answer.json()["field"].startswith(pointer)


def test_a_text_may_have_as_many_commas_and_brackets_as_it_likes(call: Call, broker: MemoryBroker) -> None:
    text = '{"[:,\\' * 60_000
    answer = call("POST", "/v1/events", json={"events": [{"text": text}]})
    assert answer.status_code == 202, answer.text
    (event,) = produced(broker)
    assert event.payload == Inline(text.encode())


def test_a_page_of_another_site_can_send_nothing(call: Call, broker: MemoryBroker) -> None:
    files = [("file", ("a.txt", b"one"))]
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://penstock"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert call("POST", "/v1/events", files=files, headers=headers).status_code == 403, headers
    assert produced(broker) == []
    for headers in ({}, {"Origin": "http://penstock"}, {"Sec-Fetch-Site": "same-origin", "Origin": "https://proxy"}):
        assert call("POST", "/v1/events", files=files, headers=headers).status_code == 202, headers


def test_a_broker_that_does_not_answer_is_unavailable(plane: QueryPlane) -> None:
    class Away:
        def send(self, message: Message) -> Future[Position]:
            future: Future[Position] = Future()
            future.set_exception(UnavailableError("no broker answers"))
            return future

        def flush(self, timeout_s: float) -> None: ...

        def close(self, timeout_s: float) -> None: ...

    answer = caller(with_events(plane, Away()))("POST", "/v1/events", json={"events": [{"text": "a"}, {"text": "b"}]})
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert "0 of 2 events were acknowledged" in answer.json()["detail"]
    without_kafka = caller(plane)("POST", "/v1/events", json={"text": "a"})
    assert without_kafka.status_code == 503


def test_a_query_plane_may_take_none(plane: QueryPlane, broker: MemoryBroker) -> None:
    query = plane.settings.query.model_copy(update={"accept_events": False})
    settings = plane.settings.model_copy(update={"query": query})
    call = caller(with_events(plane, broker.producer(), settings))
    assert call("POST", "/v1/events", json={"text": "a"}).status_code == 403
    assert call("GET", "/v1/events").status_code == 403


def test_limits_are_told_to_those_who_may_send(call: Call) -> None:
    limits = call("GET", "/v1/events").json()
    assert limits["max_events"] == 500
    assert 0 < limits["max_event_bytes"] < 16 * MIB
    assert limits["modalities"] == ["text", "image"]


# --- with credentials ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[QueryPlane, dict[str, str]]]:
    keys = {
        "writer": key_of([Permission.EVENTS]),
        "reader": key_of([Permission.SEARCH]),
        "labelled": key_of([Permission.EVENTS]) | {"labels": ("hr", "legal")},
        "both": key_of([Permission.EVENTS]) | {"tenants": ("acme", "globex")},
    }
    with keyed_plane(tmp_path_factory.mktemp("keyed"), keys) as both:
        yield both


@pytest.fixture
def send(keyed: tuple[QueryPlane, dict[str, str]], broker: MemoryBroker) -> Call:
    """Returns `send(key, **body)`."""
    plane, texts = keyed
    request = caller(with_events(plane, broker.producer()))

    def sent(key: str, **body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {texts[key]}", "Origin": "https://any.example"}
        return request("POST", "/v1/events", json=body, headers=headers)

    return sent


def test_the_tenant_of_an_event_is_one_of_the_callers(send: Call, broker: MemoryBroker) -> None:
    own = send("writer", text="a")
    assert own.status_code == 202
    assert send("writer", text="a", tenant="umbrella").status_code == 403
    assert send("both", text="a").status_code == 400
    assert send("both", text="b", tenant="globex").json()["tenant"] == "globex"
    assert send("reader", text="a").status_code == 403
    assert {event.asset.tenant for event in produced(broker)} == {own.json()["tenant"], "globex"}


def test_the_labels_of_an_event_are_those_of_the_caller(send: Call, broker: MemoryBroker) -> None:
    assert send("labelled", text="a", acl=["hr"]).status_code == 202
    assert send("labelled", text="b").status_code == 202
    assert send("labelled", text="c", acl=["hr", "board"]).status_code == 403
    assert send("writer", text="d").status_code == 202
    assert send("writer", text="e", acl=["hr"]).status_code == 403
    labels = {event.payload.data: event.acl for event in produced(broker) if isinstance(event.payload, Inline)}
    assert labels == {b"a": ("hr",), b"b": ("hr", "legal"), b"d": ("tenant",)}


def test_a_rate_of_events_is_a_limit_of_its_own(keyed: tuple[QueryPlane, dict[str, str]], broker: MemoryBroker) -> None:
    from penstock.config import LimitsSettings
    from penstock.serve.limits.admission import open_admissions

    plane, texts = keyed
    limits = LimitsSettings(caller={"events_per_s": 0.001})  # type: ignore[arg-type]
    limited = replace(with_events(plane, broker.producer()), admissions=open_admissions(limits))
    request = caller(limited, create_app(limited))
    headers = {"Authorization": f"Bearer {texts['writer']}"}
    statuses = [request("POST", "/v1/events", json={"text": "a"}, headers=headers).status_code for _ in range(2)]
    assert statuses == [202, 429]
