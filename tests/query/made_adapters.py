"""Made adapters of questions: a matrix that turns one vector into another one."""

from __future__ import annotations

import numpy as np

from penstock.encoders.base import Fingerprint
from penstock.encoders.transform import LayeredTransform, linear_transform
from penstock.query.adapters import LoadedAdapter, Promotion, encoder_text
from penstock.records import Field, Float32

ENCODER = Fingerprint("made/encoder", "0" * 16, "1" * 16)


def turn(source: Float32, target: Float32) -> LayeredTransform:
    """Returns a transform that maps one vector to another, and what is orthogonal to the first to itself."""
    matrix = np.eye(len(source), dtype=np.float32) + np.outer(source, target - source)
    return linear_transform(matrix.astype(np.float32))


def promotion(
    transform: LayeredTransform,
    name: str = "made",
    *,
    lang: str | None = None,
    field: Field = Field.PASSAGE,
    index_version: int = 1,
    role: str = "passage.text",
) -> Promotion:
    """Returns the promotion of a transform."""
    return Promotion(
        name, transform.fingerprint, index_version, field.value, lang, role, encoder_text(ENCODER), 1_700_000_000_000
    )


def loaded_adapter(name: str, *, lang: str | None = None, field: Field = Field.PASSAGE) -> LoadedAdapter:
    """Returns an adapter of 4 dimensions that differs by its name."""
    rng = np.random.default_rng(list(name.encode()))
    transform = linear_transform((np.eye(4) + 0.3 * rng.normal(size=(4, 4))).astype(np.float32))
    return LoadedAdapter(promotion(transform, name, lang=lang, field=field), transform)
