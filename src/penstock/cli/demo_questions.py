"""The demo's sample questions, and what a right answer to each is. Pictures asked with are not among those streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from penstock.cli.demo_samples import Picture, concepts_by_id, sample_pictures
from penstock.records import Modality
from penstock.reference.texts import sample_texts

_UNSEEN_SEED = 999  # backgrounds that no streamed picture has


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        way: from what to what, for people.
        text: the question; of a picture, what it shows.
        picture: JPEG to search by, instead of the text.
        modality: what may be found.
        within: among how many hits a right one must be.
        is_right: whether an asset's key is a right answer.
    """

    way: str
    text: str
    picture: bytes | None
    modality: Modality
    within: int
    is_right: Callable[[str], bool]


def sample_questions(pictures: int, texts: int) -> Iterator[Question]:
    """The questions that the streamed media can answer: in each of the four ways."""
    streamed = {picture.concept.id for picture in sample_pictures(pictures)}
    for text, concept_ids in _TEXT_TO_PICTURE.items():
        if streamed.intersection(concept_ids):
            yield Question("text → image", text, None, Modality.IMAGE, 5, _shows(*concept_ids))
    keys = {text.key for text in sample_texts()[:texts]}
    for key, text in _TEXT_TO_TEXT.items():
        if key in keys:
            yield Question("text → text", text, None, Modality.TEXT, 3, _is(key))
    for concept_id in _PICTURES_ASKED_WITH:
        if concept_id in streamed:
            yield Question("image → image", *_unseen(concept_id), Modality.IMAGE, 5, _shows(concept_id))
    for concept_id, key in _PICTURE_TO_TEXT.items():
        if key in keys:
            yield Question("image → text", *_unseen(concept_id), Modality.TEXT, 5, _is(key))


def _unseen(concept_id: str) -> tuple[str, bytes]:
    """What a new picture shows, and its JPEG."""
    concept = concepts_by_id()[concept_id]
    return f"a new picture of: {concept.name}", Picture(concept, _UNSEEN_SEED).jpeg()


def _shows(*concept_ids: str) -> Callable[[str], bool]:
    return lambda key: key.rpartition("-")[0] in concept_ids


def _is(wanted: str) -> Callable[[str], bool]:
    return lambda key: key == wanted


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
_PICTURE_TO_TEXT = {"elephant": "elephant-trunk", "violin": "violin-wood", "giraffe": "giraffe-neck"}
