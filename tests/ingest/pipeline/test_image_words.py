"""The words of images, from inline media to the store, on local pools."""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from penstock.assembly import open_assets
from penstock.config import Settings, load_settings
from penstock.encoders.base import Fingerprint, ImageToText
from penstock.encoders.null import NullEncoder
from penstock.encoders.profiles import JOINT_IMAGE, OCR, NullSpec, OcrSpec, load_profile
from penstock.encoders.weights import RandomWeights
from penstock.errors import WorkerBrokenError, WorkerLostError
from penstock.ingest.delivery import Batch, Delivery
from penstock.ingest.executor.media_decoders import image_text_roles
from penstock.ingest.executor.pool import Call, LocalPool, Ref
from penstock.ingest.executor.proxies import Pools
from penstock.ingest.executor.workers import EncodeWorker, ImageTextWorker, MediaWorker
from penstock.ingest.pipeline.driver import Pipeline
from penstock.media.decode import Decoder
from penstock.media.fetch import Fetcher
from penstock.observability import metrics
from penstock.records import (
    Access,
    AssetRef,
    Assignment,
    Channel,
    Collection,
    EncoderInput,
    Entry,
    Event,
    Field,
    ImageText,
    Inline,
    Modality,
    Outcome,
    Position,
    Record,
    UInt8,
)
from penstock.retries import Backoff, Breaker
from penstock.store.base import EntryQuery
from penstock.store.memory import MemoryStore
from penstock.store.spec import index_spec
from tests.counted import counted
from tests.encoders.ocr.test_pp_ocr import reader
from tests.ingest.doubles import RecordingSink, started_writer

T = TypeVar("T")

TOPIC = "media.image"
FINGERPRINT = Fingerprint("test", "0" * 16, "0" * 16)


def picture(text: str, color: str = "white", side: int = 400) -> bytes:
    image = Image.new("RGB", (side, side // 2), color)
    ImageDraw.Draw(image).text((20, 40), text, font=ImageFont.load_default(28), fill="black")
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def delivery(offset: int, data: bytes) -> Delivery:
    position = Position(TOPIC, 0, offset)
    event = Event(AssetRef("default", TOPIC, f"{offset}"), position, position, offset, Modality.IMAGE, Inline(data))
    return Delivery(Record(position, b"k", data, (), timestamp_ms=offset), Assignment(TOPIC, 0, 1), event)


class ColorReader:
    """Reads an image as its colour; fails on green, and dies of red."""

    fingerprint = FINGERPRINT
    max_images = 4

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def texts(self, images: Sequence[UInt8]) -> tuple[ImageText, ...]:
        self.shapes += [image.shape for image in images]
        return tuple(self._text(image) for image in images)

    def _text(self, image: UInt8) -> ImageText:
        color = tuple(int(value) for value in image[-1, -1])
        if color == (255, 0, 0):
            raise WorkerBrokenError("died of red")
        return ImageText("", "cannot read green") if color == (0, 128, 0) else ImageText(f"color {color[2]}")


class SickReader(ColorReader):
    """Dies of any image for a while."""

    def __init__(self, deaths: int) -> None:
        super().__init__()
        self._deaths = deaths

    def _text(self, image: UInt8) -> ImageText:
        self._deaths -= 1
        if self._deaths >= 0:
            raise WorkerBrokenError("died")
        return super()._text(image)


class FullNode(LocalPool):
    """A pool on a node without memory: some calls lose their worker before it does anything.

    Args:
        model: reads images.
        is_killed: whether a call loses its worker, by the number of the call and the images that it may read.
    """

    def __init__(self, model: ImageToText, is_killed: Callable[[int, Sequence[UInt8]], bool]) -> None:
        super().__init__(lambda _: ImageTextWorker(model))
        self._is_killed = is_killed
        self.calls = 0

    def run(self, method: Callable[..., T], *args: object, returns: int = 1) -> Call[T]:
        batch = self.fetch(cast("Ref[EncoderInput]", args[0]))
        start, max_images = cast("tuple[int, int | None]", args[1:])
        self.calls += 1
        if self._is_killed(self.calls, batch.images[start : start + (max_images or len(batch))]):
            raise WorkerLostError("its call was running when the node was full", starved=True)
        return super().run(method, *args, returns=returns)


def index(
    tmp_path: Path,
    model: ImageToText,
    images: Sequence[bytes],
    store: MemoryStore | None = None,
    pool: LocalPool | None = None,
) -> tuple[list[Outcome], list[Entry]]:
    """Sends images through a whole local pipeline; returns the outcomes and the entries in the order of the images."""
    settings = load_settings(profile="null", data_dir=tmp_path)
    store = store or MemoryStore()
    profile = replace(load_profile(settings.profile), ocr=OcrSpec("test", RandomWeights(0), RandomWeights(0)))
    assert isinstance(profile.joint, NullSpec)
    encoder = NullEncoder(JOINT_IMAGE, profile.joint, FINGERPRINT, cache_size=0)
    store.ensure(index_spec(profile, {JOINT_IMAGE: FINGERPRINT}, settings.store))
    media = media_worker(settings)
    pools = Pools.over(
        fetch=LocalPool(lambda _: media),
        decode=LocalPool(lambda _: media),
        long_media=LocalPool(lambda _: media),
        encoders={
            JOINT_IMAGE: LocalPool(lambda _: EncodeWorker(encoder)),
            OCR: pool or LocalPool(lambda _: ImageTextWorker(model)),
        },
        writers=LocalPool(lambda _: started_writer(store)),
    )
    backoff = Backoff(0.001, 0.001, random.Random(0))
    pipeline = Pipeline(
        lane="test",
        pools=pools,
        roles={Modality.IMAGE: (JOINT_IMAGE, OCR)},
        dead_letters=RecordingSink(),
        backoff=backoff,
        breaker=Breaker("store", clock=lambda: 0.0, backoff=backoff),
        sleep=threading.Event().wait,
        known_good={},
    )
    deliveries = tuple(delivery(offset, data) for offset, data in enumerate(images))
    report = pipeline.run(Batch(1, TOPIC, deliveries))
    by_offset = {settlement.delivery.record.position.offset: settlement for settlement in report.settlements}
    outcomes = [by_offset[offset].outcome for offset in range(len(images))]  # type: ignore[union-attr]
    ids = [key.id for keys in store.scan_entry_keys(Collection.IMAGE) for key in keys]
    entries = {entry.asset.key: entry for entry in store.get(Collection.IMAGE, ids)}
    return outcomes, [entries[f"{offset}"] for offset in range(len(images)) if f"{offset}" in entries]


def media_worker(settings: Settings) -> MediaWorker:
    profile = load_profile(settings.profile)
    decoder = Decoder(
        text=settings.text,
        image=settings.image,
        image_spec=profile.image,
        tokenizer=None,  # type: ignore[arg-type]  # there are no texts
        joint_text_encoder=profile.joint_text_encoder,
        image_texts={OCR: 300},
    )
    return MediaWorker(Fetcher(settings.fetch, open_assets(settings), topic_of={Modality.IMAGE: TOPIC}), decoder)


def test_words_of_an_image_are_the_text_of_its_entry(tmp_path: Path) -> None:
    model = ColorReader()
    outcomes, entries = index(tmp_path, model, [picture("a", "blue"), picture("b", "white", 200)])
    assert outcomes == [Outcome.INDEXED] * 2
    assert [entry.text for entry in entries] == ["color 255", "color 255"]
    assert model.shapes == [(150, 300, 3), (100, 200, 3)]
    assert all(entry.vectors for entry in entries)


def test_an_image_that_cannot_be_read_is_indexed_without_words(tmp_path: Path) -> None:
    before = counted(metrics.IMAGE_TEXTS, role="ocr", result="failed")
    outcomes, entries = index(tmp_path, ColorReader(), [picture("a", "green"), picture("b", "blue")])
    assert outcomes == [Outcome.INDEXED] * 2
    assert [entry.text for entry in entries] == ["", "color 255"]
    assert counted(metrics.IMAGE_TEXTS, role="ocr", result="failed") == before + 1


def test_an_image_that_kills_its_reader_is_indexed_without_words(tmp_path: Path) -> None:
    images = [picture("a", "blue"), picture("b", "red"), picture("c", "blue", 300)]
    outcomes, entries = index(tmp_path, ColorReader(), images)
    assert outcomes == [Outcome.INDEXED] * 3
    assert [entry.text for entry in entries] == ["color 255", "", "color 255"]


def test_words_survive_a_node_that_has_no_memory_for_a_while(tmp_path: Path) -> None:
    images = [picture("a", "blue"), picture("b", "blue")]
    pool = FullNode(ColorReader(), lambda calls, _: calls <= 20)
    outcomes, entries = index(tmp_path, ColorReader(), images, pool=pool)
    assert outcomes == [Outcome.INDEXED] * 2
    assert [entry.text for entry in entries] == ["color 255", "color 255"]
    assert pool.calls > 20


def test_an_image_that_alone_fills_the_memory_is_indexed_without_words(tmp_path: Path) -> None:
    images = [picture("a", "blue"), picture("b", "yellow"), picture("c", "blue")]
    pool = FullNode(ColorReader(), lambda _, read: any(image[-1, -1, 2] == 0 for image in read))
    outcomes, entries = index(tmp_path, ColorReader(), images, pool=pool)
    assert outcomes == [Outcome.INDEXED] * 3
    assert [entry.text for entry in entries] == ["color 255", "", "color 255"]


def test_a_reader_that_dies_of_every_image_takes_no_words(tmp_path: Path) -> None:
    model = SickReader(deaths=12)
    outcomes, entries = index(tmp_path, model, [picture("a", "blue"), picture("b", "blue")])
    assert outcomes == [Outcome.INDEXED] * 2
    assert [entry.text for entry in entries] == ["color 255", "color 255"]


def test_images_are_read_by_real_weights_and_found_by_their_words(tmp_path: Path) -> None:
    store = MemoryStore()
    images = [picture("Closed on Monday"), picture("", "white"), picture("Ticket 4711")]
    _, entries = index(tmp_path, reader(), images, store)
    assert [entry.text for entry in entries] == ["Closed on Monday", "", "Ticket 4711"]
    words = Channel(Collection.IMAGE, Field.LEXICAL)
    for question, key in (("closed mondays", "0"), ("the ticket 4711", "2")):
        hits = store.search(EntryQuery(words, question, Access.to_all_of("default"), None, 10, 1.0))
        assert [hit.entry.asset.key for hit in hits] == [key]


def test_a_call_ends_after_its_time_and_the_next_one_continues() -> None:
    now = iter(np.arange(0.0, 100.0, 0.6))
    worker = ImageTextWorker(ColorReader(), lambda: float(next(now)))
    images = tuple(np.full((4, 4, 3), value, dtype=np.uint8) for value in range(20))
    batch = EncoderInput(OCR, tuple(f"{value}" for value in range(20)), images=images)
    first, start = worker.texts(batch, 0, None)
    assert (len(first.texts), start) == (8, 8)
    second, start = worker.texts(batch, 19, 1)
    assert (second.start, [text.text for text in second.texts], start) == (19, ["color 19"], None)
    assert worker.texts(EncoderInput(OCR, ()), 0, None)[0].texts == ()


def test_reading_is_off_unless_it_is_enabled_and_the_profile_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "profile.toml"
    folder.write_text(
        (Path(__file__).parents[3] / "src/penstock/encoders/profiles/small.toml").read_text()
        + '[ocr]\nkind = "pp_ocr"\nmodel = "m"\ndetector = { folder = ".", file = "d.onnx" }\n'
        'recogniser = { folder = ".", file = "r.onnx" }\n'
    )
    profile = load_profile(str(folder))
    assert image_text_roles(load_settings(ocr={"enabled": True}), profile) == (OCR,)
    assert image_text_roles(load_settings(), profile) == ()
    assert image_text_roles(load_settings(ocr={"enabled": True}), load_profile("reference")) == ()
