"""Measures the image tower of the `reference` profile on images with backgrounds that training never saw.

    python -m tools.reference_models.evaluate_images [--tower DIR] [--descriptions JSONL] [--json]

A query counts as answered when at least one right image is among its first k, by cosine. The bank holds one image of
every concept; images are 224 px, so that open_clip's own preprocessing is part of the measurement.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer

from penstock.encoders.reference.image_model import TOWER_DIR
from penstock.samples.images import Concept, compose, load_concepts
from tools.reference_models.train_images import encode_texts, load_sentence_encoder

Vectors = npt.NDArray[np.float32]
Right = npt.NDArray[np.bool_]

# Any two seeds do: they only select unseen backgrounds. These two were fixed before the first measurement.
BANK_SEED, QUERY_SEED = 1001, 2002
# The size of the index that the demo fills.
INDEX_IMAGES = 1000


@dataclass(frozen=True)
class Description:
    """A plain, hand-written description and the names of the concepts that answer it."""

    text: str
    right: tuple[str, ...]


@dataclass(frozen=True)
class Figures:
    """Recall figures, shares of the queries from 0 to 1; the number after the name is k."""

    name_to_image_1: float
    name_to_image_5: float
    keyword_to_image_10: float
    image_to_image_1: float
    image_to_image_5: float
    image_to_name_1: float
    image_to_name_5: float
    description_to_image_10: float
    # Among INDEX_IMAGES images. Fused with as many texts by RRF, each collection has five of the first ten places.
    name_in_index_5: float
    name_in_index_10: float


class ImageTower:
    """The tower with open_clip's own preprocessing."""

    def __init__(self, folder: Path = TOWER_DIR) -> None:
        model, _, self._preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        self._model = model.eval()

    def encode(self, images: list[Image.Image]) -> Vectors:
        """Encodes images of any size to float32[len(images), 384], L2-normalised."""
        batch = torch.stack([self._preprocess(image) for image in images])
        with torch.inference_mode():
            return np.asarray(self._model.encode_image(batch, normalize=True).float().numpy(), np.float32)

    def encode_concepts(self, concepts: tuple[Concept, ...], seed: int, size_px: int = 224) -> Vectors:
        """Encodes one unseen image of each concept to float32[concepts, 384], a few hundred at a time."""
        parts = [concepts[start : start + 256] for start in range(0, len(concepts), 256)]
        return np.concatenate([self.encode([compose(c, seed, size_px) for c in part]) for part in parts])


def recall_at(k: int, queries: Vectors, bank: Vectors, right: Right) -> float:
    """Returns the share of the queries with a right row of the bank among their first k.

    Args:
        k: rows considered.
        queries: float32[queries, dim], L2-normalised.
        bank: float32[rows, dim], L2-normalised.
        right: bool[queries, rows].
    """
    first = np.argsort(-(queries @ bank.T), axis=1, kind="stable")[:, :k]
    return float(np.take_along_axis(right, first, axis=1).any(axis=1).mean())


def read_descriptions(path: Path) -> list[Description]:
    """Reads the JSONL of descriptions."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [Description(row["description"], tuple(row["right"])) for row in rows]


def measure(
    tower: ImageTower,
    encoder: SentenceTransformer,
    concepts: tuple[Concept, ...],
    descriptions: list[Description],
) -> Figures:
    """Computes every figure of the card."""
    bank = tower.encode_concepts(concepts, BANK_SEED)
    seen_again = tower.encode_concepts(concepts, QUERY_SEED)
    names = encode_texts(encoder, [concept.name for concept in concepts])
    keywords = sorted({keyword for concept in concepts for keyword in concept.keywords})
    of_keyword = np.array([[word in concept.keywords for concept in concepts] for word in keywords])
    of_description = np.array([[concept.name in d.right for concept in concepts] for d in descriptions])
    same = np.eye(len(concepts), dtype=np.bool_)
    described = encode_texts(encoder, [description.text for description in descriptions])
    index = np.concatenate([bank, seen_again])[:INDEX_IMAGES]
    in_index = np.concatenate([same, same], axis=1)[:, :INDEX_IMAGES]
    return Figures(
        name_to_image_1=recall_at(1, names, bank, same),
        name_to_image_5=recall_at(5, names, bank, same),
        keyword_to_image_10=recall_at(10, encode_texts(encoder, keywords), bank, of_keyword),
        image_to_image_1=recall_at(1, seen_again, bank, same),
        image_to_image_5=recall_at(5, seen_again, bank, same),
        image_to_name_1=recall_at(1, bank, names, same),
        image_to_name_5=recall_at(5, bank, names, same),
        description_to_image_10=recall_at(10, described, bank, of_description) if descriptions else float("nan"),
        name_in_index_5=recall_at(5, names, index, in_index),
        name_in_index_10=recall_at(10, names, index, in_index),
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure the recall of the reference image tower.")
    parser.add_argument("--tower", type=Path, default=TOWER_DIR)
    parser.add_argument("--descriptions", type=Path, default=Path("tests/tools/reference_models/descriptions.jsonl"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    if not arguments.descriptions.is_file():
        print(f"no descriptions at {arguments.descriptions}: run in the repository's root, or pass --descriptions")
        return 1
    descriptions = read_descriptions(arguments.descriptions)
    figures = measure(ImageTower(arguments.tower), load_sentence_encoder(), load_concepts(), descriptions)
    if arguments.json:
        print(json.dumps(asdict(figures)))
        return 0
    for name, value in asdict(figures).items():
        print(f"{name:28} {value:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
