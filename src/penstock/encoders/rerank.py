"""Loads the model of a profile that reorders the best hits: MaxSim or a cross-encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from penstock.encoders.base import Encoder, TokenEncoder
from penstock.encoders.batched_encoder import EncoderOptions
from penstock.encoders.cross_encoder import CrossEncoderScorer
from penstock.encoders.maxsim import DEFAULT_CACHE_BYTES, MaxSimScorer, PassageScores, TokenVectorCache
from penstock.encoders.precision import choose_device, choose_precision
from penstock.encoders.profiles import CrossEncoderSpec, Profile

# Pairs in one forward pass: as many as texts for a sentence encoder (see `load.py`).
_PAIRS_ON_CPU = 16
_PAIRS_ON_GPU = 256


class PassageScorer(Protocol):
    """Scores passages against a question. Not thread-safe: call it where the sentence encoder is called."""

    @property
    def name(self) -> str:
        """Returns the name of the model."""

    def tokens_to_read(self, passages: Sequence[str]) -> Sequence[int]:
        """Returns about how many tokens of each passage the model must read, 0 for a known one. From any thread."""

    def score(self, question: str, passages: Sequence[str], *, max_new: int | None = None) -> PassageScores:
        """Returns a score for each passage, nan for one that was not scored.

        Args:
            question: as the user wrote it.
            passages: texts, the most important ones first.
            max_new: passages that the model may read in this call. None: all.

        Raises:
            OverloadedError, WorkerBrokenError: as `Encoder.encode`.
        """


def load_scorer(
    profile: Profile,
    encoder: Encoder,
    *,
    precision: str = "auto",
    device: str = "auto",
    cache_bytes: int = DEFAULT_CACHE_BYTES,
) -> PassageScorer | None:
    """Loads the scorer of a profile: its cross-encoder, else MaxSim; None without token vectors for that (`null`).

    Args:
        profile: names the model.
        encoder: the loaded sentence encoder, `passage.text`.
        precision, device: as for `load_encoder`.
        cache_bytes: of the token vectors that MaxSim keeps.

    Raises:
        ConfigError, UnavailableError: the weights are not available.
    """
    if isinstance(profile.rerank, CrossEncoderSpec):
        device = choose_device(device)
        pairs = _PAIRS_ON_CPU if device == "cpu" else _PAIRS_ON_GPU
        options = EncoderOptions(device, choose_precision(precision, device), cache_size=0, max_items=pairs)
        return CrossEncoderScorer(profile.rerank, options)
    return load_maxsim(encoder, cache_bytes=cache_bytes)


def load_maxsim(encoder: Encoder, *, cache_bytes: int = DEFAULT_CACHE_BYTES) -> PassageScorer | None:
    """Returns MaxSim over the token vectors of the loaded sentence encoder; None if it has none."""
    if not hasattr(encoder, "encode_tokens"):
        return None
    return MaxSimScorer(cast("TokenEncoder", encoder), TokenVectorCache(cache_bytes))
