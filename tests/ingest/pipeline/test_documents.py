"""Documents in the lane: segments, the words of scans, versions of fewer and more pages, deletions and refusals."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from penstock.broker.base import Message, Partition
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.wire import parse_record
from penstock.encoders.base import Fingerprint, Space
from penstock.encoders.profiles import OCR
from penstock.errors import BadInputError, Reason
from penstock.ingest.executor.pool import LocalPool
from penstock.ingest.executor.proxies import Pools
from penstock.ingest.executor.workers import ImageTextWorker, MediaWorker
from penstock.ingest.lane.batcher import Batcher, BatchLimits
from penstock.ingest.lane.lane import Lane, LaneLimits
from penstock.ingest.pipeline.driver import Pipeline
from penstock.media.documents.types import DocumentPage, DocumentPages
from penstock.records import (
    AssetRef,
    Collection,
    Entry,
    Event,
    FetchedMedia,
    Field,
    ImageText,
    Inline,
    Modality,
    Outcome,
    Record,
    UInt8,
)
from penstock.retries import Backoff, Breaker
from penstock.store.base import IndexSpec, VectorSpec
from penstock.store.memory import MemoryStore
from tests.ingest.builders import event
from tests.ingest.doubles import DIM, RecordingSink, ScriptedEncoder, started_writer
from tests.ingest.lane.harness import eventually, running
from tests.media.segments.document_harness import DocumentHarness, figures, page, pixels
from tests.store.scans import all_entries

TOPIC, GROUP = "media.document", "penstock"
FINGERPRINT = Fingerprint("test", "0" * 16, "0" * 16)
VECTOR = VectorSpec(Space("test", DIM), FINGERPRINT)
ROLES = ("passage.text", "joint.text", "joint.image", OCR)
SPEC = IndexSpec(
    {Collection.TEXT: {Field.PASSAGE: VECTOR, Field.JOINT: VECTOR}, Collection.PAGE: {Field.JOINT: VECTOR}},
    {Collection.TEXT: "test", Collection.PAGE: "test"},
    version=1,
    num_shards=1,
)


class ShadeReader:
    """Reads an image as its shade."""

    fingerprint = FINGERPRINT
    max_images = 2

    def texts(self, images: Sequence[UInt8]) -> tuple[ImageText, ...]:
        return tuple(ImageText(f"shade {image[0, 0, 0]}") for image in images)


class InlineFetcher:
    """Returns inline bytes."""

    def fetch_one(self, source: Event) -> FetchedMedia:
        assert isinstance(source.payload, Inline)
        data = bytes(source.payload.data)
        sha256 = hashlib.sha256(data).hexdigest()
        return FetchedMedia(source, data, "application/pdf", sha256, f"asset:{sha256}")


class GatedReader:
    """Reads scripted pages; waits at a page of `gates` until it is open, and refuses from page `refuse_from` on."""

    def __init__(self, read: Callable[..., DocumentPages]) -> None:
        self._read = read
        self.gates: dict[int, threading.Event] = {}
        self.refuse_from = 1_000
        self.first_pages: list[int] = []

    def __call__(self, *args: Any, first: int, **more: Any) -> DocumentPages:
        if first in self.gates:
            self.gates[first].wait(30)
        self.first_pages.append(first)
        if first >= self.refuse_from:
            raise BadInputError(Reason.CRASHES_WORKER, "pages of this PDF end its parser")
        return self._read(*args, first=first, **more)


class Stack:
    """A broker with a topic of documents, a store, one writer, and lanes that share them."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.broker.create_topic(TOPIC, 1)
        self.store = MemoryStore()
        self.store.ensure(SPEC)
        self.writers = LocalPool(lambda _: started_writer(self.store))
        self.sink = RecordingSink()
        self.harness = DocumentHarness()
        self.harness.image_texts = {OCR: 200}
        self.reader = GatedReader(self.harness.reader)
        self.documents = self.harness.reader.documents
        self.harness.reader = self.reader
        self.offset = 0

    def produce(self, key: str, *pages: DocumentPage) -> None:
        """Produces a document of these pages; a tombstone without any."""
        data = f"%PDF of {len(self.documents)}".encode() if pages else None
        if data is not None:
            self.documents[data] = pages
        self.broker.append(Message(TOPIC, key.encode(), data))
        self.offset += 1

    def index(self, key: str, *pages: DocumentPage) -> None:
        """Produces it, and runs a lane until it is committed."""
        self.produce(key, *pages)
        with running(self.lane()):
            eventually(lambda: self.committed() == self.offset, "committed")

    def worker(self) -> MediaWorker:
        decoder = self.harness.restart()
        return MediaWorker(InlineFetcher(), None, None, decoder)  # type: ignore[arg-type]  # there are no other media

    def lane(self, name: str = "lane", *, drain_s: float = 5.0) -> Lane:
        stop = threading.Event()
        backoff = Backoff(0.001, 0.001, np.random)  # type: ignore[arg-type]
        encoders: dict[str, Any] = {role: LocalPool(lambda _: ScriptedEncoder()) for role in ROLES if role != OCR}
        pipeline = Pipeline(
            lane=name,
            pools=Pools.over(
                fetch=LocalPool(lambda _: self.worker()),
                decode=LocalPool(lambda _: self.worker()),
                long_media=LocalPool(lambda _: self.worker()),
                encoders=encoders | {OCR: LocalPool(lambda _: ImageTextWorker(ShadeReader()))},
                writers=self.writers,
            ),
            roles={Modality.DOCUMENT: ROLES},
            dead_letters=self.sink,
            backoff=backoff,
            breaker=Breaker("store", clock=lambda: float("inf"), backoff=backoff),
            sleep=lambda _: stop.is_set(),
            known_good={Modality.DOCUMENT: replace(event(-1, "good", topic=TOPIC), modality=Modality.DOCUMENT)},
        )
        return Lane(
            name=name,
            consumer=self.broker.consumer(GROUP, [TOPIC], drain_timeout_s=drain_s),
            pipeline=pipeline,
            batcher=Batcher(BatchLimits(4, 100_000, 0.001, 4), time.monotonic),
            parse=parse,
            topics={TOPIC: Modality.DOCUMENT},
            limits=LaneLimits(1_000_000, 0.01, drain_s),
            executor=ThreadPoolExecutor(8),
            admission_checks={},
            abandon=stop,
            clock=time.monotonic,
            wall_ms=lambda: time.time_ns() // 1_000_000,
        )

    def committed(self) -> int:
        return self.broker.committed(GROUP).get(Partition(TOPIC, 0), 0)

    def entries(self, key: str, collection: Collection) -> list[Entry]:
        stored = (entry for entry in all_entries(self.store, collection) if entry.asset.key == key)
        return sorted(stored, key=lambda entry: entry.part)

    def places(self, key: str) -> list[tuple[str, int, int, int, str]]:
        """The entries of a document: collection, part, page, number of the image and text."""
        entries = [
            entry for collection in (Collection.TEXT, Collection.PAGE) for entry in self.entries(key, collection)
        ]
        return [(entry.collection.value, entry.part, entry.page, entry.figure, entry.text) for entry in entries]

    def outcome(self, key: str) -> tuple[Outcome, dict[Collection, int]] | None:
        asset = AssetRef("default", TOPIC, key)
        row = self.store.asset_rows([asset.id]).get(asset.id)
        return None if row is None else (row.outcome, dict(row.counts))


def parse(record: Record) -> Any:
    return parse_record(record, modality=Modality.DOCUMENT, default_tenant="default", max_inline_bytes=1_000_000)


@pytest.fixture
def stack() -> Stack:
    return Stack()


def written(count: int, edition: str = "first") -> list[DocumentPage]:
    """Pages of a text, each with its image and one logo."""
    return [
        page(number, f"Page {number} of the {edition} edition.", image=pixels(number), figures=figures(250))
        for number in range(1, count + 1)
    ]


def expected(count: int, edition: str = "first") -> list[tuple[str, int, int, int, str]]:
    images = [("page", 0, 1, 0, ""), ("page", 1, 1, 1, "shade 250")]
    images += [("page", number, number, 0, "") for number in range(2, count + 1)]
    texts = [
        ("text", number - 1, number, 0, f"Page {number} of the {edition} edition.") for number in range(1, count + 1)
    ]
    return texts + images


def test_a_long_document_is_indexed_segment_by_segment_and_committed_at_the_end(stack: Stack) -> None:
    stack.index("book", *written(8))
    assert stack.reader.first_pages == [1, 4, 7]
    assert stack.places("book") == expected(8)
    assert stack.outcome("book") == (Outcome.INDEXED, {Collection.TEXT: 8, Collection.PAGE: 9})
    assert not stack.store.checkpoints([AssetRef("default", TOPIC, "book").id])
    for entry in stack.entries("book", Collection.TEXT):
        assert entry.vectors.keys() == {Field.PASSAGE, Field.JOINT}
    for entry in stack.entries("book", Collection.PAGE):
        assert entry.vectors.keys() == {Field.JOINT}
        assert entry.thumbnail in stack.harness.thumbnails


def test_the_words_of_scanned_pages_are_the_texts_of_their_images(stack: Stack) -> None:
    scans = [page(number, image=pixels(10 * number)) for number in range(1, 6)]
    stack.index("scan", *scans)
    assert stack.places("scan") == [("page", number - 1, number, 0, f"shade {10 * number}") for number in range(1, 6)]


@pytest.mark.parametrize(("before", "after"), [(8, 2), (8, 5), (2, 8), (2, 1), (5, 8), (8, 8)])
def test_a_new_version_leaves_nothing_of_the_one_before(stack: Stack, before: int, after: int) -> None:
    stack.index("book", *written(before))
    stack.index("book", *written(after, "second"))
    assert stack.places("book") == expected(after, "second")
    stack.index("book", *written(3, "third"))
    assert stack.places("book") == expected(3, "third")
    assert stack.outcome("book") == (Outcome.INDEXED, {Collection.TEXT: 3, Collection.PAGE: 4})


def test_a_version_of_text_replaces_one_of_images(stack: Stack) -> None:
    stack.index("book", *(page(number, image=pixels(number)) for number in range(1, 6)))
    stack.index("book", page(1, "Of words alone."))
    assert stack.places("book") == [("text", 0, 1, 0, "Of words alone.")]


def test_a_tombstone_removes_every_page(stack: Stack) -> None:
    stack.index("other", *written(2))
    for count in (8, 2):
        stack.index("book", *written(count))
        stack.index("book")
        assert stack.places("book") == []
        assert stack.outcome("book") == (Outcome.DELETED, {})
    assert stack.places("other") == expected(2)


def test_the_next_owner_continues_a_long_document(stack: Stack) -> None:
    gate = stack.reader.gates[4] = threading.Event()
    stack.produce("book", *written(8))
    first = stack.lane("first", drain_s=0.2)
    with running(first):
        eventually(
            lambda: (
                [(item.asset, item.position.page) for item in first.status().long_media]
                == [("default/media.document/book", 3)]
            ),
            "its pages are published",
        )
    gate.set()
    with running(stack.lane("second")):
        eventually(lambda: stack.committed() == 1, "committed")
    assert stack.reader.first_pages.count(1) == 1, "the written segment is not read again"
    assert stack.places("book") == expected(8)


def test_a_document_refused_in_its_middle_is_a_dead_letter_and_leaves_nothing(stack: Stack) -> None:
    stack.reader.refuse_from = 4
    stack.index("book", *written(8))
    assert [(letter.reason, letter.detail) for letter in stack.sink.letters] == [
        (Reason.CRASHES_WORKER, "pages of this PDF end its parser")
    ]
    assert stack.places("book") == []
    assert stack.outcome("book") is None


def test_a_version_refused_in_its_middle_leaves_the_one_before(stack: Stack) -> None:
    stack.index("book", *written(5))
    stack.reader.refuse_from = 4
    stack.index("book", *written(8, "second"))
    assert len(stack.sink.letters) == 1
    assert stack.places("book") == expected(5)
    assert stack.outcome("book") == (Outcome.INDEXED, {Collection.TEXT: 5, Collection.PAGE: 6})
