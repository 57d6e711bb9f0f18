"""Reads and writes the vectors that producers send beside their media, in the extension `vectors`.

It is a JSON object, as a string: the fingerprint of an encoder, and what it made of the whole media, as base64 of
little-endian float32. Ingest takes the vector in place of its own encoder's if both are the same model.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence

import numpy as np

from penstock.broker.event_values import load_object, refuse
from penstock.errors import BadInputError, Reason, UsageError
from penstock.records import GivenVector

MAX_VECTORS = 4  # a model or two of one modality
MAX_DIM = 8_192
_LITTLE_ENDIAN = np.dtype("<f4")


def given_vector(encoder: str, values: Sequence[float]) -> GivenVector:
    """Returns a vector of an encoder, by its fingerprint.

    Raises:
        UsageError: it is empty, too long, or has what is no number.
    """
    try:
        with np.errstate(over="ignore"):  # becomes infinite, and is refused below
            vector = np.asarray(values, dtype=_LITTLE_ENDIAN)
    except (ValueError, TypeError, OverflowError) as exc:
        raise UsageError(f"has a vector that is not a list of numbers: {exc}") from exc
    if vector.ndim != 1 or not 0 < len(vector) <= MAX_DIM or not np.isfinite(vector).all():
        raise UsageError(f"has a vector that is not 1 to {MAX_DIM:,} finite numbers")
    return GivenVector(encoder, vector.tobytes())


def vectors_json(vectors: Sequence[GivenVector]) -> str:
    """Returns the extension for vectors."""
    return json.dumps({vector.encoder: base64.b64encode(vector.data).decode() for vector in vectors})


def parse_vectors(text: str) -> tuple[GivenVector, ...]:
    """Parses the extension.

    Raises:
        BadInputError: MALFORMED.
    """
    named = load_object(text, "the vectors extension")
    if len(named) > MAX_VECTORS:
        refuse(f"vectors has {len(named)} encoders; at most {MAX_VECTORS} are allowed")
    return tuple(GivenVector(encoder, _floats(encoder, data)) for encoder, data in named.items())


def _floats(encoder: str, data: object) -> bytes:
    if not isinstance(data, str):
        refuse(f"vectors has for {encoder[:80]!r} what is not base64 of float32")
    try:
        floats = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise BadInputError(Reason.MALFORMED, f"the vector of {encoder[:80]!r} is not base64: {exc}") from exc
    size = _LITTLE_ENDIAN.itemsize
    if not floats or len(floats) % size or len(floats) > MAX_DIM * size:
        refuse(f"the vector of {encoder[:80]!r} has {len(floats):,} bytes, which are not 1 to {MAX_DIM:,} float32")
    if not np.isfinite(np.frombuffer(floats, _LITTLE_ENDIAN)).all():
        refuse(f"the vector of {encoder[:80]!r} has values that are not finite")
    return floats
