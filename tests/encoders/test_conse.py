"""The encoder of classifier and names, on random weights; what real weights find is in test_conse_real.py."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from penstock.encoders.base import Space
from penstock.encoders.batched_encoder import EncoderOptions
from penstock.encoders.conse import (
    MAX_CLASSES,
    ConseImageEncoder,
    class_probabilities,
    classifier_precision,
    conse_fingerprint,
    join_names,
)
from penstock.encoders.conse_files import ConceptHead, NameVectors, Rows, write_concept_head, write_name_vectors
from penstock.encoders.efficientnet_lite import HEAD_WIDTH, SIZES, EfficientNetLite
from penstock.encoders.profiles import ConseSpec, SentenceSpec
from penstock.encoders.profiles.classifiers import conse_spec, head_file, names_file
from penstock.encoders.profiles.spec import ClassifierName
from penstock.encoders.weights import FolderWeights
from penstock.errors import ConfigError
from penstock.records import Float32, UInt8
from tests.encoders.conftest import pixels_input
from tests.encoders.test_efficientnet_lite import checkpoint

CLASSES, CONCEPTS, DIM = 5, 7, 12
CLASSIFIER: ClassifierName = "efficientnet-lite0"
OPTIONS = EncoderOptions(device="cpu", precision="fp32", cache_size=0, max_items=4)


def matrix(rows: int, columns: int, seed: int) -> Float32:
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> FolderWeights:
    """A checkpoint of the classifier with random weights and few classes."""
    folder = tmp_path_factory.mktemp("classifier")
    model = EfficientNetLite(SIZES[CLASSIFIER], CLASSES)
    state = checkpoint(model)
    random = torch.Generator().manual_seed(4)
    state["_fc.weight"] = torch.randn(CLASSES, HEAD_WIDTH, generator=random)
    torch.save(state, folder / "weights.pth")
    return FolderWeights(folder, "weights.pth")


@pytest.fixture
def spec(weights: FolderWeights, tmp_path: Path) -> ConseSpec:
    """A classifier with its two files, in the space of a sentence encoder that is a file of other bytes."""
    (tmp_path / "sentence.bin").write_bytes(b"a sentence encoder")
    sentence = SentenceSpec("org/sentences", FolderWeights(tmp_path, "sentence.bin"), Space("sentences", DIM), 16)
    write_files(tmp_path, weights, sentence)
    return conse_spec(CLASSIFIER, weights, sentence, tmp_path)


def write_files(folder: Path, weights: FolderWeights, sentence: SentenceSpec, seed: int = 0) -> None:
    head = ConceptHead.quantised(
        matrix(CONCEPTS, HEAD_WIDTH, seed), matrix(1, CONCEPTS, seed)[0], digest(weights.folder / weights.weights)
    )
    write_concept_head(head_file(folder, CLASSIFIER), head)
    names = NameVectors(
        Rows.quantised(matrix(CLASSES, sentence.space.dim, seed + 1)),
        Rows.quantised(matrix(CONCEPTS, sentence.space.dim, seed + 2)),
        digest(folder / "sentence.bin")[:16],
        sentence.name,
    )
    write_name_vectors(names_file(folder, sentence.space), names)


def encoder(spec: ConseSpec) -> ConseImageEncoder:
    return ConseImageEncoder(spec, conse_fingerprint(spec), OPTIONS)


def pixels(count: int, size_px: int = 224) -> UInt8:
    return np.random.default_rng(9).integers(0, 256, (count, size_px, size_px, 3), dtype=np.uint8)


def test_a_certain_class_gives_the_vector_of_its_name() -> None:
    names = torch.from_numpy(matrix(CLASSES, DIM, 1))
    certain = torch.eye(CLASSES)
    vectors = join_names(certain, torch.zeros(CLASSES, CONCEPTS), [names], [torch.ones(CONCEPTS, DIM)])
    torch.testing.assert_close(vectors, torch.nn.functional.normalize(names, dim=1))


def test_each_part_of_a_pairs_space_has_the_same_length() -> None:
    random = torch.Generator().manual_seed(2)
    classes = torch.softmax(torch.randn(3, CLASSES, generator=random), dim=1)
    concepts = torch.softmax(torch.randn(3, CONCEPTS, generator=random), dim=1)
    of_class = [torch.from_numpy(matrix(CLASSES, dim, dim)) for dim in (DIM, 20)]
    of_concept = [torch.from_numpy(matrix(CONCEPTS, dim, dim + 1)) for dim in (DIM, 20)]
    vectors = join_names(classes, concepts, of_class, of_concept)
    assert vectors.shape == (3, DIM + 20)
    torch.testing.assert_close(vectors[:, :DIM].norm(dim=1), torch.ones(3))
    torch.testing.assert_close(vectors[:, DIM:].norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("classes", [MAX_CLASSES // 2, 3 * MAX_CLASSES])
def test_only_the_most_probable_classes_share_in_a_vector(classes: int) -> None:
    logits = torch.randn(4, classes, generator=torch.Generator().manual_seed(1))
    shares = class_probabilities(logits)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(4))
    assert ((shares > 0).sum(dim=1) == min(MAX_CLASSES, classes)).all()
    assert torch.equal(shares.argmax(dim=1), logits.argmax(dim=1))


def test_images_are_encoded_in_order_and_in_the_space_of_the_texts(spec: ConseSpec) -> None:
    built = encoder(spec)
    images = pixels(5)
    together = built.encode(pixels_input(images)).vectors
    assert (together.shape, built.space) == ((5, DIM), Space("sentences", DIM))
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    for row in (0, 4):
        alone = built.encode(pixels_input(images[row : row + 1])).vectors[0]
        np.testing.assert_allclose(together[row], alone, atol=1e-4)


def test_pixels_of_another_size_are_refused(spec: ConseSpec) -> None:
    with pytest.raises(ConfigError, match=r"uint8\[2, 224, 224, 3\].*same profile"):
        encoder(spec).encode(pixels_input(pixels(2, 64)))


def test_eight_bits_keep_the_direction_of_a_row() -> None:
    rows = matrix(50, 300, 3)
    kept = Rows.quantised(rows).matrix
    cosines = (rows * kept).sum(axis=1) / (np.linalg.norm(rows, axis=1) * np.linalg.norm(kept, axis=1))
    assert cosines.min() > 0.9999


def test_every_file_belongs_to_the_fingerprint(spec: ConseSpec) -> None:
    before = conse_fingerprint(spec)
    assert encoder(spec).fingerprint == before
    assert isinstance(spec.source, FolderWeights)
    write_files(spec.head.parent, spec.source, spec.sentences[0], seed=20)
    after = conse_fingerprint(spec)
    assert (after.model, after.preprocessing) == (before.model, before.preprocessing)
    assert after.weights != before.weights
    squeezed = replace(spec, image=replace(spec.image, resize_mode="shortest"))
    assert conse_fingerprint(squeezed).preprocessing != before.preprocessing


def one_line(caught: pytest.ExceptionInfo[ConfigError]) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_names_of_another_sentence_encoder_are_refused_in_one_line(spec: ConseSpec) -> None:
    (spec.head.parent / "sentence.bin").write_bytes(b"another sentence encoder")
    with pytest.raises(ConfigError, match=r"were made with org/sentences \(weights .*name_vectors") as caught:
        encoder(spec)
    assert one_line(caught).startswith("conse/efficientnet-lite0: ")


def test_a_head_of_another_classifier_is_refused_in_one_line(spec: ConseSpec, tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(b"other weights")
    with pytest.raises(ConfigError, match=r"concept head .* was made for weights .*train_concepts") as caught:
        conse_fingerprint(replace(spec, source=FolderWeights(tmp_path, "other.pth")))
    assert one_line(caught)


def test_missing_names_are_one_line_that_says_how_to_make_them(spec: ConseSpec) -> None:
    spec.names[0].unlink()
    with pytest.raises(ConfigError, match=r"no vectors of names for .* org/sentences .*name_vectors") as caught:
        conse_fingerprint(spec)
    assert one_line(caught)


def test_a_damaged_file_of_names_is_one_line(spec: ConseSpec) -> None:
    spec.names[0].write_bytes(b"nothing of the kind")
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        conse_fingerprint(spec)
    assert one_line(caught)


def test_damaged_weights_are_one_line(spec: ConseSpec, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(b"no weights")
    head = ConceptHead.quantised(matrix(CONCEPTS, HEAD_WIDTH, 0), matrix(1, CONCEPTS, 0)[0], digest(damaged))
    write_concept_head(spec.head, head)
    wrong = replace(spec, source=FolderWeights(tmp_path, damaged.name))
    with pytest.raises(ConfigError, match="holds no weights of this model") as caught:
        encoder(wrong)
    assert one_line(caught)


def test_a_cpu_always_computes_in_fp32() -> None:
    assert classifier_precision("bf16", "cpu") == "fp32"
    assert classifier_precision("bf16", "cuda:1") == "bf16"
