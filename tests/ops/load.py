"""A light load of all kinds: events of each modality, searches, and now and then an event that is rejected."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np

from penstock.broker.base import Message
from penstock.broker.producer import MessageProducer
from penstock.errors import PenstockError
from penstock.records import Modality
from penstock.samples.documents import sample_documents
from penstock.samples.images import compose, load_concepts
from tests.e2e.stack import eventually
from tests.media.media_files import write_audio, write_video
from tests.ops.house import House
from tools.reference_models.speech_synthesis import RATE_HZ, SpeechSynthesizer

_TIMED_MEDIA_EVERY = 60  # turns
_REJECTED_EVERY = 60
_WARM_SEARCHES = 20  # of the first ones, some compile or load something
_WARM_S = 300.0
_QUESTIONS = ("a ship in the harbour", "a dog", "the captain finds a crown", "something else")


@contextmanager
def flowing(house: House, folder: Path, *, turn_s: float = 1.0) -> Iterator[None]:
    """Produces and searches until its block ends, after a warm-up.

    Each turn has a text, every other one an image and a search, and one of 60 a corrupt image and, where they are
    ingested, a recording, a video and a document. Failures are not counted here: a fault is under way.
    """
    stop = threading.Event()
    ingested = house.settings.ingest.modalities
    recordings = timed_media(folder) if Modality.VIDEO in ingested else []
    recordings += [document()] if Modality.DOCUMENT in ingested else []
    threads = [
        threading.Thread(target=_every_turn, args=(stop, turn_s, _produces(house, recordings)), name="producer"),
        threading.Thread(target=_every_turn, args=(stop, turn_s, _searches(house)), name="searcher"),
    ]
    for thread in threads:
        thread.start()
    try:
        searches = 'penstock_query_seconds_count{status="200"}'
        eventually(lambda: house.metric(searches) > _WARM_SEARCHES and settled(house), "it is warm", _WARM_S)
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _every_turn(stop: threading.Event, turn_s: float, act: Callable[[int], None]) -> None:
    for turn in itertools.count():
        if stop.wait(turn_s):
            break
        act(turn)


def _produces(house: House, recordings: Sequence[Message]) -> Callable[[int], None]:
    producer = MessageProducer(house.settings.kafka)
    pictures = images()

    def act(turn: int) -> None:
        messages = [Message("media.text", f"t{turn % 500}".encode(), f"Ship {turn} enters the harbour.".encode())]
        if turn % 2:
            messages.append(next(pictures))
        if turn % _TIMED_MEDIA_EVERY == 10:
            messages += recordings
        if turn % _REJECTED_EVERY == 20:
            messages.append(Message("media.image", b"bad", b"no image"))
        for message in messages:
            producer.send(message)  # an outage of Kafka fails the future, which is not read

    return act


def _searches(house: House) -> Callable[[int], None]:
    client = httpx.Client(base_url=house.query_url, timeout=10)
    modalities = [modality.value for modality in house.settings.ingest.modalities]

    def act(turn: int) -> None:
        if turn % 2:
            with suppress(httpx.HTTPError):  # no query plane at the moment
                question = f"{_QUESTIONS[turn // 2 % len(_QUESTIONS)]} {turn % 40}"
                client.post("/v1/search", json={"text": question, "modalities": modalities})

    return act


def send(house: House, messages: Sequence[Message]) -> None:
    """Produces messages; returns once all are acknowledged."""
    producer = MessageProducer(house.settings.kafka)
    try:
        for future in [producer.send(message) for message in messages]:
            future.result(60)
    finally:
        producer.close(10)


def settled(house: House) -> bool:
    """Whether all events are committed, as far as Kafka says it now."""
    try:
        return house.lag() < 20  # the load continues
    except PenstockError:
        return False


def images() -> Iterator[Message]:
    """Yields images of the samples' concepts, each unlike those before."""
    concepts = load_concepts()[:8]
    for number in itertools.count():
        concept = concepts[number % len(concepts)]
        encoded = io.BytesIO()
        compose(concept, number, 128).convert("RGB").save(encoded, "PNG")
        yield Message("media.image", f"{concept.id}-{number % 50}".encode(), encoded.getvalue())


def document() -> Message:
    """Returns a PDF of three pages."""
    sample = sample_documents()[0]
    return Message("media.document", sample.key.encode(), sample.file.read_bytes())


def timed_media(folder: Path) -> list[Message]:
    """Returns a recording of speech, and a video with it."""
    speech = np.pad(SpeechSynthesizer().synthesize("the captain finds a silver crown").samples, RATE_HZ)
    speech = np.pad(speech, (0, -len(speech) % (RATE_HZ // 10)))  # whole video frames
    audio = write_audio(folder / "talk.wav", speech)
    scene = compose(load_concepts()[0], 3, 128).convert("RGB")
    video = write_video(folder / "video.mp4", [(len(speech) / RATE_HZ, scene)], audio=speech)
    topics = {audio: "media.audio", video: "media.video"}
    return [Message(topic, file.name.encode(), file.read_bytes()) for file, topic in topics.items()]
