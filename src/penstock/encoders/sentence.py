"""The encoder `passage.text`: a sentence encoder, run by sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from penstock.encoders.base import Fingerprint
from penstock.encoders.batched_encoder import EncoderOptions
from penstock.encoders.precision import Precision
from penstock.encoders.profiles import SentenceSpec
from penstock.encoders.text_encoder import TextEncoder
from penstock.encoders.weights import RandomWeights, locate
from penstock.errors import ConfigError
from penstock.records import Float32

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class SentenceEncoder(TextEncoder):
    """Encodes passages and queries with a model of sentence-transformers: see `TextEncoder`.

    Raises:
        ConfigError, UnavailableError: the weights are not available, or differ from the profile.
    """

    def __init__(self, spec: SentenceSpec, fingerprint: Fingerprint, options: EncoderOptions) -> None:
        super().__init__(spec, fingerprint, options)
        self._prompts = {False: spec.passage_prompt, True: spec.query_prompt}
        self._model = _build(spec, options.precision, options.device)
        self._check_dim()

    def vectors(self, texts: Sequence[str], are_queries: bool) -> Float32:
        """Returns float32[len(texts), dim]."""
        inputs = [self._prompts[are_queries] + text for text in texts]
        encoded = self._model.encode(inputs, batch_size=len(inputs), show_progress_bar=False, convert_to_tensor=True)
        vectors: Float32 = encoded.float().cpu().numpy()
        return vectors

    def count_pieces(self, texts: Sequence[str]) -> list[int]:
        """Returns the pieces of each text, without special ones."""
        return [len(pieces) for pieces in self._model.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    def token_vectors(self, texts: Sequence[str], are_queries: bool) -> list[Float32]:
        """Returns float32[tokens, dim] of each text."""
        prompt = self._prompts[are_queries]
        inputs = [prompt + text for text in texts]
        encoded = self._model.encode(
            inputs, batch_size=len(inputs), show_progress_bar=False, output_value="token_embeddings"
        )
        tokenized = self._model.tokenizer(
            inputs, truncation=True, max_length=self._model.max_seq_length, return_special_tokens_mask=True
        )
        in_prompt = len(self._model.tokenizer(prompt, add_special_tokens=False)["input_ids"]) if prompt else 0
        return [
            tokens.float().cpu().numpy()[np.flatnonzero(np.asarray(special) == 0)[in_prompt:]]
            for tokens, special in zip(encoded, tokenized["special_tokens_mask"], strict=True)
        ]


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
