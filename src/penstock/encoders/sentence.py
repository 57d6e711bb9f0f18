"""The encoder `passage.text`: a sentence encoder, run by sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.encoders.base import Fingerprint
from penstock.encoders.batch_runner import checked_texts
from penstock.encoders.batched_encoder import BatchedEncoder, EncoderOptions
from penstock.encoders.precision import Precision
from penstock.encoders.profiles import PASSAGE_QUERY, PASSAGE_TEXT, SentenceSpec
from penstock.encoders.weights import RandomWeights, locate
from penstock.errors import ConfigError
from penstock.records import Encoded, EncoderInput, Float32

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_PROBE_TEXT = "a sentence"


class SentenceEncoder(BatchedEncoder):
    """Encodes passages and queries into the sentence encoder's space.

    An input whose `encoder` is `passage.query` gets the model's prompt for queries, any other the one for passages.

    Args:
        spec: the model, as the profile has it.
        fingerprint: recorded by collections.
        options: how it runs.

    Raises:
        ConfigError, UnavailableError: the weights are not available, or differ from the profile.
    """

    def __init__(self, spec: SentenceSpec, fingerprint: Fingerprint, options: EncoderOptions) -> None:
        from penstock.encoders.torch_errors import torch_batcher

        super().__init__(
            PASSAGE_TEXT,
            spec.name,
            spec.space,
            fingerprint,
            cache_size=options.cache_size,
            batcher=torch_batcher(options.max_items),
        )
        self._passage_prompt = spec.passage_prompt
        self._query_prompt = spec.query_prompt
        self._model = _build(spec, options.precision, options.device)
        self._check_dim()

    def encode(self, batch: EncoderInput) -> Encoded:
        """Encodes every text that can be encoded: see `BatchedEncoder.encode`."""
        self._check_input(batch)
        prompt = self._prompt(batch)
        return self._runner.encode(
            batch,
            keys=[f"{prompt}\0{key}" for key in batch.keys],
            # the longest first: neighbours need less padding, and a lack of memory shows immediately
            order=lambda row: -len(batch.texts[row]),
        )

    def _check_input(self, batch: EncoderInput) -> None:
        checked_texts(batch)

    def _prompt(self, batch: EncoderInput) -> str:
        return self._query_prompt if batch.encoder == PASSAGE_QUERY else self._passage_prompt

    def _forward(self, batch: EncoderInput, rows: Sequence[int]) -> Float32:
        prompt = self._prompt(batch)
        return self._vectors([prompt + batch.texts[row] for row in rows])

    def _encode_known_good(self) -> Float32:
        return self._vectors([_PROBE_TEXT])

    def _vectors(self, texts: list[str]) -> Float32:
        """Converts texts to float32[len(texts), dim]."""
        encoded = self._model.encode(texts, batch_size=len(texts), show_progress_bar=False, convert_to_tensor=True)
        vectors: Float32 = encoded.float().cpu().numpy()
        return vectors


def _build(spec: SentenceSpec, precision: Precision, device: str) -> SentenceTransformer:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    from penstock.encoders.torch_errors import load_error

    if isinstance(spec.source, RandomWeights):
        raise ConfigError(f"{spec.name}: sentence encoders with random weights are not supported")
    located = locate(spec.source, spec.name)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of reading a local file; downloads have hub's own
    try:
        model = SentenceTransformer(
            str(located.folder), device=device, local_files_only=True, model_kwargs={"dtype": dtype}
        )
    except Exception as exc:  # a damaged file makes each format's reader raise errors of its own
        raise load_error(exc, spec.name) from exc
    model.max_seq_length = spec.max_tokens
    return model.eval()
