"""The demo's media: pictures composed on this machine; texts, films and sound clips that ship with the package."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.broker.wire import encode_event
from penstock.cli.sources import OutgoingMessage
from penstock.config import Settings
from penstock.records import Inline, Modality
from penstock.samples.images import Concept, compose, load_concepts
from penstock.samples.texts import sample_texts
from penstock.samples.timed_media import sample_timed_media

SOURCE = "penstock/demo"
_PICTURE_PX = 256
_PICTURES_TO_A_TEXT = 5


@dataclass(frozen=True, slots=True)
class SampleImage:
    """One sample picture: what it shows, and the number that makes its background.

    Its file name tells people what it shows. Search does not read it: pictures are found by their pixels.
    """

    concept: Concept
    seed: int

    @property
    def key(self) -> str:
        return f"{self.concept.id}-{self.seed}"

    def jpeg(self) -> bytes:
        """The same bytes each time."""
        sink = io.BytesIO()
        compose(self.concept, self.seed, _PICTURE_PX).save(sink, "JPEG", quality=88)
        return sink.getvalue()


def sample_images(count: int) -> tuple[SampleImage, ...]:
    """The first `count` pictures: each concept once, then each on another background, and so on."""
    concepts = load_concepts()
    return tuple(SampleImage(concepts[number % len(concepts)], 1 + number // len(concepts)) for number in range(count))


def concepts_by_id() -> Mapping[str, Concept]:
    return {concept.id: concept for concept in load_concepts()}


def sample_events(settings: Settings, pictures: int, texts: int) -> Iterator[OutgoingMessage]:
    """Films and clips first, as they take longest; then pictures with a text between them now and then.

    Pictures are kept in data_dir/pictures, to be looked at.

    The same media have the same keys, so that a second run replaces each by itself.
    """
    yield from _recordings(settings)
    waiting = iter(_texts(settings, texts))
    for number, picture in enumerate(sample_images(pictures), start=1):
        yield _picture(settings, picture, number)
        if number % _PICTURES_TO_A_TEXT == 0:
            yield from _next(waiting)
    yield from waiting


def _next(waiting: Iterator[OutgoingMessage]) -> Iterator[OutgoingMessage]:
    for item in waiting:
        yield item
        return


def _recordings(settings: Settings) -> Iterator[OutgoingMessage]:
    for recording in sample_timed_media():
        message = encode_event(
            topic=settings.kafka.topic_of(recording.modality),
            key=recording.key,
            payload=Inline(recording.file.read_bytes()),
            source=SOURCE,
            content_type="video/mp4" if recording.modality is Modality.VIDEO else "audio/ogg",
            tenant=settings.tenant,
            title=recording.title,
            attributes={"path": str(recording.file)},
        )
        yield OutgoingMessage(recording.key, message)


def _texts(settings: Settings, count: int) -> Iterator[OutgoingMessage]:
    topic = settings.kafka.topic_of(Modality.TEXT)
    for text in sample_texts()[:count]:
        message = encode_event(
            topic=topic,
            key=text.key,
            payload=Inline(text.text.encode()),
            source=SOURCE,
            content_type="text/plain",
            tenant=settings.tenant,
            title=text.title,
        )
        yield OutgoingMessage(text.key, message)


def _picture(settings: Settings, picture: SampleImage, number: int) -> OutgoingMessage:
    file = settings.data_dir / "pictures" / f"{picture.key}.jpg"
    message = encode_event(
        topic=settings.kafka.topic_of(Modality.IMAGE),
        key=picture.key,
        payload=Inline(_kept(file, picture)),
        source=SOURCE,
        content_type="image/jpeg",
        tenant=settings.tenant,
        title=f"sample picture {number}",
        attributes={"path": str(file)},
    )
    return OutgoingMessage(picture.key, message)


def _kept(file: Path, picture: SampleImage) -> bytes:
    """The picture's bytes, from its file if an earlier run made it."""
    if file.is_file():
        return file.read_bytes()
    data = picture.jpeg()
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_bytes(data)
    temporary.replace(file)
    return data
