"""A stream of events whose expected outcomes are known; `check` compares them with the store."""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from PIL import Image

from penstock.broker.base import Message
from penstock.broker.producer import MessageProducer
from penstock.config import Settings
from penstock.records import AssetRef, Modality, Position
from penstock.samples.timed_media import SampleTimedMedia, sample_timed_media

# The share of each modality, and its number of assets: fewer than events, so that most get several versions.
_OFTEN = {Modality.TEXT: 0.47, Modality.IMAGE: 0.47, Modality.AUDIO: 0.05, Modality.VIDEO: 0.01}
_ASSETS = {Modality.TEXT: 150, Modality.IMAGE: 150, Modality.AUDIO: 15, Modality.VIDEO: 3}
_TOMBSTONES, _BAD = 0.06, 0.05  # shares of events
_ACK_S = 60.0


@dataclass(frozen=True)
class Sent:
    """One event and what it means for its asset."""

    asset: AssetRef
    position: Position
    text: str  # its passages, joined
    recording: SampleTimedMedia | None = None  # of audio or video
    deletes: bool = False


@dataclass(frozen=True)
class Draft:
    """An event before it has a position. `bad` never becomes an entry."""

    message: Message
    text: str = ""
    recording: SampleTimedMedia | None = None
    bad: bool = False


@dataclass
class Stream:
    """Sends events of a few assets over all topics: new versions, longer and shorter ones, tombstones, bad ones.

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
        """Sends events during its block, without a pause; at the end all of them are acknowledged."""
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
        producer = MessageProducer(self.settings.kafka)
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
        self.sent.append(Sent(asset, position, draft.text, draft.recording, deletes=draft.message.value is None))

    # ---- what is sent ----

    def _next(self) -> Draft:
        self._number += 1
        dice, makers = (
            self._rng.random(),
            {
                Modality.TEXT: self.text,
                Modality.IMAGE: self.image,
                Modality.AUDIO: self.clip,
                Modality.VIDEO: self.video,
            },
        )
        modalities = self.settings.ingest.modalities
        modality = self._rng.choices(modalities, [_OFTEN[modality] for modality in modalities])[0]
        key = f"asset-{self._rng.randrange(_ASSETS[modality])}"
        if dice < _BAD:
            videos = [self.cut_off] if Modality.VIDEO in modalities else []
            return self._rng.choice([self.corrupt, self.wrong_topic, self.malformed, *videos])(key)
        if dice < _BAD + _TOMBSTONES:
            return Draft(Message(self.settings.kafka.topic_of(modality), key.encode(), None))
        return makers[modality](key)

    def text(self, key: str, *, also: str = "") -> Draft:
        """One to five passages."""
        self._number += 1
        sentences = [
            f"Sentence {index} of version {self._number} of {key} mentions the river, the turbine and the gate."
            for index in range(self._rng.randrange(1, 6))
        ]
        words = " ".join([*sentences, also]).strip()
        return Draft(Message(self.settings.kafka.text_topic, key.encode(), words.encode()), text=words)

    def image(self, key: str) -> Draft:
        self._number += 1
        return Draft(Message(self.settings.kafka.image_topic, key.encode(), png(self._number)))

    def clip(self, key: str) -> Draft:
        """A spoken sentence."""
        return self._recording(key, Modality.AUDIO)

    def video(self, key: str) -> Draft:
        """Half a minute, which takes several segments."""
        return self._recording(key, Modality.VIDEO)

    def _recording(self, key: str, modality: Modality) -> Draft:
        chosen = self._rng.choice([sample for sample in sample_timed_media() if sample.modality is modality])
        topic = self.settings.kafka.topic_of(modality)
        return Draft(Message(topic, key.encode(), chosen.file.read_bytes()), recording=chosen)

    def cut_off(self, key: str) -> Draft:
        """The first half of a video, which lacks its table of contents."""
        whole = self.video(key).message
        assert whole.value is not None
        return Draft(Message(whole.topic, whole.key, whole.value[: len(whole.value) // 2]), bad=True)

    def corrupt(self, key: str) -> Draft:
        """Half an image."""
        data = png(self._number, size=64)
        return Draft(Message(self.settings.kafka.image_topic, key.encode(), data[: len(data) // 2]), bad=True)

    def large(self, key: str) -> Draft:
        """An image of more pixels than the settings of the test allow."""
        return Draft(Message(self.settings.kafka.image_topic, key.encode(), png(self._number, size=128)), bad=True)

    def wrong_topic(self, key: str) -> Draft:
        return Draft(Message(self.settings.kafka.text_topic, key.encode(), png(self._number)), bad=True)

    def malformed(self, key: str) -> Draft:
        """A CloudEvent without its id."""
        headers = (("ce_specversion", b"1.0"), ("ce_type", b"test"), ("ce_source", b"/test"))
        return Draft(Message(self.settings.kafka.text_topic, key.encode(), b"words", headers), bad=True)

    # ---- the expected state ----

    def newest(self) -> dict[str, Sent]:
        """Returns, by asset id, the event that its row must belong to.

        A key lies in one partition: the offset decides.
        """
        newest: dict[str, Sent] = {}
        for sent in self.sent:
            known = newest.get(sent.asset.id)
            if known is None or sent.position.offset > known.position.offset:
                newest[sent.asset.id] = sent
        return newest


def png(number: int, size: int = 8) -> bytes:
    """Makes a small image whose pixels depend on the number."""
    pixels = random.Random(number).randbytes(size * size * 3)
    sink = io.BytesIO()
    Image.frombytes("RGB", (size, size), pixels).save(sink, "PNG")
    return sink.getvalue()
