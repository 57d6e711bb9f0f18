"""The demo's sample questions, and what a right answer to each is. Pictures asked with are not among those streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.cli.demo.samples import SampleImage, concepts_by_id, sample_images
from penstock.records import Modality
from penstock.samples.texts import sample_texts
from penstock.samples.timed_media import SPOKEN_QUESTION, Annotation, sample_timed_media

_MOMENT_S = 1.0  # by which a moment may begin or end too early or too late
_UNSEEN_SEED = 999  # backgrounds that no streamed picture has


@dataclass(frozen=True, slots=True)
class SampleQuery:
    """One question.

    Attributes:
        way: from what to what, for people.
        text: the question; of a picture, what it shows.
        picture: JPEG to search by, instead of the text.
        modality: what may be found.
        within: among how many hits a right one must be.
        is_right: whether a hit, as the API gives it, is a right answer.
        sound: a question by voice, instead of the text.
    """

    way: str
    text: str
    picture: bytes | None
    modality: Modality
    within: int
    is_right: Callable[[Mapping[str, Any]], bool]
    sound: bytes | None = None


def sample_queries(pictures: int, texts: int) -> Iterator[SampleQuery]:
    """The questions that the streamed media can answer, from each kind to each kind."""
    streamed = {picture.concept.id for picture in sample_images(pictures)}
    for text, concept_ids in _TEXT_TO_PICTURE.items():
        if streamed.intersection(concept_ids):
            yield SampleQuery("text → image", text, None, Modality.IMAGE, 5, _shows(*concept_ids))
    keys = {text.key for text in sample_texts()[:texts]}
    for key, text in _TEXT_TO_TEXT.items():
        if key in keys:
            yield SampleQuery("text → text", text, None, Modality.TEXT, 3, _is(key))
    for concept_id in _PICTURES_ASKED_WITH:
        if concept_id in streamed:
            yield SampleQuery("image → image", *_unseen(concept_id), Modality.IMAGE, 5, _shows(concept_id))
    for concept_id, key in _PICTURE_TO_TEXT.items():
        if key in keys:
            yield SampleQuery("image → text", *_unseen(concept_id), Modality.TEXT, 5, _is(key))
    yield from _about_recordings()


def _about_recordings() -> Iterator[SampleQuery]:
    """Scenes and sentences, each with the times at which they are in their recording."""
    by_key = {recording.key: recording for recording in sample_timed_media()}
    for text, (key, sentence) in _TEXT_TO_SPEECH.items():
        said = by_key[key].sentences[sentence]
        yield SampleQuery("text → speech", text, None, by_key[key].modality, 3, _at(key, said))
    for concept_id, (key, number) in _PICTURE_TO_SCENE.items():
        scene = by_key[key].scenes[number]
        yield SampleQuery("image → scene", *_unseen(concept_id), Modality.VIDEO, 3, _at(key, scene))
    said = by_key["note-anchor"].sentences[0]
    yield SampleQuery(
        "voice → speech",
        "(a spoken question)",
        None,
        Modality.AUDIO,
        3,
        _at("note-anchor", said),
        sound=SPOKEN_QUESTION.read_bytes(),
    )


def _unseen(concept_id: str) -> tuple[str, bytes]:
    """What a new picture shows, and its JPEG."""
    concept = concepts_by_id()[concept_id]
    return f"a new picture of: {concept.name}", SampleImage(concept, _UNSEEN_SEED).jpeg()


def _shows(*concept_ids: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda hit: hit["key"].rpartition("-")[0] in concept_ids


def _is(wanted: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda hit: bool(hit["key"] == wanted)


def _at(wanted: str, happening: Annotation) -> Callable[[Mapping[str, Any]], bool]:
    """The moment of a recording, to within a second at both ends."""

    def is_right(hit: Mapping[str, Any]) -> bool:
        moment = hit.get("moment")
        return (
            hit["key"] == wanted
            and moment is not None
            and abs(moment["start_ms"] / 1000 - happening.start_s) <= _MOMENT_S
            and abs(moment["end_ms"] / 1000 - happening.end_s) <= _MOMENT_S
        )

    return is_right


# Chosen so that the reference models can answer them: they show that everything works together, and measure nothing.
# How good the models are, their card says.
_TEXT_TO_PICTURE = {
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
_PICTURES_ASKED_WITH = ("bicycle", "banana", "octopus")
# Question, and which sentence of which recording answers it.
_TEXT_TO_SPEECH = {
    "who repairs the hammer": ("workshop", 0),
    "a violin at the school": ("workshop", 3),
    "a telescope on the mountain": ("note-telescope", 0),
}
_PICTURE_TO_SCENE = {"octopus": ("animals", 2), "trumpet": ("market", 2)}
_PICTURE_TO_TEXT = {"elephant": "elephant-trunk", "violin": "violin-wood", "giraffe": "giraffe-neck"}
