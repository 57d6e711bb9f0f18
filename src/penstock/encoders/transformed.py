"""An encoder whose vectors a transform maps, for those that fill an index and those that search it alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from penstock.encoders.base import Encoder, Fingerprint, Space
from penstock.encoders.transform import Transform
from penstock.records import Encoded, EncoderInput


class TransformedEncoder:
    """An `Encoder`.

    Args:
        encoder: makes the vectors.
        transform: maps them.
        space: of the result.
        fingerprint: of encoder and transform together.
    """

    def __init__(self, encoder: Encoder, transform: Transform, space: Space, fingerprint: Fingerprint) -> None:
        self.name = encoder.name
        self.space = space
        self.fingerprint = fingerprint
        self._encoder = encoder
        self._transform = transform
        tokens: Any = getattr(encoder, "encode_tokens", None)
        if tokens is not None:  # late interaction compares vectors of tokens in the encoder's own space
            self.encode_tokens = tokens

    def encode(self, batch: EncoderInput) -> Encoded:
        """See `Encoder.encode`. What failed has a vector that means nothing, as that of the encoder."""
        encoded = self._encoder.encode(batch)
        if not len(batch):
            return replace(encoded, vectors=np.zeros((0, self.space.dim), np.float32))
        return replace(encoded, vectors=self._transform.apply(encoded.vectors))
