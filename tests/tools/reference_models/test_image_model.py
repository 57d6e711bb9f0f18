"""Tests of the reference image tower's recall, on renderings with backgrounds that training never saw.

The floors are a little under the figures of IMAGE.md, which the same code measures. Where the project promises a recall
(name → image, keyword → image), the floor is the promise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
from PIL import Image
from sentence_transformers import SentenceTransformer

from penstock.encoders.reference.image_model import CHECKPOINT_NAME, TOWER_DIR, tower_name
from penstock.samples import compose, load_concepts
from tools.reference_models.evaluate_images import (
    BANK_SEED,
    Figures,
    ImageTower,
    measure,
    read_descriptions,
    recall_at,
)
from tools.reference_models.train_images import encode_texts, load_sentence_encoder

DESCRIPTIONS_PATH = Path(__file__).with_name("descriptions.jsonl")
MAX_TOWER_BYTES = 15_000_000


@pytest.fixture(scope="module")
def encoder() -> SentenceTransformer:
    return load_sentence_encoder()


@pytest.fixture(scope="module")
def tower() -> ImageTower:
    return ImageTower()


@pytest.fixture(scope="module")
def figures(tower: ImageTower, encoder: SentenceTransformer) -> Figures:
    return measure(tower, encoder, load_concepts(), read_descriptions(DESCRIPTIONS_PATH))


@pytest.mark.exhaustive
def test_a_name_finds_its_image(figures: Figures) -> None:
    assert figures.name_to_image_1 >= 0.86
    assert figures.name_to_image_5 >= 0.97


@pytest.mark.exhaustive
def test_a_keyword_finds_an_image_that_has_it(figures: Figures) -> None:
    assert figures.keyword_to_image_10 >= 0.79


@pytest.mark.exhaustive
def test_an_image_finds_another_of_the_same_concept(figures: Figures) -> None:
    assert figures.image_to_image_1 >= 0.88
    assert figures.image_to_image_5 >= 0.95


@pytest.mark.exhaustive
def test_an_image_finds_its_name(figures: Figures) -> None:
    assert figures.image_to_name_1 >= 0.92
    assert figures.image_to_name_5 >= 0.965


@pytest.mark.exhaustive
def test_a_plain_description_finds_an_image_that_answers_it(figures: Figures) -> None:
    assert figures.description_to_image_10 >= 0.84


@pytest.mark.exhaustive
def test_a_name_finds_its_image_among_a_thousand(figures: Figures) -> None:
    # Fused by RRF with as many texts, images have five of the first ten places, and nine of ten names must be there.
    assert figures.name_in_index_5 >= 0.9


def test_a_description_without_any_name_finds_the_tools(tower: ImageTower, encoder: SentenceTransformer) -> None:
    concepts = load_concepts()
    images = tower.encode_concepts(concepts, BANK_SEED, size_px=96)
    scores = images @ encode_texts(encoder, ["tool for fixing things"])[0]
    first = {concepts[row].name for row in np.argsort(-scores)[:10]}
    assert {"screwdriver", "wrench", "toolbox"} <= first


def test_there_are_sixty_descriptions_and_all_name_concepts_that_ship() -> None:
    descriptions = read_descriptions(DESCRIPTIONS_PATH)
    names = {concept.name for concept in load_concepts()}
    assert len({description.text for description in descriptions}) >= 60
    assert all(description.right and names.issuperset(description.right) for description in descriptions)


def test_open_clip_builds_the_tower_from_its_folder_alone() -> None:
    model, _, preprocess = open_clip.create_model_and_transforms(tower_name(), require_pretrained=True)
    pixels = preprocess(compose(load_concepts()[0], seed=1))
    assert tuple(pixels.shape) == (3, 64, 64)
    assert tuple(model.eval().encode_image(pixels[None]).shape) == (1, 384)
    assert (TOWER_DIR / CHECKPOINT_NAME).stat().st_size < MAX_TOWER_BYTES


def test_vectors_are_normalised_and_of_float32(tower: ImageTower) -> None:
    vectors = tower.encode([Image.new("RGB", (300, 200), "teal"), compose(load_concepts()[5], seed=2, size_px=80)])
    assert vectors.dtype == np.float32
    assert vectors.shape == (2, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4)


def test_recall_counts_a_query_once_any_right_row_is_among_the_first() -> None:
    bank = np.eye(4, dtype=np.float32)
    queries = np.array([[0.9, 0.8, 0.1, 0.0], [0.1, 0.2, 0.3, 0.4]], np.float32)
    right = np.array([[False, True, True, False], [True, False, False, False]])
    assert recall_at(1, queries, bank, right) == 0.0
    assert recall_at(2, queries, bank, right) == 0.5
    assert recall_at(4, queries, bank, right) == 1.0
