"""The encoder `passage.text` of two sentence encoders: one that is good at some languages, one that knows many.

A passage's vector is both encoders' vectors, one behind the other. Each question weights the two parts by how well the
first encoder knows its language, so that the index is the same for all questions and all languages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from penstock.encoders.base import Fingerprint
from penstock.encoders.batched_encoder import EncoderOptions
from penstock.encoders.profiles import SentencePairSpec
from penstock.encoders.text_encoder import TextEncoder, unit_rows
from penstock.records import Float32

# The second encoder's share of a question's score. If the first one's tokenizer cuts a question into few pieces a word,
# it knows the language. Measured as nDCG@10 of MiniLM and the multilingual
# USE, beside MiniLM alone: WordNet 53.4 (53.4); Debian's English 80.5 (78.1), German 61.5 (45.2), Italian 66.2 (47.2),
# Japanese 62.3 (20.1), Russian 55.6 (17.4), Chinese 56.6 (21.1). One share of 0.3 for all: Japanese 39, Russian 26.
_PIECES_A_WORD = (1.2, 1.5)
_SHARES = (0.25, 0.6)
_SHARE_OF_OTHER_SCRIPTS = 0.8
# Whole words that are counted besides, so that one rare word of an English question does not make it foreign.
_WORDS_BEFORE = 6

_WORD = re.compile(r"\w+|[^\w\s]")


class SentencePairEncoder(TextEncoder):
    """Encodes passages and queries with two sentence encoders: see `TextEncoder`.

    Args:
        spec: the pair, as the profile has it.
        first, second: the encoders of the pair.
        fingerprint: recorded by collections.
        options: how it runs.

    Raises:
        ConfigError: the vectors have another length than the profile says.
    """

    def __init__(
        self,
        spec: SentencePairSpec,
        first: TextEncoder,
        second: TextEncoder,
        fingerprint: Fingerprint,
        options: EncoderOptions,
    ) -> None:
        super().__init__(spec, fingerprint, options)
        self._first = first
        self._second = second
        self._check_dim()

    def vectors(self, texts: Sequence[str], are_queries: bool) -> Float32:
        """Returns float32[len(texts), dim]: see the module."""
        shares = self._shares(texts) if are_queries else np.full(len(texts), 0.5, dtype=np.float32)
        first = unit_rows(self._first.vectors(texts, are_queries)) * (1 - shares)[:, None]
        second = unit_rows(self._second.vectors(texts, are_queries)) * shares[:, None]
        return np.concatenate([first, second], axis=1)

    def token_vectors(self, texts: Sequence[str], are_queries: bool) -> list[Float32]:
        """Returns the first encoder's token vectors. Raises ValueError for a question that it does not know well."""
        if are_queries and (self._shares(texts) > 0.5).any():
            raise ValueError("the encoder of the tokens does not know the language of the question")
        return self._first.token_vectors(texts, are_queries)

    def count_pieces(self, texts: Sequence[str]) -> list[int]:
        """Returns the pieces of the first encoder."""
        return self._first.count_pieces(texts)

    def _shares(self, texts: Sequence[str]) -> Float32:
        """Returns the second encoder's share of the score of each question, float32[len(texts)]."""
        pieces = np.array(self._first.count_pieces(texts))
        words = np.array([len(_WORD.findall(text)) for text in texts])
        shares = np.interp((pieces + _WORDS_BEFORE) / (words + _WORDS_BEFORE), _PIECES_A_WORD, _SHARES)
        latin = np.array([is_mostly_latin(text) for text in texts])
        return np.where(latin, shares, _SHARE_OF_OTHER_SCRIPTS).astype(np.float32)


def is_mostly_latin(text: str) -> bool:
    """Returns whether three quarters of a text's letters are of the Latin script; true for one without letters.

    Three quarters, because a Chinese sentence has few characters beside the Latin names in it.
    """
    letters = [char for char in text if char.isalpha()]
    return 4 * sum(char < "\u0250" or "\u1e00" <= char < "\u1f00" for char in letters) >= 3 * len(letters)
