"""Counts tokens as the sentence encoder does, without torch or transformers: decode workers start in a moment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from penstock.encoders.base import Tokenizer
from penstock.encoders.profiles import NullSpec, Profile, SentencePairSpec
from penstock.encoders.unigram import VOCABULARY, UnigramTokenizer
from penstock.encoders.weights import RandomWeights, locate
from penstock.errors import ConfigError


class FileTokenizer:
    """A `tokenizer.json` as the Hugging Face libraries write it. Thread-safe.

    Raises:
        ConfigError: the file is missing or no tokenizer.
    """

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer as Rust

        try:
            self._rust = Rust.from_file(str(path))
        except Exception as exc:  # the Rust side raises nothing more precise
            raise ConfigError(f"{path} cannot be read as a tokenizer ({exc}); fetch the model again") from exc
        self._rust.no_truncation()
        self._rust.no_padding()

    def count(self, texts: Sequence[str]) -> list[int]:
        """Returns the tokens of each text, without the special ones."""
        encodings = self._rust.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding) for encoding in encodings]


class WordTokenizer:
    """Counts words and punctuation marks as tokens: for the null profile, which has no model."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Returns the words and marks of each text."""
        return [len(re.findall(r"\w+|[^\w\s]", text)) for text in texts]


def load_tokenizer(profile: Profile) -> Tokenizer:
    """Loads the tokenizer of a profile's sentence encoder.

    Raises:
        ConfigError, UnavailableError: its file is not available (see `weights.locate`).
    """
    spec = profile.passage
    if isinstance(spec, NullSpec):
        return WordTokenizer()
    if isinstance(spec, SentencePairSpec):
        spec = spec.first
    if isinstance(spec.source, RandomWeights):
        raise ConfigError(f"{spec.name} has random weights and no tokenizer")
    folder = locate(spec.source, spec.name).folder
    return UnigramTokenizer(folder / VOCABULARY) if spec.kind == "use" else FileTokenizer(folder / "tokenizer.json")
