"""`passage.text`: the sentence encoder, by sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.encoders.base import Fingerprint, Space
from penstock.encoders.batch_runner import BatchRunner, checked_texts
from penstock.encoders.cache import VectorCache
from penstock.encoders.precision import Precision
from penstock.encoders.profiles import PASSAGE_QUERY, PASSAGE_TEXT, SentenceSpec
from penstock.encoders.sub_batching import SubBatcher
from penstock.encoders.weights import RandomWeights, locate
from penstock.errors import ConfigError
from penstock.records import Encoded, EncoderInput, Float32

_PROBE_TEXT = "a sentence"


class SentenceEncoder:
    """Passages and queries into the sentence encoder's space.

    An input whose `encoder` is `passage.query` gets the model's prompt for queries, any other the one for passages.

    Args:
        model: which one.
        fingerprint: what collections record of it.
        device: `cpu`, `cuda` or `cuda:N`.
        precision: of the weights and of what flows between them.
        cache_size: vectors kept.
        max_items: texts in one forward pass at most.

    Raises:
        ConfigError, UnavailableError: the weights cannot be had.
    """

    def __init__(
        self,
        model: SentenceSpec,
        fingerprint: Fingerprint,
        *,
        device: str,
        precision: Precision,
        cache_size: int,
        max_items: int,
    ) -> None:
        from penstock.encoders.torch_errors import classify_error, release_memory

        self.name = PASSAGE_TEXT
        self.space: Space = model.space
        self.fingerprint = fingerprint
        self._passage_prompt = model.passage_prompt
        self._query_prompt = model.query_prompt
        self._model = _build(model, precision, device)
        self._runner = BatchRunner(
            model.space.dim,
            cache=VectorCache(cache_size),
            batcher=SubBatcher(max_items, classify=classify_error, release_memory=release_memory),
            forward=self._forward,
            probe=lambda: self._vectors([_PROBE_TEXT]),
        )

    @property
    def cache(self) -> VectorCache:
        return self._runner.cache

    def encode(self, batch: EncoderInput) -> Encoded:
        """See `Encoder.encode`. The batch holds texts."""
        checked_texts(batch)
        prompt = self._prompt(batch)
        return self._runner.encode(
            batch,
            keys=[f"{prompt}\0{key}" for key in batch.keys],
            # the longest first: padding is spared among neighbours, and memory that is short shows at once
            order=lambda row: -len(batch.texts[row]),
        )

    def _prompt(self, batch: EncoderInput) -> str:
        return self._query_prompt if batch.encoder == PASSAGE_QUERY else self._passage_prompt

    def _forward(self, batch: EncoderInput, rows: Sequence[int]) -> Float32:
        prompt = self._prompt(batch)
        return self._vectors([prompt + batch.texts[row] for row in rows])

    def _vectors(self, texts: list[str]) -> Float32:
        """float32[len(texts), dim]."""
        encoded = self._model.encode(texts, batch_size=len(texts), show_progress_bar=False, convert_to_tensor=True)
        vectors: Float32 = encoded.float().cpu().numpy()
        return vectors


def _build(model: SentenceSpec, precision: Precision, device: str) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    from penstock.encoders.torch_errors import load_error

    if isinstance(model.source, RandomWeights):
        raise ConfigError(f"{model.name}: sentence encoders with random weights are not offered")
    located = locate(model.source, model.name)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of reading a local file; downloads have hub's own
    try:
        built = SentenceTransformer(
            str(located.folder), device=device, local_files_only=True, model_kwargs={"dtype": dtype}
        )
    except Exception as exc:  # a damaged file makes each format's reader raise errors of its own
        raise load_error(exc, model.name) from exc
    built.max_seq_length = model.max_tokens
    return built.eval()
