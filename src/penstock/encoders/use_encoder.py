"""The encoder `passage.text` with Google's multilingual Universal Sentence Encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.encoders.base import Fingerprint
from penstock.encoders.batched_encoder import EncoderOptions
from penstock.encoders.profiles import SentenceSpec
from penstock.encoders.text_encoder import TextEncoder
from penstock.encoders.unigram import VOCABULARY, UnigramTokenizer
from penstock.encoders.weights import RandomWeights, locate
from penstock.errors import ConfigError
from penstock.records import Float32

if TYPE_CHECKING:
    from penstock.encoders.use_model import UseModel

_BEGIN, _END = 1, 2


class UseEncoder(TextEncoder):
    """Encodes passages and queries with the multilingual Universal Sentence Encoder: see `TextEncoder`.

    Its tokens know their neighbours only, no further context, so that it takes a quarter of the time of MiniLM. It
    computes in fp32 whatever the precision: bf16 would change its vectors, to a cosine of 0.997 with those of fp32.

    Raises:
        ConfigError: the weights are not available, or differ from the profile.
    """

    def __init__(self, spec: SentenceSpec, fingerprint: Fingerprint, options: EncoderOptions) -> None:
        super().__init__(spec, fingerprint, options)
        self._prompts = {False: spec.passage_prompt, True: spec.query_prompt}
        self._max_tokens = spec.max_tokens
        self._model, self._tokenizer = _build(spec, options)
        self._check_dim()

    def vectors(self, texts: Sequence[str], are_queries: bool) -> Float32:
        """Returns float32[len(texts), dim]."""
        import torch

        with torch.inference_mode():
            vectors: Float32 = self._model(self._pieces(texts, are_queries)).cpu().numpy()
        return vectors

    def token_vectors(self, texts: Sequence[str], are_queries: bool) -> list[Float32]:
        """Returns float32[tokens, dim] of each text."""
        import torch

        before = 1 + sum(self._tokenizer.count([self._prompts[are_queries]]))
        with torch.inference_mode():
            tokens = self._model.tokens(self._pieces(texts, are_queries))
        return [vectors[before:-1].cpu().numpy() for vectors in tokens]

    def count_pieces(self, texts: Sequence[str]) -> list[int]:
        """Returns the pieces of each text, without those that begin and end it."""
        return self._tokenizer.count(texts)

    def _pieces(self, texts: Sequence[str], are_queries: bool) -> list[list[int]]:
        """Returns the numbers of each text's pieces, between those that begin and end it."""
        pieces = self._tokenizer.encode([self._prompts[are_queries] + text for text in texts])
        return [[_BEGIN, *numbers[: self._max_tokens - 2], _END] for numbers in pieces]


def _build(spec: SentenceSpec, options: EncoderOptions) -> tuple[UseModel, UnigramTokenizer]:
    from penstock.encoders.torch_errors import load_error
    from penstock.encoders.use_model import UseModel

    if isinstance(spec.source, RandomWeights):
        raise ConfigError(f"{spec.name}: sentence encoders with random weights are not supported")
    located = locate(spec.source, spec.name)
    tokenizer = UnigramTokenizer(located.folder / VOCABULARY)
    try:
        model = UseModel(located.weights)
        return model.to(options.device), tokenizer
    except ConfigError:
        raise
    except Exception as exc:  # a damaged file makes NumPy raise errors of its own
        raise load_error(exc, spec.name) from exc
