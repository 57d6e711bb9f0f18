"""The demo's sample queries and their right answers. Query images are not among the streamed ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from penstock.cli.demo.samples import SampleImage, concepts_by_id, sample_images
from penstock.client import HitJson
from penstock.records import Modality
from penstock.samples.texts import sample_texts
from penstock.samples.timed_media import SPOKEN_QUESTION, Annotation, sample_timed_media

_MOMENT_TOLERANCE_S = 1.0  # by which the start or the end of a moment may differ from the annotation
_UNSEEN_SEED = 999  # a background that no streamed image has

HitCheck: TypeAlias = Callable[[HitJson], bool]


@dataclass(frozen=True, slots=True)
class SampleQuery:
    """One sample query.

    Attributes:
        direction: the kinds of query and result, as the demo prints them: "text → image".
        text: the query; for an image, a description of it.
        image: a JPEG to search by, instead of the text.
        modality: the modality to search.
        within: the number of hits among which a right one must be.
        is_right: returns whether a hit, as the API returns it, is a right answer.
        audio: a spoken query, instead of the text.
    """

    direction: str
    text: str
    image: bytes | None
    modality: Modality
    within: int
    is_right: HitCheck
    audio: bytes | None = None


def sample_queries(images: int, texts: int) -> Iterator[SampleQuery]:
    """Yields the queries that the first `images` images, the first `texts` texts and the timed media can answer."""
    streamed = {image.concept.id for image in sample_images(images)}
    for text, concept_ids in _TEXT_TO_IMAGE.items():
        if streamed.intersection(concept_ids):
            yield SampleQuery("text → image", text, None, Modality.IMAGE, 5, _shows(*concept_ids))
    keys = {text.key for text in sample_texts()[:texts]}
    for key, text in _TEXT_TO_TEXT.items():
        if key in keys:
            yield SampleQuery("text → text", text, None, Modality.TEXT, 3, _is(key))
    for concept_id in _QUERY_IMAGES:
        if concept_id in streamed:
            yield SampleQuery("image → image", *_unseen(concept_id), Modality.IMAGE, 5, _shows(concept_id))
    for concept_id, key in _IMAGE_TO_TEXT.items():
        if key in keys:
            yield SampleQuery("image → text", *_unseen(concept_id), Modality.TEXT, 5, _is(key))
    yield from _timed_media_queries()


def _timed_media_queries() -> Iterator[SampleQuery]:
    """Yields queries for sentences and scenes, whose answers are moments with known times."""
    by_key = {sample.key: sample for sample in sample_timed_media()}
    for text, (key, number) in _TEXT_TO_SPEECH.items():
        sentence = by_key[key].sentences[number]
        yield SampleQuery("text → speech", text, None, by_key[key].modality, 3, _at(key, sentence))
    for concept_id, (key, number) in _IMAGE_TO_SCENE.items():
        scene = by_key[key].scenes[number]
        yield SampleQuery("image → scene", *_unseen(concept_id), Modality.VIDEO, 3, _at(key, scene))
    sentence = by_key["note-anchor"].sentences[0]
    yield SampleQuery(
        "voice → speech",
        "(a spoken query)",
        None,
        Modality.AUDIO,
        3,
        _at("note-anchor", sentence),
        audio=SPOKEN_QUESTION.read_bytes(),
    )


def _unseen(concept_id: str) -> tuple[str, bytes]:
    """Returns the description and the JPEG of an image that is not streamed."""
    concept = concepts_by_id()[concept_id]
    return f"a new image of: {concept.name}", SampleImage(concept, _UNSEEN_SEED).jpeg()


def _shows(*concept_ids: str) -> HitCheck:
    return lambda hit: hit["key"].rpartition("-")[0] in concept_ids


def _is(key: str) -> HitCheck:
    return lambda hit: hit["key"] == key


def _at(key: str, annotation: Annotation) -> HitCheck:
    """Returns a check for a moment of an asset that starts and ends as annotated, to within a second."""

    def is_right(hit: HitJson) -> bool:
        moment = hit.get("moment")
        return (
            hit["key"] == key
            and moment is not None
            and abs(moment["start_ms"] / 1000 - annotation.start_s) <= _MOMENT_TOLERANCE_S
            and abs(moment["end_ms"] / 1000 - annotation.end_s) <= _MOMENT_TOLERANCE_S
        )

    return is_right


# Chosen so that the reference models can answer them: they show that all parts work together, and measure nothing. The
# quality of the models is stated in their model card.
_TEXT_TO_IMAGE = {
    "a ripe banana": ("banana",),
    "something on two wheels to ride to work": ("bicycle", "motorcycle", "motor-scooter", "kick-scooter"),
    "something to keep the rain off": ("umbrella", "umbrella-with-rain-drops", "closed-umbrella"),
    "a guitar": ("guitar",),
    "an elephant": ("elephant",),
}
_TEXT_TO_TEXT = {
    "lightning-distance": "how far away is the thunderstorm",
    "bread-crust": "how do I get a crispy crust on bread",
    "honeybee-dance": "how bees tell each other where flowers are",
}
_QUERY_IMAGES = ("bicycle", "banana", "octopus")
# Query, and the asset and the number of the sentence that answers it.
_TEXT_TO_SPEECH = {
    "who repairs the hammer": ("workshop", 0),
    "a violin at the school": ("workshop", 3),
    "a telescope on the mountain": ("note-telescope", 0),
}
_IMAGE_TO_SCENE = {"octopus": ("animals", 2), "trumpet": ("market", 2)}
_IMAGE_TO_TEXT = {"elephant": "elephant-trunk", "violin": "violin-wood", "giraffe": "giraffe-neck"}
