"""A long document whose plane is killed in its middle: it continues from its checkpoint, and the audit balances."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.broker.base import Message
from penstock.ingest.status import read_status
from penstock.records import AssetRef, Checkpoint, Collection
from penstock.store.milvus.store import MilvusStore
from tests.e2e.stack import Stack, eventually
from tests.media.documents.made import lines, pdf

pytestmark = [pytest.mark.services, pytest.mark.exhaustive, pytest.mark.timeout(900)]

PAGES, SEGMENT_PAGES = 60, 5
BOOK = AssetRef("default", "media.document", "book.pdf")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    environment = {
        "PENSTOCK_PROFILE": "null:8",
        "PENSTOCK_QUERY__PORT": "0",
        "PENSTOCK_INGEST__MODALITIES": '["document"]',
        "PENSTOCK_DOCUMENTS__SEGMENT_PAGES": str(SEGMENT_PAGES),
    }
    stack = Stack(tmp_path / "data", environment)
    try:
        stack.start()
        yield stack
    finally:
        stack.close()


def pages_in_progress(stack: Stack) -> int:
    """Returns the pages that `penstock status` shows as indexed."""
    status = read_status(stack.folder, stack.settings.kafka.group)
    return 0 if status is None else status.long_documents.get("default/media.document/book.pdf", 0)


def checkpoint(stack: Stack) -> Checkpoint | None:
    store = MilvusStore(stack.settings.store)
    try:
        return store.checkpoints([BOOK.id]).get(BOOK.id)
    finally:
        store.close()


def test_a_killed_driver_continues_a_long_document_from_its_checkpoint(stack: Stack) -> None:
    texts = [f"Page {number} tells of herons." for number in range(1, PAGES + 1)]
    stack.produce([Message(BOOK.topic, BOOK.key.encode(), pdf(*map(lines, texts)))])
    eventually(lambda: pages_in_progress(stack) >= 10, "the status shows ten pages", 120)
    saved = checkpoint(stack)
    assert saved is not None
    assert 10 <= saved.position.page < PAGES
    killed_ms = time.time_ns() // 1_000_000
    stack.plane("ingest").kill()
    stack.settle(300)
    assert checkpoint(stack) is None
    entries = stack.stored(BOOK.key)
    passages = [entry for entry in entries if entry.collection is Collection.TEXT]
    images = [entry for entry in entries if entry.collection is Collection.PAGE]
    assert [(entry.page, entry.text) for entry in passages] == list(enumerate(texts, 1))
    assert [(entry.page, entry.figure) for entry in images] == [(page, 0) for page in range(1, PAGES + 1)]
    written_before = [entry for entry in entries if entry.page <= saved.position.page]
    assert all(entry.indexed_at_ms <= saved.updated_ms for entry in written_before)  # and not once more
    assert all(entry.indexed_at_ms > killed_ms for entry in entries if entry.page == PAGES)
    stack.json("audit")  # which exits with 1 if it does not balance
