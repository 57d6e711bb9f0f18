"""The way of an event with the real parts: Kafka, Ray, Milvus Lite, the reference models and the command line."""

from __future__ import annotations

import base64
import http.server
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from cloudevents.core.bindings import kafka as ce_kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from PIL import Image

from penstock.broker.base import Message
from penstock.client import PenstockClient
from penstock.errors import Reason
from penstock.samples.images import compose, load_concepts
from tests.e2e.shared.conftest import own_address
from tests.e2e.stack import Stack
from tests.services import console_producer

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]

CONCEPTS = {concept.name: concept for concept in load_concepts()}
LONG_TEXT = " ".join(
    f"Sentence number {number} tells of a lighthouse keeper who writes letters to the sea." for number in range(60)
)


def jpeg(name: str, seed: int = 1) -> bytes:
    sink = io.BytesIO()
    compose(CONCEPTS[name], seed, 224).save(sink, "JPEG", quality=92)
    return sink.getvalue()


def png(name: str, seed: int = 2) -> bytes:
    sink = io.BytesIO()
    compose(CONCEPTS[name], seed, 224).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of images and texts."""
    root = tmp_path / "mine"
    (root / "notes").mkdir(parents=True)
    (root / "banana.jpg").write_bytes(jpeg("banana"))
    (root / "hammer.png").write_bytes(png("hammer"))
    (root / "notes" / "lighthouse.txt").write_text(LONG_TEXT)
    (root / "notes" / "bread.md").write_text("# Bread\n\nKnead flour, water, salt and yeast, and bake the loaf.")
    return root


def test_a_folder_is_found_by_words_and_by_pictures_and_again_changes_nothing(
    stack: Stack, folder: Path, tmp_path: Path
) -> None:
    stack.json("produce", str(folder))
    stack.settle()
    assert stack.search("banana", modalities=["image"])[0]["key"] == "mine/banana.jpg"
    assert stack.search("how to bake a loaf", modalities=["text"])[0]["key"] == "mine/notes/bread.md"
    by_picture = base64.b64encode(jpeg("hammer", seed=77)).decode()
    assert stack.search(image=by_picture, modalities=["image"])[0]["key"] == "mine/hammer.png"
    before = stack.counts()
    stack.json("produce", str(folder))
    stack.settle()
    assert stack.counts() == before
    query = tmp_path / "query.jpg"
    query.write_bytes(jpeg("hammer", seed=78))
    answer = stack.json("search", "--image", str(query), "--modality", "image", "--filter", '{"mime": "image/png"}')
    assert {hit["mime"] for hit in answer["hits"]} == {"image/png"}
    assert answer["hits"][0]["key"] == "mine/hammer.png"


def test_a_shorter_version_leaves_no_surplus_and_a_tombstone_removes_everything(stack: Stack, folder: Path) -> None:
    note = folder / "notes" / "lighthouse.txt"
    stack.json("produce", str(folder), "--tenant", "surplus")
    stack.settle()
    key = "mine/notes/lighthouse.txt"
    criteria = {"tenant": "surplus", "filter": {"key": key}, "limit": 50}
    assert len(stack.search("lighthouse keeper", **criteria)) > 2
    note.write_text("The lighthouse was sold.")
    stack.json("produce", str(folder), "--tenant", "surplus")
    stack.settle()
    assert [hit["text"] for hit in stack.search("lighthouse keeper", **criteria)] == ["The lighthouse was sold."]
    stack.json("produce", "--delete", key, "--topic", "media.text", "--tenant", "surplus")
    stack.settle()
    assert stack.search("lighthouse keeper", **criteria) == []


def test_a_bare_value_of_kafkas_console_producer_is_indexed(stack: Stack) -> None:
    line = b"console-1:The violinist practised scales all afternoon.\n"
    client = stack.folder / "kafka" / "client.properties"
    console_producer(stack.endpoints.bootstrap_servers, "media.text", line, client)
    stack.settle()
    assert [hit["text"] for hit in stack.entries_of("console-1")] == ["The violinist practised scales all afternoon."]


def test_clients_see_what_is_indexed_as_it_is_stored(stack: Stack) -> None:
    with PenstockClient(stack.endpoints.query_url) as penstock:
        changes = penstock.live()
        assert next(changes).data == {"available": True}
        stack.produce([Message("media.text", b"live-1", b"The ferryman rang his bell.")])
        indexed = next(event for event in changes if event.name == "indexed" and event.data["key"] == "live-1")
        changes.close()  # type: ignore[attr-defined]
        assert indexed.data["counts"] == {"text": 1}
        assert 0 < indexed.data["fresh_ms"] < 60_000
        (hit,) = penstock.search("ferryman", filter={"key": "live-1"}, limit=1)["hits"]
        assert hit["id"] == indexed.data["entry_id"]


def test_a_structured_cloud_event_of_the_sdk_is_indexed(stack: Stack) -> None:
    event = CloudEvent(
        {"type": "note", "source": "/tests", "subject": "structured-1", "datacontenttype": "text/plain"},
        "The astronomer counted the moons of Jupiter.",
    )
    message = ce_kafka.to_structured(event, JSONFormat())
    stack.produce([Message("media.text", None, message.value, tuple(message.headers.items()))])
    stack.settle()
    assert [hit["text"] for hit in stack.entries_of("structured-1")] == ["The astronomer counted the moons of Jupiter."]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """An HTTP server of a folder, on the address of this machine."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer((own_address(), 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{own_address()}:{server.server_port}"
    finally:
        server.shutdown()


def claim(key: str, uri: str, topic: str = "media.text") -> Message:
    attributes = {"id": key, "source": "/tests", "type": "note", "specversion": "1.0", "dataref": uri}
    return Message(
        topic, key.encode(), b"", tuple((f"ce_{name}", value.encode()) for name, value in attributes.items())
    )


def test_claim_checks_to_a_file_and_to_a_server_are_fetched(stack: Stack, claims_root: Path, tmp_path: Path) -> None:
    (claims_root / "claimed.txt").write_text("The cellist tuned her instrument before the concert.")
    (tmp_path / "served.txt").write_text("The glacier calved into the fjord with a roar.")
    with served(tmp_path) as url:
        stack.produce(
            [
                claim("claim-file", (claims_root / "claimed.txt").as_uri()),
                claim("claim-http", f"{url}/served.txt"),
                claim("claim-outside", "file:///etc/hostname"),
                claim("claim-gone", f"{url}/nothing.txt"),
            ]
        )
        stack.settle()
    assert "cellist" in stack.entries_of("claim-file")[0]["text"]
    assert "glacier" in stack.entries_of("claim-http")[0]["text"]
    assert [letter.reason for letter in stack.dead_letters("claim-outside")] == [Reason.FORBIDDEN]
    assert [letter.reason for letter in stack.dead_letters("claim-gone")] == [Reason.UNREACHABLE]


def test_bad_input_becomes_a_dead_letter_that_says_why_and_nothing_else_is_lost(stack: Stack) -> None:
    huge = io.BytesIO()
    Image.new("1", (50_000, 50_000)).save(huge, "PNG")
    cases = {
        "bad-truncated": ("media.image", jpeg("banana")[:900], Reason.CORRUPT),
        "bad-bomb": ("media.image", huge.getvalue(), Reason.TOO_LARGE),
        "bad-charset": ("media.text", b"caf\xe9 \x81\x8d\xff\xfe\xfd", Reason.CORRUPT),
        "bad-type": ("media.image", b"\x7fELF" + bytes(200), Reason.UNSUPPORTED),
        "bad-topic": ("media.text", png("hammer"), Reason.WRONG_TOPIC),
    }
    good = [Message("media.text", f"good-{number}".encode(), f"A good text {number}.".encode()) for number in range(20)]
    stack.produce([Message(topic, key.encode(), value) for key, (topic, value, _) in cases.items()] + good)
    stack.settle()
    reasons = {key: [letter.reason for letter in stack.dead_letters(key)] for key in cases}
    assert reasons == {key: [reason] for key, (_, _, reason) in cases.items()}
    assert "media.image" in stack.dead_letters("bad-topic")[0].detail
    assert len(stack.search("A good text", filter={"key": {"in": [f"good-{n}" for n in range(20)]}}, limit=50)) == 20


def test_of_two_versions_the_newer_corrupt_the_older_is_indexed(stack: Stack) -> None:
    whole = jpeg("hammer")
    stack.produce(
        [Message("media.image", b"two-versions", whole), Message("media.image", b"two-versions", whole[:700])]
    )
    stack.settle()
    assert len(stack.entries_of("two-versions", "media.image")) == 1
    assert [letter.reason for letter in stack.dead_letters("two-versions")] == [Reason.CORRUPT]


def test_the_same_key_on_two_topics_and_for_two_tenants_is_separate_assets(stack: Stack, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("A note of the first tenant.")
    stack.json("produce", str(note), "--key", "shared", "--tenant", "first")
    note.write_text("A note of the second tenant.")
    stack.json("produce", str(note), "--key", "shared", "--tenant", "second")
    stack.produce([Message("media.image", b"shared", jpeg("banana"))])
    stack.settle()
    texts = {
        tenant: [hit["text"] for hit in stack.search("note", tenant=tenant, filter={"key": "shared"})]
        for tenant in ("first", "second", "default")
    }
    assert texts == {
        "first": ["A note of the first tenant."],
        "second": ["A note of the second tenant."],
        "default": [""],
    }


@pytest.mark.exhaustive  # tests/faults kills it, too
def test_a_killed_ingest_driver_comes_back_and_every_event_is_found_once(stack: Stack) -> None:
    before = stack.counts()
    messages = [
        Message("media.text", f"driver-{number}".encode(), f"Event {number} of five hundred.".encode())
        for number in range(500)
    ]
    stack.produce(messages[:250])
    stack.plane("ingest").kill()
    stack.produce(messages[250:])
    stack.settle()
    after = stack.counts()
    assert after["text"] - before["text"] == after["asset"] - before["asset"] == 500


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"text": "  "}, 400, "empty"),
        ({"text": "x", "filter": {"colour": "red"}}, 400, "colour"),
        ({"text": "x", "modalities": ["smell"]}, 400, "smell"),
        ({"text": "x", "limit": 100_000}, 400, "limit"),
        ({"image": base64.b64encode(b"no picture").decode()}, 400, "image"),
        ({}, 400, "text"),
    ],
)
def test_a_bad_search_is_answered_with_problem_details(
    stack: Stack, body: dict[str, object], status: int, named: str
) -> None:
    response = stack.post(body)
    assert response.headers["content-type"].startswith("application/problem+json")
    problem = response.json()
    assert problem["status"] == response.status_code
    assert 400 <= response.status_code < 500, status
    assert named in str(problem)


def test_status_and_dead_letters_are_told_on_the_command_line(stack: Stack) -> None:
    stack.produce([Message("media.image", b"told", b"no picture at all, but text")])
    stack.settle()
    listed = stack.json("deadletters", "list", "--reason", "wrong_topic")
    assert any(letter["key"] == "told" for letter in listed)
    assert stack.json("status")["index"]["entries"]["text"] > 0


def test_a_second_up_on_the_same_folder_says_so(stack: Stack) -> None:
    done = stack.run("up")
    assert done.returncode == 2
    assert str(stack.endpoints.pid) in done.stderr.decode()
