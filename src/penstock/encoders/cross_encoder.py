"""A cross-encoder, which reads question and passage together, run by sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from penstock.encoders.batched_encoder import EncoderOptions
from penstock.encoders.maxsim import PassageScores, estimated_tokens
from penstock.encoders.profiles import CrossEncoderSpec
from penstock.encoders.weights import RandomWeights, locate
from penstock.errors import ConfigError
from penstock.records import Float32

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_PROBE = ("a question", "a passage")


class CrossEncoderScorer:
    """Scores passages against a question with a cross-encoder. Not thread-safe.

    Args:
        spec: the model, as the profile has it.
        options: how it runs.

    Raises:
        ConfigError, UnavailableError: the weights are not available, or have more than one output.
    """

    def __init__(self, spec: CrossEncoderSpec, options: EncoderOptions) -> None:
        from penstock.encoders.torch_errors import torch_batcher

        self._name = spec.name
        self._max_tokens = spec.max_tokens
        self._model = _build(spec, options)
        self._batcher = torch_batcher(options.max_items)

    @property
    def name(self) -> str:
        """The name of the model."""
        return self._name

    def tokens_to_read(self, passages: Sequence[str]) -> list[int]:
        """Returns about how many tokens of each passage the model reads."""
        return [min(estimated_tokens(passage), self._max_tokens) for passage in passages]

    def score(self, question: str, passages: Sequence[str], *, max_new: int | None = None) -> PassageScores:
        """Scores passages against a question, 0 to 1.

        Args:
            question: as the user wrote it.
            passages: texts, the most important ones first.
            max_new: passages that may be scored in this call; the first ones are. None: all.

        Raises:
            OverloadedError, WorkerBrokenError: as `Encoder.encode`.
        """
        scores = np.full(len(passages), np.nan, dtype=np.float32)
        rows = sorted(range(len(passages))[:max_new], key=lambda row: -len(passages[row]))
        results = self._batcher.run(
            rows,
            lambda part: self._scores([(question, passages[row]) for row in part]),
            lambda: self._scores([_PROBE]),
        )
        for part, values in results.encoded:
            scores[list(part)] = values
        return PassageScores(scores, encoded=len(rows), known=0)

    def _scores(self, pairs: list[tuple[str, str]]) -> Float32:
        import torch

        values = self._model.predict(
            pairs, batch_size=len(pairs), show_progress_bar=False, activation_fn=torch.nn.Sigmoid()
        )
        scores = np.asarray(values, dtype=np.float32)
        if not np.isfinite(scores).all():
            raise ValueError("the model returned a score that is not finite")
        return scores


def _build(spec: CrossEncoderSpec, options: EncoderOptions) -> CrossEncoder:
    import torch
    from sentence_transformers import CrossEncoder
    from transformers.utils import logging as transformers_logging

    from penstock.encoders.torch_errors import load_error

    if isinstance(spec.source, RandomWeights):
        raise ConfigError(f"{spec.name}: cross-encoders with random weights are not supported")
    located = locate(spec.source, spec.name)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[options.precision]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of reading a local file
    try:
        model = CrossEncoder(
            str(located.folder),
            device=options.device,
            max_length=spec.max_tokens,
            local_files_only=True,
            model_kwargs={"dtype": dtype},
        )
    except Exception as exc:  # a damaged file makes each format's reader raise errors of its own
        raise load_error(exc, spec.name) from exc
    outputs = model.model.config.num_labels
    if outputs != 1:
        raise ConfigError(f"{spec.name}: a cross-encoder for reranking has one output, and this model has {outputs}")
    return model.eval()
