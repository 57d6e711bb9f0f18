"""The demo's media: images composed on this machine, texts, documents and timed media of Penstock, and media of other
packages.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from penstock.broker.wire import encode_event
from penstock.config import Settings
from penstock.produce.items import OutgoingMessage
from penstock.records import Inline, Modality
from penstock.samples.documents import sample_documents
from penstock.samples.images import Concept, compose, load_concepts
from penstock.samples.packaged_media import installed_media
from penstock.samples.texts import sample_texts
from penstock.samples.timed_media import sample_timed_media

SOURCE = "penstock/demo"
# The attribute by which the demo's queries for photographs distinguish them from renderings.
PHOTOGRAPH = {"kind": "photograph"}
_IMAGE_PX = 256
_IMAGES_PER_TEXT = 5


@dataclass(frozen=True, slots=True)
class SampleImage:
    """A sample image: the concept that it shows, and the seed of its background.

    The file name names the concept for the user. Search does not read it: images are found by their pixels.
    """

    concept: Concept
    seed: int

    @property
    def key(self) -> str:
        """The Kafka key, which is also the name of the file without its suffix."""
        return f"{self.concept.id}-{self.seed}"

    def jpeg(self) -> bytes:
        """Returns the image as JPEG, with the same bytes each time."""
        sink = io.BytesIO()
        compose(self.concept, self.seed, _IMAGE_PX).save(sink, "JPEG", quality=88)
        return sink.getvalue()


def sample_images(count: int) -> tuple[SampleImage, ...]:
    """Returns the first `count` images: every concept once, then every concept on another background, and so on."""
    concepts = load_concepts()
    return tuple(SampleImage(concepts[number % len(concepts)], 1 + number // len(concepts)) for number in range(count))


def concepts_by_id() -> Mapping[str, Concept]:
    """Returns every concept by its id."""
    return {concept.id: concept for concept in load_concepts()}


def sample_events(settings: Settings, images: int, texts: int, *, packaged: bool) -> Iterator[OutgoingMessage]:
    """Yields videos, audio clips and documents first, as they take longest, then images with a text after every few.

    Args:
        settings: names the topics, the tenant and the data folder.
        images: number of composed images.
        texts: maximum number of texts.
        packaged: whether photographs and recordings of other packages, where installed, are among the media.

    Images are also stored in the folder `images` of the data folder, where the user can view them. The same media have
    the same keys, so a second run replaces each asset by itself.
    """
    yield from _timed_media(settings)
    yield from _documents(settings)
    if packaged:
        yield from _packaged_media(settings)
    pending_texts = iter(_texts(settings, texts))
    for number, image in enumerate(sample_images(images), start=1):
        yield _image_event(settings, image, number)
        if number % _IMAGES_PER_TEXT == 0:
            yield from islice(pending_texts, 1)
    yield from pending_texts


def _timed_media(settings: Settings) -> Iterator[OutgoingMessage]:
    for sample in sample_timed_media():
        message = encode_event(
            topic=settings.kafka.topic_of(sample.modality, settings.tenant),
            key=sample.key,
            payload=Inline(sample.file.read_bytes()),
            source=SOURCE,
            content_type="video/mp4" if sample.modality is Modality.VIDEO else "audio/ogg",
            tenant=settings.tenant,
            title=sample.title,
            attributes={"path": str(sample.file)},
        )
        yield OutgoingMessage(sample.key, message)


def _documents(settings: Settings) -> Iterator[OutgoingMessage]:
    topic = settings.kafka.topic_of(Modality.DOCUMENT, settings.tenant)
    for sample in sample_documents():
        message = encode_event(
            topic=topic,
            key=sample.key,
            payload=Inline(sample.file.read_bytes()),
            source=SOURCE,
            content_type=sample.mime,
            tenant=settings.tenant,
            attributes={"path": str(sample.file)},
        )
        yield OutgoingMessage(sample.key, message)


def _packaged_media(settings: Settings) -> Iterator[OutgoingMessage]:
    for media, path in installed_media():
        photograph = PHOTOGRAPH if media.modality is Modality.IMAGE else {}
        message = encode_event(
            topic=settings.kafka.topic_of(media.modality, settings.tenant),
            key=media.key,
            payload=Inline(path.read_bytes()),
            source=SOURCE,
            content_type=media.mime,
            tenant=settings.tenant,
            title=media.title,
            attributes={"path": str(path), "licence": media.licence, "credit": media.credit, **photograph},
        )
        yield OutgoingMessage(media.key, message)


def _texts(settings: Settings, count: int) -> Iterator[OutgoingMessage]:
    topic = settings.kafka.topic_of(Modality.TEXT, settings.tenant)
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


def _image_event(settings: Settings, image: SampleImage, number: int) -> OutgoingMessage:
    file = settings.data_dir / "images" / f"{image.key}.jpg"
    message = encode_event(
        topic=settings.kafka.topic_of(Modality.IMAGE, settings.tenant),
        key=image.key,
        payload=Inline(_stored_jpeg(file, image)),
        source=SOURCE,
        content_type="image/jpeg",
        tenant=settings.tenant,
        title=f"sample image {number}",
        attributes={"path": str(file)},
    )
    return OutgoingMessage(image.key, message)


def _stored_jpeg(file: Path, image: SampleImage) -> bytes:
    """Returns the JPEG from its file; composes and stores it first if no earlier run did."""
    if file.is_file():
        return file.read_bytes()
    data = image.jpeg()
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_bytes(data)
    temporary.replace(file)
    return data
