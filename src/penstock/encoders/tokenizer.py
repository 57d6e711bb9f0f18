"""Counts tokens as the sentence encoder does, without torch or transformers: decode workers start in a moment."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from penstock.encoders.base import Tokenizer
from penstock.encoders.profiles import NullSpec, Profile, SentencePairSpec, SentenceSpec
from penstock.encoders.sentence_pair import is_mostly_latin
from penstock.encoders.unigram import VOCABULARY, UnigramTokenizer
from penstock.encoders.weights import RandomWeights, locate
from penstock.errors import ConfigError

# The multilingual tokenizer cuts an English text into 0.9 to 1.24 times as many pieces as MiniLM's does.
_WEIGHT_OF_SECOND = 0.8
# A text in another script than Latin whose tokens have more characters is unknown to its tokenizer: with MiniLM's, Thai
# has 26, Hindi and Russian less than 2.
_MAX_CHARS_A_TOKEN = 4


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


class PairTokenizer:
    """Counts tokens for a pair of sentence encoders: the first one's, or the second one's where that knows the script.

    A clause of Thai is one unknown word to a tokenizer for English, so that passages would be longer than either
    encoder reads. The second tokenizer takes 130 MB, so that it is loaded with the first text that needs it.

    Args:
        first: the tokenizer of the first encoder.
        load_second: loads that of the second one.
        weight: of a token of the second.
    """

    def __init__(self, first: Tokenizer, load_second: Callable[[], Tokenizer], weight: float) -> None:
        self._first = first
        self._second = functools.cache(load_second)
        self._weight = weight

    def count(self, texts: Sequence[str]) -> list[int]:
        """Returns the tokens of each text, without the special ones."""
        counts = self._first.count(texts)
        unknown = [row for row, text in enumerate(texts) if _is_unknown(text, counts[row])]
        if unknown:
            for row, second in zip(unknown, self._second().count([texts[row] for row in unknown]), strict=True):
                counts[row] = max(counts[row], math.ceil(self._weight * second))
        return counts


def _is_unknown(text: str, tokens: int) -> bool:
    return len(text) > _MAX_CHARS_A_TOKEN * tokens and not is_mostly_latin(text)


def load_tokenizer(profile: Profile) -> Tokenizer:
    """Loads the tokenizer of a profile's sentence encoder.

    Raises:
        ConfigError, UnavailableError: its file is not available (see `weights.locate`).
    """
    spec = profile.passage
    if isinstance(spec, NullSpec):
        return WordTokenizer()
    if isinstance(spec, SentencePairSpec):
        weight = max(_WEIGHT_OF_SECOND, spec.first.max_tokens / spec.second.max_tokens)
        folder = _folder(spec.second)
        return PairTokenizer(_load(spec.first, _folder(spec.first)), lambda: _load(spec.second, folder), weight)
    return _load(spec, _folder(spec))


def _folder(spec: SentenceSpec) -> Path:
    if isinstance(spec.source, RandomWeights):
        raise ConfigError(f"{spec.name} has random weights and no tokenizer")
    return locate(spec.source, spec.name).folder


def _load(spec: SentenceSpec, folder: Path) -> Tokenizer:
    return UnigramTokenizer(folder / VOCABULARY) if spec.kind == "use" else FileTokenizer(folder / "tokenizer.json")
