"""The encoder `passage.text`: a sentence encoder in the layout of sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.encoders.base import Fingerprint
from penstock.encoders.batched_encoder import EncoderOptions
from penstock.encoders.model_errors import classifier_of, error_of_load
from penstock.encoders.profiles import SentenceSpec
from penstock.encoders.sentence_model import (
    ArraySentences,
    PlainBert,
    SentenceModel,
    TransformersSentences,
    is_plain_bert,
)
from penstock.encoders.text_encoder import TextEncoder
from penstock.encoders.weights import RandomWeights, locate
from penstock.errors import ConfigError
from penstock.records import Float32


class SentenceEncoder(TextEncoder):
    """Encodes passages and queries with a model of sentence-transformers: see `TextEncoder`.

    Raises:
        ConfigError, UnavailableError: the weights are not available, or differ from the profile.
    """

    def __init__(self, spec: SentenceSpec, fingerprint: Fingerprint, options: EncoderOptions) -> None:
        super().__init__(spec, fingerprint, options)
        self._prompts = {False: spec.passage_prompt, True: spec.query_prompt}
        self._model = _build(spec, options)
        self._check_dim()

    def vectors(self, texts: Sequence[str], are_queries: bool) -> Float32:
        """Returns float32[len(texts), dim]."""
        return self._model.vectors([self._prompts[are_queries] + text for text in texts])

    def count_pieces(self, texts: Sequence[str]) -> list[int]:
        """Returns the pieces of each text, without special ones."""
        return self._model.count_pieces(texts)

    def token_vectors(self, texts: Sequence[str], are_queries: bool) -> list[Float32]:
        """Returns float32[tokens, dim] of each text."""
        prompt = self._prompts[are_queries]
        return self._model.token_vectors([prompt + text for text in texts], prompt)


def _build(spec: SentenceSpec, options: EncoderOptions) -> SentenceModel:
    if isinstance(spec.source, RandomWeights):
        raise ConfigError(f"{spec.name}: sentence encoders with random weights are not supported")
    located = locate(spec.source, spec.name)
    is_plain = is_plain_bert(located.folder, located.weights)
    if options.runtime == "numpy" and not is_plain:
        raise ConfigError(
            f'{spec.name}: runtime numpy computes plain BERTs alone; use runtime = "torch" in the profile'
        )
    try:
        if options.runtime == "numpy":
            return ArraySentences(located.folder, located.weights, spec.max_tokens)
        if is_plain:
            return PlainBert(located.folder, located.weights, spec.max_tokens, options.precision, options.device)
        return TransformersSentences(located.folder, spec.max_tokens, options.precision, options.device)
    except Exception as exc:  # a damaged file makes each format's reader raise errors of its own
        raise error_of_load(exc, spec.name, classifier_of(options.runtime)(exc)) from exc
