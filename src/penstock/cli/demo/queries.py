"""The demo's sample queries and their right answers. Query images are not among the streamed ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from penstock.cli.demo.samples import PHOTOGRAPH, SampleImage, concepts_by_id, sample_images
from penstock.client import HitJson, JsonValue
from penstock.records import Modality
from penstock.samples.documents import sample_documents
from penstock.samples.packaged_media import installed_media
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
        modality: the modality to search; None: all.
        within: the number of hits among which a right one must be.
        is_right: returns whether a hit, as the API returns it, is a right answer; None: nothing in the index answers
            it, and the answer has to say so.
        audio: a spoken query, instead of the text.
        where: a condition on the entries.
    """

    direction: str
    text: str
    image: bytes | None
    modality: Modality | None
    within: int
    is_right: HitCheck | None
    audio: bytes | None = None
    where: Mapping[str, JsonValue] | None = None


@dataclass(frozen=True, slots=True)
class Abilities:
    """The abilities of the running profile, by which sample queries are chosen.

    Attributes:
        photographs: its image encoder knows photographs; those of other packages are among the media.
        multilingual: its sentence encoder knows many languages.
    """

    photographs: bool
    multilingual: bool


def sample_queries(images: int, texts: int, abilities: Abilities) -> Iterator[SampleQuery]:
    """Yields those that the first `images` images and `texts` texts, the documents and the timed media can answer."""
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
    if abilities.photographs:
        yield from _photograph_queries(multilingual=abilities.multilingual)
    if abilities.multilingual:
        for (language, text), key in _FOREIGN_TEXT_TO_TEXT.items():
            if key in keys:
                yield SampleQuery(f"text in {language} → text", text, None, Modality.TEXT, 3, _is(key))
    yield from _document_queries()
    yield from _timed_media_queries()
    yield SampleQuery("text → nothing", _UNANSWERABLE, None, Modality.TEXT, 3, None)


def _photograph_queries(*, multilingual: bool) -> Iterator[SampleQuery]:
    """Yields queries for photographs that other packages ship, as far as they are installed."""
    installed = {media.key for media, _ in installed_media()}
    for text, key in _TEXT_TO_PHOTOGRAPH.items():
        if key in installed:
            yield SampleQuery("text → photograph", text, None, Modality.IMAGE, 3, _is(key), where=_IS_PHOTOGRAPH)
    for (language, text), key in _FOREIGN_TEXT_TO_PHOTOGRAPH.items():
        if multilingual and key in installed:
            direction = f"text in {language} → photograph"
            yield SampleQuery(direction, text, None, Modality.IMAGE, 3, _is(key), where=_IS_PHOTOGRAPH)


def _document_queries() -> Iterator[SampleQuery]:
    """Yields queries for sentences and images of documents, whose answers are pages."""
    for text, (key, page) in _TEXT_TO_PAGE.items():
        yield SampleQuery("text → page", text, None, Modality.DOCUMENT, 3, _on_page(key, page))
    for sample in sample_documents():
        for page, concept_id in sample.figures.items():
            direction = "image → page"
            yield SampleQuery(direction, *_unseen(concept_id), Modality.DOCUMENT, 3, _on_page(sample.key, page))


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


def _on_page(key: str, page: int) -> HitCheck:
    """Returns a check for a page of a document, numbered from 1."""
    return lambda hit: hit["key"] == key and hit.get("page") == page


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


_IS_PHOTOGRAPH = {f"attributes.{name}": value for name, value in PHOTOGRAPH.items()}
# Photographs that packages ship, in words of everyday.
_TEXT_TO_PHOTOGRAPH = {
    "a cat": "photo-cat",
    "a cup of coffee": "photo-coffee",
    "a rocket on its launch pad": "photo-rocket",
    "a flower in a garden": "photo-flower",
}
_FOREIGN_TEXT_TO_PHOTOGRAPH = {
    ("German", "eine Tasse Kaffee"): "photo-coffee",
    ("Chinese", "一只猫"): "photo-cat",
}
_FOREIGN_TEXT_TO_TEXT = {
    ("German", "Wie weit ist das Gewitter entfernt?"): "lightning-distance",
    ("Chinese", "怎样让面包皮变脆"): "bread-crust",
}
_UNANSWERABLE = "how do I renew my passport"
# Chosen so that the models of `reference` and of `shelf` can answer them: they show that all parts work together, and
# measure nothing. docs/measured-retrieval.md and the cards of the models report their quality.
_TEXT_TO_IMAGE = {
    "a musical instrument with strings": ("guitar", "banjo", "violin"),
    "a guitar": ("guitar",),
    "an elephant": ("elephant",),
}
_TEXT_TO_TEXT = {
    "lightning-distance": "how far away is the thunderstorm",
    "bread-crust": "how do I get a crispy crust on bread",
    "honeybee-dance": "how bees tell each other where flowers are",
}
_QUERY_IMAGES = ("bicycle", "giraffe", "elephant")
# Query, and the document and the page that answers it.
_TEXT_TO_PAGE = {
    "when is a brake pad worn out": ("bicycle-handbook", 3),
    "how deep was the well": ("garden-minutes", 1),
    "how tall do sunflowers grow": ("seed-list", 2),
}
# Query, and the asset and the number of the sentence that answers it.
_TEXT_TO_SPEECH = {
    "who repairs the hammer": ("workshop", 0),
    "a castle behind a volcano": ("note-castle", 0),
    "a telescope on the mountain": ("note-telescope", 0),
}
_IMAGE_TO_SCENE = {"violin": ("workshop", 3), "bicycle": ("workshop", 1)}
_IMAGE_TO_TEXT = {"elephant": "elephant-trunk", "violin": "violin-wood", "giraffe": "giraffe-neck"}
