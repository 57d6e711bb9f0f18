"""Both clients against a query plane over HTTP."""

from __future__ import annotations

import inspect
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from penstock.broker.base import Partition
from penstock.broker.memory.broker import MemoryBroker
from penstock.client import AsyncPenstockClient, EventJson, PenstockClient, RetryPolicy
from penstock.errors import QueryError, UnavailableError, UsageError
from penstock.media.known_good import sample
from penstock.records import Entry, IndexChange, Modality, Position, Record
from penstock.serve.plane import QueryPlane
from tests.client.both import Both
from tests.client.conftest import VIDEO
from tests.client.scripted_server import Scripted, ScriptedServer, problem
from tests.serve.sample_index import IMAGES


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, url: str) -> Callable[..., Any]:
    return Both(request.param, url)


def test_both_clients_have_the_same_methods() -> None:
    def methods(client: type) -> dict[str, str]:
        public = {name: method for name, method in vars(client).items() if not name.startswith("_")}
        return {name: str(inspect.signature(method)).replace("Async", "") for name, method in public.items()}

    assert methods(PenstockClient) == methods(AsyncPenstockClient)


def test_hits_are_found_by_words_and_images(call: Callable[..., Any]) -> None:
    assert call("search", "a cat on a mat", limit=1)["hits"][0]["key"] == "cat"
    assert call("search", image=IMAGES["noon"], modalities=["image"])["hits"][0]["key"] == "noon"
    assert [hit["key"] for hit in call("search", "a dog in the fog", tenant="acme")["hits"]] == ["dog"]
    options = {"not": {"text": ["bread"]}, "explain": True}
    assert all(hit["explain"] for hit in call("search", "a cat on a mat", **options)["hits"])
    with pytest.raises(QueryError, match="nothing to search for") as caught:
        call("search")
    assert caught.value.status == 400


def test_questions_are_answered_whole_and_as_a_stream(call: Callable[..., Any]) -> None:
    answer = call("ask", "What is for breakfast?", max_sources=3, generator="extractive")
    events = call("ask_stream", "What is for breakfast?", max_sources=3, generator="extractive")
    assert [events[0].name, events[-1].name] == ["search", "done"]
    whole = events[-1].data
    assert (whole["answer"], whole["abstained"]) == (answer["answer"], answer["abstained"])
    assert [source["hit"]["key"] for source in whole["sources"]] == [
        source["hit"]["key"] for source in answer["sources"]
    ]
    with pytest.raises(QueryError):
        call("ask")


def test_an_answer_of_others_is_checked_against_its_sources(call: Callable[..., Any]) -> None:
    sources = ["The lighthouse was built in 1874.", "Herons nest in tall trees."]
    answer = "Herons nest in tall trees [2]. The lighthouse was built in 1921 [1]."
    supported, changed = call("check", answer, sources)
    assert (supported["support"], list(supported["citations"])) == ("supported", [2])
    assert changed["support"] in ("contradicted", "unsupported")


def test_media_and_what_shows_them_are_read(call: Callable[..., Any], film: Entry) -> None:
    sha256 = film.uri.removeprefix("asset:")
    assert call("media", sha256) == VIDEO
    assert call("media", f"/v1/media/{sha256}#t=1,2", start=3, end=9) == VIDEO[3:9]
    assert b"".join(call("media_pieces", sha256, start=7)) == VIDEO[7:]
    assert "a wolf howls" in call("captions", sha256)
    assert [part["id"] for part in call("entries", sha256)] == [film.id]
    shown = f"/v1/media/{sha256}/captions.vtt?entry={film.id}&tenant=default"
    assert "a wolf howls" in call("captions", shown)
    assert [part["id"] for part in call("entries", shown)] == [film.id]
    image = call("search", image=IMAGES["noon"], modalities=["image"])["hits"][0]
    assert call("thumbnail", image["id"], width_px=80).startswith(b"\xff\xd8")
    with pytest.raises(QueryError, match="not in the asset store") as caught:
        call("media_pieces", "0" * 64)
    assert caught.value.status == 404
    with pytest.raises(UsageError, match="no path of media"):
        call("media", "http://elsewhere/v1/media/x")


def test_the_plane_reports_its_state_and_suggests(call: Callable[..., Any]) -> None:
    assert call("status")["entries"]["image"] == 2
    assert call("suggest", "brea", limit=2)[0] == {"text": "bread", "kind": "word", "count": 1}


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_feedback_that_is_not_taken_says_why(kind: str, url: str) -> None:
    call = Both(kind, url, retries=RetryPolicy(max_retries=0))
    with pytest.raises(UnavailableError, match=r"feedback\.enabled"):
        call("feedback", "a question", "0" * 32, action="like", rank=3)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_watches_need_kafka(kind: str, url: str) -> None:
    call = Both(kind, url, retries=RetryPolicy(max_retries=0))
    body = {"name": "n", "text": "t", "min_relevance": 0.5}
    for method, *arguments in (["watches"], ["delete_watch", "w"], ["create_watch", body]):
        with pytest.raises(UnavailableError, match="keeps no watches"):
            call(method, *arguments)


def records(broker: MemoryBroker, topic: str, first: int) -> list[Record]:
    return list(broker.read(Partition(topic, 0), first, first + 100))


def test_events_are_produced_and_named_by_their_positions(call: Callable[..., Any], broker: MemoryBroker) -> None:
    event: EventJson = {"key": "n-1", "text": "The heron.", "attributes": {"river": "Isar"}, "acl": ["hr"]}
    vector: EventJson = {"data": b"words", "vectors": [{"encoder": "e/1/2", "values": [1.0, 0.5]}]}
    accepted = call("produce", [event, vector, {"delete": True, "key": "old", "modality": "text"}], tenant="acme")
    assert (accepted["tenant"], accepted["events"][0]["key"]) == ("acme", "n-1")
    first, second, third = (accepted["events"][number]["offset"] for number in range(3))
    assert (second, third) == (first + 1, first + 2)
    sent = records(broker, "media.text", first)
    assert [record.value for record in sent] == [b"The heron.", b"words", None]
    assert dict(sent[0].headers)["ce_tenant"] == b"acme"
    assert call("event_limits")["modalities"] == ["text", "image"]
    with pytest.raises(QueryError, match="exactly one") as caught:
        call("produce", [{"text": "a", "uri": "s3://b/c"}])
    assert (caught.value.status, caught.value.field) == (422, "/events/0")


def test_files_are_produced_with_their_names(call: Callable[..., Any], broker: MemoryBroker) -> None:
    files = {"noon.png": IMAGES["noon"], "ein Vöglein.txt": b"The heron.", "report": sample(Modality.DOCUMENT)}
    accepted = call("produce_files", files, prefix="uploads/", tenant="acme", attributes={"by": "a program"})
    assert [event["key"] for event in accepted["events"]] == [
        "uploads/noon.png",
        "uploads/ein Vöglein.txt",
        "uploads/report",
    ]
    image, text, document = accepted["events"]
    assert document["topic"] == "media.document"
    (record,) = records(broker, image["topic"], image["offset"])
    assert (record.value, dict(record.headers)["ce_tenant"]) == (IMAGES["noon"], b"acme")
    assert records(broker, text["topic"], text["offset"])[0].value == b"The heron."
    with pytest.raises(UsageError, match="no files"):
        call("produce_files", {})


def test_events_of_one_idempotency_key_are_produced_once(call: Callable[..., Any], broker: MemoryBroker) -> None:
    key = str(uuid.uuid4())
    answers = [call("produce", [{"text": "once"}], idempotency_key=key) for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(records(broker, "media.text", answers[0]["events"][0]["offset"])) == 1
    with pytest.raises(QueryError, match="other events"):
        call("produce", [{"text": "another"}], idempotency_key=key)
    assert call("produce", [{"text": "once"}]) != call("produce", [{"text": "once"}])


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_events_whose_connection_is_lost_are_sent_again_with_the_same_key(kind: str, server: ScriptedServer) -> None:
    accepted = Scripted(202, b'{"tenant": "acme", "events": []}')
    server.answers(Scripted(cut=True), problem(503, "no broker", Retry_After="0"), accepted)
    Both(kind, server.url)("produce_files", {"a.txt": b"words"})
    keys = [request.headers["idempotency-key"] for request in server.received]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_changes_are_followed(call: Callable[..., Any], plane: QueryPlane) -> None:
    change = IndexChange("default", "media.image", "noon", Position("media.image", 0, 0), False, {}, 1)
    threading.Timer(0, plane.changes.receive, [[change]]).start()
    state, indexed = call("live", backlog=1, at_most=2)
    assert (state.name, state.data["available"]) == ("feed", True)
    assert (indexed.name, indexed.data["key"]) == ("indexed", "noon")
