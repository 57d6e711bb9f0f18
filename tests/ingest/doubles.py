"""Workers whose behaviour an event's bytes script, so that a test can produce any outcome.

b"bad"       the decoder rejects it            b"poison"  the encoder fails on it alone
b"parts:3"   three passages                    b"kills"   the worker dies of it, every time
anything else is one passage
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace

import numpy as np

from penstock.encoders.base import Fingerprint, Space
from penstock.errors import Reason, WorkerLostError
from penstock.ingest.changes import ChangeSink
from penstock.ingest.executor.pool import LocalPool
from penstock.ingest.executor.proxies import Pools
from penstock.ingest.pipeline.driver import Pipeline
from penstock.records import (
    ClaimCheck,
    Collection,
    Decoded,
    Encoded,
    EncoderInput,
    Event,
    Field,
    Inline,
    Modality,
    PendingEntry,
    Position,
    Record,
    Rejected,
)
from penstock.retries import Backoff, Breaker
from penstock.store.base import IndexSpec, Store, VectorSpec
from penstock.store.memory import MemoryStore
from penstock.store.writer import Writer
from tests.ingest.builders import event

DIM = 4
ROLE = "passage.text"
SPEC = IndexSpec(
    vectors={Collection.TEXT: {Field.PASSAGE: VectorSpec(Space("test", DIM), Fingerprint("test", "0" * 16, "0" * 16))}},
    model_slug={Collection.TEXT: "test"},
    version=1,
    num_shards=1,
)


class ScriptedMedia:
    """A media worker that decodes as the bytes script it."""

    def fetch(self, events: Sequence[Event]) -> tuple[Event, ...]:
        return tuple(events)

    def decode(self, events: Sequence[Event], roles: Sequence[str]) -> tuple[Decoded, EncoderInput]:
        return self.fetch_and_decode(events, roles)

    def fetch_and_decode(self, events: Sequence[Event], roles: Sequence[str]) -> tuple[Decoded, EncoderInput]:
        indexable: list[Event] = []
        pending: list[PendingEntry] = []
        rejected: list[Rejected] = []
        texts: list[str] = []
        for source in events:
            text = text_of(source)
            if text == "kills":
                raise WorkerLostError("died", blamed=True)
            if text == "bad":
                rejected.append(Rejected(source.position, "decode", Reason.CORRUPT, "it is bad"))
            elif not source.is_tombstone:
                plain = replace(source, payload=ClaimCheck("asset:x"))
                indexable.append(plain)
                for part in range(int(text.removeprefix("parts:")) if text.startswith("parts:") else 1):
                    vectors = ((Field.PASSAGE, ROLE, len(texts)),)
                    pending.append(
                        PendingEntry(plain, Collection.TEXT, part, "text/plain", "asset:x", text, vectors=vectors)
                    )
                    texts.append(text)
        tombstones = tuple(source for source in events if source.is_tombstone)
        decoded = Decoded(tuple(indexable), tombstones, tuple(pending), tuple(rejected))
        return decoded, EncoderInput(ROLE, tuple(texts), tuple(texts))


class ScriptedEncoder:
    """An encoder that returns the same embedding for every text and fails on poison."""

    def encode(self, batch: EncoderInput) -> Encoded:
        vectors = np.tile(np.eye(1, DIM, dtype=np.float32), (len(batch), 1))
        return Encoded(
            batch.encoder, vectors, tuple((row, "poison") for row, text in enumerate(batch.texts) if text == "poison")
        )


class RecordingSink:
    """A dead-letter topic in a list; sending fails with the error that `fail` returns, if any."""

    def __init__(self, fail: Callable[[Record], Exception | None] = lambda _: None) -> None:
        self.letters: list[Rejected] = []
        self._fail = fail

    def send(self, record: Record, rejected: Rejected) -> Future[Position]:
        future: Future[Position] = Future()
        error = self._fail(record)
        if error is None:
            self.letters.append(rejected)
            future.set_result(Position("media.dlq", 0, len(self.letters) - 1))
        else:
            future.set_exception(error)
        return future


def memory_store() -> MemoryStore:
    store = MemoryStore()
    store.ensure(SPEC)
    return store


def started_writer(store: Store) -> Writer:
    writer = Writer(store, wall_ms=lambda: 5_000)
    writer.start(())
    return writer


def pipeline_on(
    store: Store,
    sink: RecordingSink,
    *,
    media: ScriptedMedia | None = None,
    make_encoder: Callable[[], ScriptedEncoder] = ScriptedEncoder,
    stop: threading.Event | None = None,
    concurrent_writes: int = 1,
    changes: ChangeSink | None = None,
) -> Pipeline:
    """Makes a pipeline over local pools. It never waits: `sleep` returns immediately, True if `stop` is set."""
    backoff = Backoff(0.001, 0.001, random.Random(0))
    stop = stop or threading.Event()
    pools = Pools.over(
        fetch=LocalPool(lambda _: media or ScriptedMedia()),
        decode=LocalPool(lambda _: media or ScriptedMedia()),
        long_media=LocalPool(lambda _: media or ScriptedMedia()),
        encoders={ROLE: LocalPool(lambda _: make_encoder())},
        writers=LocalPool(lambda _: started_writer(store)),
        concurrent_writes=concurrent_writes,
    )
    return Pipeline(
        lane="test",
        pools=pools,
        roles={Modality.TEXT: (ROLE,)},
        dead_letters=sink,
        backoff=backoff,
        breaker=Breaker("store", clock=lambda: float("inf"), backoff=backoff),
        sleep=lambda _: stop.is_set(),
        known_good={Modality.TEXT: event(-1, "known-good", data=b"good")},
        changes=changes,
    )


def text_of(source: Event) -> str:
    return source.payload.data.decode() if isinstance(source.payload, Inline) else ""
