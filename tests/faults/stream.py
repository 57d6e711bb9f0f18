"""Events with a truth: what a stream sent, what must have become of each, and whether that is what the store holds."""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from penstock.audit import run_audit
from penstock.broker.base import Message
from penstock.broker.deadletters import scan_dead_letters
from penstock.broker.producer import Producer
from penstock.config import Settings
from penstock.records import AssetRef, Collection, Entry, Outcome, Position
from penstock.store.milvus import MilvusStore

_ASSETS = 150  # fewer than events, so that most assets see several versions
_TOMBSTONES, _BAD = 0.06, 0.05  # shares of events
_ACK_S = 60.0


@dataclass(frozen=True)
class Sent:
    """One event and what it means for its asset."""

    asset: AssetRef
    position: Position
    text: str  # what the entries say together; empty for a picture or a tombstone
    deletes: bool = False


@dataclass(frozen=True)
class Draft:
    """An event before it has a position. `bad` never becomes an entry."""

    message: Message
    text: str = ""
    bad: bool = False


@dataclass
class Stream:
    """Sends events of a few assets over both topics: new versions, longer and shorter ones, tombstones, bad ones.

    Attributes:
        settings: names the topics.
        seed: of all choices.
        sent: the good events, in no order across partitions.
        bad: the events that can never be indexed, with their assets.
        produced: how many events were acknowledged.
    """

    settings: Settings
    seed: int = 0
    sent: list[Sent] = field(default_factory=list)
    bad: dict[Position, AssetRef] = field(default_factory=dict)
    produced: int = 0

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._number = 0

    def send(self, count: int) -> None:
        """Returns once all are acknowledged."""
        self.send_these([self._next() for _ in range(count)])

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Sends events meanwhile, without a pause; at the end all that were sent are acknowledged."""
        stop = threading.Event()

        def send() -> None:
            while not stop.is_set():
                self.send(50)

        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send)
            try:
                yield
            finally:
                stop.set()
                sending.result()

    def send_these(self, drafts: Sequence[Draft]) -> list[Position]:
        producer = Producer(self.settings.kafka)
        try:
            futures = [producer.send(draft.message) for draft in drafts]
            positions = [future.result(_ACK_S) for future in futures]
        finally:
            producer.close(10)
        for draft, position in zip(drafts, positions, strict=True):
            self._note(draft, position)
        return positions

    def _note(self, draft: Draft, position: Position) -> None:
        self.produced += 1
        asset = AssetRef(self.settings.tenant, draft.message.topic, (draft.message.key or b"").decode())
        if draft.bad:
            self.bad[position] = asset
            return
        self.sent.append(Sent(asset, position, draft.text, deletes=draft.message.value is None))

    # ---- what is sent ----

    def _next(self) -> Draft:
        self._number += 1
        dice = self._rng.random()
        key = f"asset-{self._rng.randrange(_ASSETS)}"
        if dice < _BAD:
            return self._rng.choice([self.corrupt, self.wrong_topic, self.malformed])(key)
        topic = self._rng.choice([self.settings.kafka.text_topic, self.settings.kafka.image_topic])
        if dice < _BAD + _TOMBSTONES:
            return Draft(Message(topic, key.encode(), None))
        return self.text(key) if topic == self.settings.kafka.text_topic else self.picture(key)

    def text(self, key: str, *, also: str = "") -> Draft:
        """One to five passages."""
        self._number += 1
        sentences = [
            f"Sentence {index} of version {self._number} of {key} tells of the river, the turbine and the gate."
            for index in range(self._rng.randrange(1, 6))
        ]
        words = " ".join([*sentences, also]).strip()
        return Draft(Message(self.settings.kafka.text_topic, key.encode(), words.encode()), text=words)

    def picture(self, key: str) -> Draft:
        self._number += 1
        return Draft(Message(self.settings.kafka.image_topic, key.encode(), png(self._number)))

    def corrupt(self, key: str) -> Draft:
        """Half a picture."""
        data = png(self._number, size=64)
        return Draft(Message(self.settings.kafka.image_topic, key.encode(), data[: len(data) // 2]), bad=True)

    def large(self, key: str) -> Draft:
        """A picture of more pixels than the settings of the test allow."""
        return Draft(Message(self.settings.kafka.image_topic, key.encode(), png(self._number, size=128)), bad=True)

    def wrong_topic(self, key: str) -> Draft:
        return Draft(Message(self.settings.kafka.text_topic, key.encode(), png(self._number)), bad=True)

    def malformed(self, key: str) -> Draft:
        """A CloudEvent without its id."""
        headers = (("ce_specversion", b"1.0"), ("ce_type", b"test"), ("ce_source", b"/test"))
        return Draft(Message(self.settings.kafka.text_topic, key.encode(), b"words", headers), bad=True)

    # ---- what must have come of it ----

    def newest(self) -> dict[str, Sent]:
        """By asset id, the event that its row must stand for. A key lies in one partition: the offset decides."""
        found: dict[str, Sent] = {}
        for one in self.sent:
            known = found.get(one.asset.id)
            if known is None or one.position.offset > known.position.offset:
                found[one.asset.id] = one
        return found


def png(number: int, size: int = 8) -> bytes:
    """A small picture like no other."""
    pixels = random.Random(number).randbytes(size * size * 3)
    sink = io.BytesIO()
    Image.frombytes("RGB", (size, size), pixels).save(sink, "PNG")
    return sink.getvalue()


def check(stream: Stream) -> None:
    """That nothing is missing and nothing twice: by the audit, and by the truth that the stream knows.

    1. the audit balances, over as many events as were acknowledged, none in flight
    2. exactly the bad ones are dead letters; one that a newer good event of its asset overtook may be
    3. every asset's row stands for its newest good event, and its entries say what that said
    """
    settings = stream.settings
    report = run_audit(settings)
    assert report.balanced, report
    assert (report.produced, report.in_flight) == (stream.produced, 0), report
    newest = stream.newest()
    overtaken = {
        position
        for position, asset in stream.bad.items()
        if asset.id in newest and newest[asset.id].position.offset > position.offset
    }
    dead = {letter.origin: letter.detail for letter in scan_dead_letters(settings.kafka)}
    assert not dead.keys() - stream.bad.keys(), {one: dead[one] for one in dead.keys() - stream.bad.keys()}
    assert not stream.bad.keys() - overtaken - dead.keys()
    store = MilvusStore(settings.store)
    try:
        rows = dict(_batched(store.asset_rows, list(newest)))
        assert {id_: row.origin for id_, row in rows.items()} == {id_: one.position for id_, one in newest.items()}
        said = _said(store, set(newest))
    finally:
        store.close()
    for asset_id, one in newest.items():
        assert rows[asset_id].outcome is (Outcome.DELETED if one.deletes else Outcome.INDEXED), one
        assert said.get(asset_id, "") == one.text, one


def _said(store: MilvusStore, asset_ids: set[str]) -> dict[str, str]:
    """The passages of each asset, in order, as one text; pictures say nothing."""
    parts: dict[str, list[Entry]] = {}
    for page in store.scan_entries(Collection.TEXT):
        for entry in page:
            if entry.asset.id in asset_ids:
                parts.setdefault(entry.asset.id, []).append(entry)
    return {
        asset_id: " ".join(entry.text for entry in sorted(found, key=lambda entry: entry.part))
        for asset_id, found in parts.items()
    }


def _batched(read: Callable[[Sequence[str]], Any], ids: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for start in range(0, len(ids), 1_000):
        yield from read(ids[start : start + 1_000]).items()
