"""The encoder `passage.text` of two sentence encoders: one that is good at some languages, one that knows many.

A passage's vector is both encoders' vectors, one behind the other. Each question weights the two parts by how well the
first encoder knows its language, so that the index is the same for all questions and all languages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import numpy as np

from penstock.analysis.language_detector import language_probabilities
from penstock.encoders.base import Fingerprint
from penstock.encoders.batched_encoder import EncoderOptions
from penstock.encoders.profiles import NullSpec, PassageSpec, SentencePairSpec
from penstock.encoders.text_encoder import TextEncoder, unit_rows
from penstock.encoders.weights import short_digest
from penstock.records import Float32

# The second encoder's share of a question's score rises with the evidence that the first does not know its language:
# the logarithm of the odds that the language detector gives, and how many more pieces a word the first tokenizer needs
# than the second, which distinguishes `Hund` from `dog`, where the detector says little.
# Measured on the train and dev splits of debian, nDCG@10 of MiniLM and the multilingual USE by the share, 0.25, 0.5,
# 0.6, 0.7, 0.85: English 81.1, 81.3, 80.7, 79.3, 74.3 (WordNet wants 0.25); German 53.6, 60.2, 61.2, 61.1, 58.4; French
# 57.5, 65.4, 66.4, 66.4, 63.4; Japanese 33.5, 53.5, 57.6, 60.4, 60.9; Russian 26.4, 43.6, 49.5, 53.4, 54.5. Of forty
# short questions each find their answer first, at 0.6, 0.7 and 0.85: German 23, 24, 26; French 25, 28, 30; Chinese 28,
# 29, 31.
_SHARES = (0.25, 0.7)
_SHARE_OF_OTHER_SCRIPTS = 0.85
# The evidence between which the share rises. 5 is the ratio of a logistic regression's weights, on the same splits.
_EVIDENCE = (2.0, 8.0)
_PIECES_AS_LOG_ODDS = 5.0
_MAX_LOG_ODDS = 10.0  # the detector is sure of longer texts out of all proportion

# The languages of a second encoder that names none; texts in other scripts need no detector.
LATIN_LANGUAGES = ("de", "es", "fr", "it", "nl", "pl", "pt", "tr")

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
        self._known = spec.first.languages or ("en",)
        self._others = tuple(sorted({*(spec.second.languages or LATIN_LANGUAGES)} - {*self._known}))
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
        latin = np.array([is_mostly_latin(text) for text in texts], dtype=np.bool_)
        shares = np.full(len(texts), _SHARE_OF_OTHER_SCRIPTS, dtype=np.float32)
        questions = [text for text, is_latin in zip(texts, latin, strict=True) if is_latin]
        if questions:
            shares[latin] = np.interp(self._evidence(questions), _EVIDENCE, _SHARES)
        return shares

    def _evidence(self, texts: Sequence[str]) -> Float32:
        """Returns the evidence that the first encoder does not know each question's language, float32[len(texts)]."""
        words = np.array([len(_WORD.findall(text)) for text in texts])
        more = np.subtract(self._first.count_pieces(texts), self._second.count_pieces(texts))
        log_odds = [_log_odds(text, self._known, self._others) for text in texts]
        evidence: Float32 = np.array(log_odds, dtype=np.float32) + _PIECES_AS_LOG_ODDS * more / (words + 1)
        return evidence


def query_digest(spec: PassageSpec | NullSpec) -> str:
    """Returns what identifies how a pair weights questions; "" for another encoder. No index depends on it."""
    if not isinstance(spec, SentencePairSpec):
        return ""
    constants = (_SHARES, _SHARE_OF_OTHER_SCRIPTS, _EVIDENCE, _PIECES_AS_LOG_ODDS, _MAX_LOG_ODDS)
    return short_digest(json.dumps((constants, spec.first.languages, spec.second.languages)))


def _log_odds(text: str, known: tuple[str, ...], others: tuple[str, ...]) -> float:
    """Returns the logarithm of the odds that a text is in one of `others`, not in one of `known`; 0 if unclear."""
    if not others:
        return 0.0
    odds = language_probabilities(text, (*known, *others))
    by_group = [max((odds.get(language, 0.0) for language in group), default=0.0) for group in (others, known)]
    other, own = np.log(np.maximum(by_group, 1e-12))
    return float(np.clip(other - own, -_MAX_LOG_ODDS, _MAX_LOG_ODDS))


def is_mostly_latin(text: str) -> bool:
    """Returns whether three quarters of a text's letters are of the Latin script; true for one without letters.

    Three quarters, because a Chinese sentence has few characters beside the Latin names in it.
    """
    letters = [char for char in text if char.isalpha()]
    return 4 * sum(char < "\u0250" or "\u1e00" <= char < "\u1f00" for char in letters) >= 3 * len(letters)
