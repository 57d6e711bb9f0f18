"""The base of the sentence encoders: prompts, order by length, and token vectors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from penstock.encoders.base import Fingerprint
from penstock.encoders.batch_runner import checked_texts
from penstock.encoders.batched_encoder import EncoderOptions, ModelEncoder
from penstock.encoders.profiles import PASSAGE_QUERY, PASSAGE_TEXT, PassageSpec
from penstock.records import Encoded, EncoderInput, Float32

_PROBE_TEXT = "a sentence"


class TextEncoder(ModelEncoder):
    """Encodes passages and queries into the sentence encoder's space.

    An input whose `encoder` is `passage.query` gets the model's prompt for queries, any other the one for passages.

    Args:
        spec: the model, as the profile has it.
        fingerprint: recorded by collections.
        options: how it runs.
    """

    def __init__(self, spec: PassageSpec, fingerprint: Fingerprint, options: EncoderOptions) -> None:
        super().__init__(PASSAGE_TEXT, spec, fingerprint, options)

    def encode(self, batch: EncoderInput) -> Encoded:
        """Encodes every text that can be encoded: see `BatchedEncoder.encode`."""
        self._check_input(batch)
        kind = "query" if _holds_queries(batch) else "passage"
        return self._runner.encode(batch, keys=[f"{kind}\0{key}" for key in batch.keys], order=_longest_first(batch))

    def encode_tokens(self, batch: EncoderInput) -> tuple[Float32 | None, ...]:
        """Returns the token vectors of each text: see `TokenEncoder.encode_tokens`. They are not kept."""
        self._check_input(batch)
        are_queries = _holds_queries(batch)
        results = self._batcher.run(
            sorted(range(len(batch)), key=_longest_first(batch)),
            lambda rows: [
                unit_rows(tokens) for tokens in self.token_vectors([batch.texts[row] for row in rows], are_queries)
            ],
            self._encode_known_good,
        )
        vectors: list[Float32 | None] = [None] * len(batch)
        for rows, encoded in results.encoded:
            for row, tokens in zip(rows, encoded, strict=True):
                vectors[row] = tokens
        return tuple(vectors)

    @abstractmethod
    def vectors(self, texts: Sequence[str], are_queries: bool) -> Float32:
        """Returns float[len(texts), dim], not normalised. Raises whatever the model raises."""

    @abstractmethod
    def token_vectors(self, texts: Sequence[str], are_queries: bool) -> list[Float32]:
        """Returns float[tokens, dim] of each text, not normalised; without special tokens and those of the prompt."""

    @abstractmethod
    def count_pieces(self, texts: Sequence[str]) -> list[int]:
        """Returns the number of pieces into which its tokenizer splits each text, without special ones."""

    def _check_input(self, batch: EncoderInput) -> None:
        checked_texts(batch)

    def _forward(self, batch: EncoderInput, rows: Sequence[int]) -> Float32:
        return self.vectors([batch.texts[row] for row in rows], _holds_queries(batch))

    def _encode_known_good(self) -> Float32:
        return self.vectors([_PROBE_TEXT], are_queries=False)


def _holds_queries(batch: EncoderInput) -> bool:
    return batch.encoder == PASSAGE_QUERY


def _longest_first(batch: EncoderInput) -> Callable[[int], float]:
    """Returns the key that orders rows: neighbours need less padding, and a lack of memory shows immediately."""
    return lambda row: -len(batch.texts[row])


def unit_rows(vectors: Float32) -> Float32:
    """Returns float32[n, dim], L2-normalised. Raises ValueError if a value is not finite."""
    if not np.isfinite(vectors).all():
        raise ValueError("the model returned a vector that is not finite")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Float32 = vectors / np.maximum(norms, np.float32(1e-12))
    return unit
