"""Takes the vectors that came with events in place of those that the encoders would make.

A vector counts if its fingerprint is that of an encoder of the index, and if the whole asset is one item of this
encoder: an image always is, and a text of one passage. Else the encoder runs as for any other event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from penstock.errors import BadInputError, Reason
from penstock.records import Encoded, Event, Float32

PREFIX = "given:"
"""Before the name of an encoder, names the vectors that came in its place."""


@dataclass(frozen=True, slots=True)
class KnownEncoder:
    """An encoder of the index.

    Attributes:
        fingerprint: model, weights and preprocessing, with slashes between them.
        dim: of its vectors.
    """

    fingerprint: str
    dim: int


class GivenVectors:
    """The vectors of one batch that came with its events.

    Args:
        encoders: returns those of the index, by role.
    """

    def __init__(self, encoders: Callable[[], Mapping[str, KnownEncoder]]) -> None:
        self._encoders = encoders
        self._rows: dict[str, list[Float32]] = {}

    def rows_of(self, event: Event, items: Iterable[tuple[str, str]]) -> Mapping[str, int]:
        """Returns the row of the vector that stands for each encoder's only item of an asset.

        Args:
            event: the asset's.
            items: the encoder and the key of each item of the asset.

        Raises:
            BadInputError: MALFORMED, a vector is not one of the encoder that it names.
        """
        if not event.vectors:
            return {}
        keys: dict[str, set[str]] = {}
        for role, key in items:
            keys.setdefault(role, set()).add(key)
        encoders = self._encoders()
        given = {vector.encoder: vector for vector in event.vectors}
        taken: dict[str, Float32] = {}
        for role, known in keys.items():
            encoder = encoders.get(role)
            if len(known) == 1 and encoder is not None and (vector := given.get(encoder.fingerprint)) is not None:
                taken[role] = _normalised(np.frombuffer(vector.data, "<f4"), role, encoder.dim)
        return {role: self._add(role, vector) for role, vector in taken.items()}

    def _add(self, role: str, vector: Float32) -> int:
        rows = self._rows.setdefault(role, [])
        rows.append(vector)
        return len(rows) - 1

    def encoded(self) -> tuple[Encoded, ...]:
        """Returns all vectors of the batch, as the encoders return theirs."""
        return tuple(Encoded(f"{PREFIX}{role}", np.stack(rows)) for role, rows in self._rows.items())


def _normalised(vector: Float32, role: str, dim: int) -> Float32:
    """Returns float32[dim], L2-normalised: producers may have kept the model's output as it is."""
    if len(vector) != dim:
        raise BadInputError(
            Reason.MALFORMED, f"the vector for {role} has {len(vector):,} values, and its encoder's have {dim:,}"
        )
    exact = vector.astype(np.float64)  # the norm of large float32 is none of float32
    norm = float(np.linalg.norm(exact))
    if not norm:
        raise BadInputError(Reason.MALFORMED, f"the vector for {role} is all zeros")
    return (exact / norm).astype(np.float32)
