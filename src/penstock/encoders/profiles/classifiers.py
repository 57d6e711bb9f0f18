"""The image classifiers that can fill the role `joint.image`, as data: their preprocessing and their files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from penstock.encoders.base import ImageSpec, Space
from penstock.encoders.profiles.spec import (
    ClassifierName,
    ConseSpec,
    NullSpec,
    PassageSpec,
    SentencePairSpec,
    SentenceSpec,
)
from penstock.encoders.weights import Source

FILES = Path(__file__).resolve().parent.parent / "shelf"


def _lite(size_px: int) -> ImageSpec:
    """Returns the preprocessing of EfficientNet-Lite.

    Squashed, since a crop loses what stands at the border: of photographs of 16:9 names found 7.0 % first, cropped
    6.0 %, and 19.7 % among ten either way.
    """
    return ImageSpec(size_px, "squash", "bicubic", 0, (127 / 255,) * 3, (128 / 255,) * 3)


IMAGES: Mapping[ClassifierName, ImageSpec] = {
    "efficientnet-lite0": _lite(224),
    "efficientnet-lite2": _lite(260),
}


def conse_spec(classifier: ClassifierName, source: Source, passage: PassageSpec, files: Path = FILES) -> ConseSpec:
    """Returns the spec of an image classifier in the space of a sentence encoder.

    Args:
        classifier: its name.
        source: of its weights.
        passage: the sentence encoder, or a pair.
        files: the folder of the concept head and of the vectors of names.
    """
    sentences = sentence_encoders(passage)
    names = tuple(names_file(files, sentence.space) for sentence in sentences)
    head = head_file(files, classifier)
    return ConseSpec(classifier, source, head, sentences, names, passage.space, IMAGES[classifier])


def sentence_encoders(passage: PassageSpec | NullSpec) -> tuple[SentenceSpec, ...]:
    """Returns the sentence encoders whose vectors make up a passage's vector: one, or the two of a pair.

    Raises:
        ValueError: there is a hash instead.
    """
    if isinstance(passage, NullSpec):
        raise ValueError(f"{passage.name} is no sentence encoder")
    return (passage.first, passage.second) if isinstance(passage, SentencePairSpec) else (passage,)


def head_file(folder: Path, classifier: ClassifierName) -> Path:
    """Returns the file of a classifier's concept head."""
    return folder / f"concepts-{classifier}.safetensors"


def names_file(folder: Path, space: Space) -> Path:
    """Returns the file with the vectors of names in the space of a sentence encoder."""
    return folder / f"names-{re.sub(r'[^a-z0-9]+', '-', space.id.lower()).strip('-')}.safetensors"
