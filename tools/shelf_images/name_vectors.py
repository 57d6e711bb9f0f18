"""Makes the vectors of class names and concepts in the space of a profile's sentence encoder.

    python -m tools.shelf_images.name_vectors [--profile NAME] [--out FOLDER]

The classes are ImageNet's, by the names that torchvision has; the concepts are those of the renderings, each by its
name and by its name with keywords. Both sets are centred, and what is left along their common mean is taken out: in
some spaces all texts lie close together, and that direction, which says nothing, would lead every score. Needs the
sentence encoder's package, and takes less than a minute. A pair of sentence encoders gives one file for each.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torchvision.models import EfficientNet_B0_Weights  # type: ignore[import-untyped]

from penstock.encoders.base import Encoder
from penstock.encoders.conse_files import NameVectors, Rows, write_name_vectors
from penstock.encoders.load import load_encoder
from penstock.encoders.profiles import PASSAGE_QUERY, PASSAGE_TEXT, load_profile
from penstock.encoders.profiles.classifiers import FILES, names_file, sentence_encoders
from penstock.records import EncoderInput, Float32
from penstock.samples.images import load_concepts


def encode(encoder: Encoder, texts: Sequence[str]) -> Float32:
    """Encodes texts as questions, since it is with questions that images are compared.

    Returns:
        float32[len(texts), dim], L2-normalised.
    """
    keys = tuple(str(row) for row in range(len(texts)))
    return encoder.encode(EncoderInput(PASSAGE_QUERY, keys, texts=tuple(texts))).vectors


def centred(vectors: Float32) -> Float32:
    """Subtracts the mean of float32[n, dim], and what is left along its direction."""
    mean = vectors.mean(axis=0)
    direction = mean / np.linalg.norm(mean)
    moved = vectors - mean
    result: Float32 = moved - np.outer(moved @ direction, direction)
    return result


def make_vectors(encoder: Encoder) -> NameVectors:
    """Encodes all names."""
    concepts = load_concepts()
    classes = encode(encoder, EfficientNet_B0_Weights.DEFAULT.meta["categories"])
    names = encode(encoder, [concept.name for concept in concepts])
    described = names + encode(encoder, [concept.description for concept in concepts])
    described /= np.linalg.norm(described, axis=1, keepdims=True)
    identity = encoder.fingerprint
    return NameVectors(
        Rows.quantised(centred(classes)), Rows.quantised(centred(described)), identity.weights, identity.model
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(description="Make the vectors of names for a profile's sentence encoder.")
    parser.add_argument("--profile", default="shelf")
    parser.add_argument("--out", type=Path, default=FILES, help="folder")
    arguments = parser.parse_args(argv)
    profile = load_profile(arguments.profile)
    for sentence in sentence_encoders(profile.passage):
        encoder = load_encoder(PASSAGE_TEXT, replace(profile, passage=sentence), precision="fp32", cache_size=0)
        file = names_file(arguments.out, encoder.space)
        write_name_vectors(file, make_vectors(encoder))
        print(f"{file}: {file.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
