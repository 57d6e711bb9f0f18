"""The encoder `joint.image` of the profile shelf: an image classifier's probabilities become vectors of texts (ConSE).

An image's vector is the mean of the text vectors of class names, weighted by the probabilities of the classes (Norouzi
et al. 2014). So texts and images share the space of the sentence encoder, whatever it is and whichever languages it
knows, and no image with a text was needed to train it. There are two sets of names: the classifier's own classes, and
the concepts of a linear head on its features. SHELF.md, in the folder of the shipped files, has the measurements.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

import numpy as np

from penstock.encoders.base import Fingerprint
from penstock.encoders.batch_runner import checked_pixels
from penstock.encoders.batched_encoder import EncoderOptions, ModelEncoder
from penstock.encoders.conse_files import ConceptHead, NameVectors, read_concept_head, read_name_vectors
from penstock.encoders.packages import file_sha256
from penstock.encoders.precision import Precision
from penstock.encoders.profiles import JOINT_IMAGE, ConseSpec
from penstock.encoders.weights import RandomWeights, locate, short_digest, weights_digest
from penstock.errors import ConfigError
from penstock.records import EncoderInput, Float32, UInt8

if TYPE_CHECKING:
    import torch

# Classes that share in a vector, and the temperature of their softmax. Names found among ten images of three sets, by
# classes alone, with 20 classes at 1: 14.9, 13.6, 16.5 %; 50 at 1.5: 16.2, 14.8, 19.7; 100 at 2: 18.1, 15.5, 21.2.
MAX_CLASSES = 100
CLASS_TEMPERATURE = 2.0
# The weight of the concepts' vector beside that of the classes. Names found first, at 0.35: 5.7, 6.6, 37.9 %; at 0.7:
# 7.0, 7.3, 48.0; at 1: 5.7, 6.9, 49.3.
CONCEPT_WEIGHT = 0.7


class Classifier(Protocol):
    """Converts pixels to the logits of the classes, and to the features of the concept head."""

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Converts uint8[n, size, size, 3] to float32[n, classes] and float32[n, features]."""


class ConseImageEncoder(ModelEncoder):
    """Encodes images by the names of what a classifier sees.

    Args:
        spec: the model, as the profile has it.
        fingerprint: recorded by collections.
        options: how it runs.

    Raises:
        ConfigError, UnavailableError: a file is not available, or was made for another model than the profile's.
    """

    def __init__(self, spec: ConseSpec, fingerprint: Fingerprint, options: EncoderOptions) -> None:
        import torch

        super().__init__(JOINT_IMAGE, spec, fingerprint, options)
        head, names = read_files(spec)
        self._device = torch.device(options.device)
        self._size_px = spec.image.size_px
        self._classifier = _load_classifier(spec, options)
        self._weight = torch.from_numpy(head.weight.matrix).to(self._device)
        self._bias = torch.from_numpy(head.bias).to(self._device)
        self._classes = [torch.from_numpy(part.classes.matrix).to(self._device) for part in names]
        self._concepts = [torch.from_numpy(part.concepts.matrix).to(self._device) for part in names]
        self._check_dim()

    def _check_input(self, batch: EncoderInput) -> None:
        checked_pixels(batch, self._size_px)

    def _forward(self, batch: EncoderInput, rows: Sequence[int]) -> Float32:
        return self._vectors(checked_pixels(batch, self._size_px)[list(rows)])

    def _encode_known_good(self) -> Float32:
        return self._vectors(np.full((1, self._size_px, self._size_px, 3), 128, dtype=np.uint8))

    def _vectors(self, pixels: UInt8) -> Float32:
        """Converts uint8[n, size, size, 3] to float32[n, dim], not normalised."""
        import torch

        with torch.inference_mode():
            logits, features = self._classifier(torch.from_numpy(pixels).to(self._device))
            concepts = torch.softmax(features @ self._weight.T + self._bias, dim=1)
            vectors = join_names(class_probabilities(logits), concepts, self._classes, self._concepts)
        result: Float32 = vectors.cpu().numpy()
        return result


def class_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Returns float32[n, classes] that add up to 1, of which all but the MAX_CLASSES largest are 0."""
    import torch

    best = logits.topk(min(MAX_CLASSES, logits.shape[1]), dim=1)
    shares = torch.softmax(best.values / CLASS_TEMPERATURE, dim=1)
    return torch.zeros_like(logits).scatter_(1, best.indices, shares)


def join_names(
    classes: torch.Tensor,
    concepts: torch.Tensor,
    class_vectors: Sequence[torch.Tensor],
    concept_vectors: Sequence[torch.Tensor],
) -> torch.Tensor:
    """Returns the vectors of images: for each part of the space, the weighted means of the vectors of names.

    Args:
        classes: float32[n, classes], probabilities.
        concepts: float32[n, concepts], probabilities.
        class_vectors: float32[classes, dim of the part] for each part: one for a sentence encoder, two for a pair.
        concept_vectors: float32[concepts, dim of the part] for each part.
    """
    import torch
    from torch.nn.functional import normalize

    parts = []
    for of_class, of_concept in zip(class_vectors, concept_vectors, strict=True):
        by_class, by_concept = normalize(classes @ of_class, dim=1), normalize(concepts @ of_concept, dim=1)
        parts.append(normalize(by_class + CONCEPT_WEIGHT * by_concept, dim=1))
    return torch.cat(parts, dim=1)


def read_files(spec: ConseSpec) -> tuple[ConceptHead, list[NameVectors]]:
    """Reads the concept head and, for each sentence encoder, the vectors of names, and checks what they were made for.

    Raises:
        ConfigError: a file is missing, or was made for other weights than the profile's.
    """
    assert not isinstance(spec.source, RandomWeights)
    head = read_concept_head(spec.head)
    weights = locate(spec.source, spec.name).weights
    if head.made_for != file_sha256(weights):
        raise ConfigError(
            f"{spec.name}: the concept head {spec.head} was made for weights with the SHA-256 {head.made_for}, which "
            f"{weights} has not; make it again with `python -m tools.shelf_images.train_concepts`"
        )
    names = []
    for sentence, file in zip(spec.sentences, spec.names, strict=True):
        if not file.is_file():
            raise ConfigError(
                f"{spec.name}: there are no vectors of names for the sentence encoder {sentence.name} ({file}); make "
                "them with `python -m tools.shelf_images.name_vectors`"
            )
        vectors = read_name_vectors(file)
        digest = weights_digest(sentence.source, sentence.name)
        if vectors.made_for != digest:
            raise ConfigError(
                f"{spec.name}: the vectors of names in {file} were made with {vectors.model} (weights "
                f"{vectors.made_for}), and the profile has {sentence.name} (weights {digest}); make them again with "
                "`python -m tools.shelf_images.name_vectors`"
            )
        names.append(vectors)
    return head, names


def conse_fingerprint(spec: ConseSpec) -> Fingerprint:
    """Returns what identifies the encoder: all its files, its preprocessing and how it mixes. Needs no torch.

    Raises:
        ConfigError, UnavailableError: as `read_files`.
    """
    files = (spec.head, *spec.names)
    read_files(spec)
    mixing = (MAX_CLASSES, CLASS_TEMPERATURE, CONCEPT_WEIGHT)
    return Fingerprint(
        spec.name,
        short_digest(weights_digest(spec.source, spec.name), *(file_sha256(file) for file in files)),
        short_digest(json.dumps(asdict(spec.image)), json.dumps(mixing)),
    )


def classifier_precision(precision: Precision, device: str) -> Precision:
    """Returns the number format of the classifier. On a CPU it makes 55 images/s in fp32, and 20 in bf16."""
    return "fp32" if device == "cpu" else precision


def _load_classifier(spec: ConseSpec, options: EncoderOptions) -> Classifier:
    import torch

    from penstock.encoders.efficientnet_lite import SIZES, load_efficientnet, normalise

    assert not isinstance(spec.source, RandomWeights)
    model = load_efficientnet(SIZES[spec.classifier], locate(spec.source, spec.name).weights, spec.name)
    precision = classifier_precision(options.precision, options.device)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    model.to(options.device, dtype)

    def classify(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, features = model(normalise(pixels).to(dtype))
        return logits.float(), features.float()

    return classify
