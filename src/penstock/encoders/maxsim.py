"""MaxSim: late interaction of a question with passages, over the token vectors of the sentence encoder.

Each token of the question takes the cosine with its most similar token of the passage; the score is their mean. Method:
Khattab and Zaharia, "ColBERT" (2020), here with a sentence encoder that was not trained for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from penstock.encoders.base import TokenEncoder
from penstock.encoders.profiles import PASSAGE_QUERY, PASSAGE_TEXT, MaxSimSpec
from penstock.records import EncoderInput, Float32

Float16: TypeAlias = NDArray[np.float16]

# Some 4,000 passages of 80 tokens and 384 dimensions.
DEFAULT_CACHE_BYTES = 256 * 2**20
# The passages of one question come in several batches, those of concurrent questions between them.
_QUESTIONS = 64


def maxsim(question: Float32, passages: Sequence[Float32 | Float16]) -> Float32:
    """Returns the score of a question against each passage, float32[len(passages)], -1 to 1.

    Args:
        question: float32[tokens, dim], L2-normalised.
        passages: float[tokens, dim] each, L2-normalised. One without tokens scores 0, as does every passage where the
            question has none.
    """
    scores = np.zeros(len(passages), dtype=np.float32)
    rows = [row for row, passage in enumerate(passages) if len(passage)]
    if rows and len(question):
        lengths = [len(passages[row]) for row in rows]
        tokens = np.concatenate([passages[row] for row in rows]).astype(np.float32)
        starts = np.cumsum([0, *lengths[:-1]])
        scores[rows] = np.maximum.reduceat(question @ tokens.T, starts, axis=1).mean(axis=0)
    return scores


class TokenVectorCache:
    """Keeps token vectors as float16, the recently used ones, up to a number of bytes. Not thread-safe.

    Args:
        max_bytes: of all vectors together; 0 keeps none.
    """

    def __init__(self, max_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self._vectors: LRUCache[str, Float16] = LRUCache(max_bytes, getsizeof=_size_bytes)

    def __contains__(self, key: str) -> bool:
        return key in self._vectors

    @property
    def size_bytes(self) -> int:
        """Returns the bytes in use."""
        return int(self._vectors.currsize)

    def get(self, key: str) -> Float16 | None:
        """Returns float16[tokens, dim] if it is known."""
        return self._vectors.get(key)

    def store(self, key: str, vectors: Float32) -> Float16:
        """Keeps float32[tokens, dim], and returns it as float16. One larger than the cache is not kept."""
        small = vectors.astype(np.float16)
        if _size_bytes(small) <= self._vectors.maxsize:
            self._vectors[key] = small
        return small


@dataclass(frozen=True, slots=True)
class PassageScores:
    """The scores of a question against passages.

    Attributes:
        scores: float32[passages], of MaxSim -1 to 1, of a cross-encoder 0 to 1; nan for a passage that was not scored.
        encoded: passages that the model read for this call.
        known: passages whose token vectors came from the cache.
    """

    scores: Float32
    encoded: int
    known: int


class MaxSimScorer:
    """Scores passages against a question, with a cache of the passages' token vectors. Not thread-safe.

    Args:
        encoder: the sentence encoder.
        cache: of token vectors of this encoder alone.
    """

    def __init__(self, encoder: TokenEncoder, cache: TokenVectorCache) -> None:
        self._encoder = encoder
        self._cache = cache
        self._questions: LRUCache[str, Float32] = LRUCache(_QUESTIONS)

    @property
    def name(self) -> str:
        """The name of the model."""
        return MaxSimSpec().name

    def tokens_to_read(self, passages: Sequence[str]) -> list[int]:
        """Returns about how many tokens the encoder must read of each; 0 for cached ones. Any thread may call it."""
        return [0 if text_key(passage) in self._cache else estimated_tokens(passage) for passage in passages]

    def known(self, passages: Sequence[str]) -> int:
        """Returns the number of passages whose token vectors are in the cache."""
        return sum(text_key(passage) in self._cache for passage in passages)

    def score(self, question: str, passages: Sequence[str], *, max_new: int | None = None) -> PassageScores:
        """Scores passages against a question.

        Args:
            question: as the user wrote it; the encoder puts its prompt before it.
            passages: texts, the most important ones first.
            max_new: passages that may be encoded in this call; the first unknown ones are. None: all.

        Raises:
            OverloadedError, WorkerBrokenError: as `Encoder.encode`.
        """
        keys = [text_key(passage) for passage in passages]
        vectors = {key: known for key in keys if (known := self._cache.get(key)) is not None}
        unknown = {key: text for key, text in zip(keys, passages, strict=True) if key not in vectors}
        known_passages = sum(key in vectors for key in keys)
        query = self._question(question)
        scores = np.full(len(keys), np.nan, dtype=np.float32)
        if query is None:
            return PassageScores(scores, 0, known_passages)
        new = list(unknown.items())[:max_new]
        if new:
            batch = EncoderInput(PASSAGE_TEXT, tuple(key for key, _ in new), texts=tuple(text for _, text in new))
            for key, tokens in zip(batch.keys, self._encoder.encode_tokens(batch), strict=True):
                if tokens is not None:
                    vectors[key] = self._cache.store(key, tokens)
        rows = [row for row, key in enumerate(keys) if key in vectors]
        scores[rows] = maxsim(query, [vectors[keys[row]] for row in rows])
        return PassageScores(scores, len(new), known_passages)

    def _question(self, question: str) -> Float32 | None:
        """Returns float32[tokens, dim]; None for a question on which the encoder fails."""
        key = text_key(question)
        known: Float32 | None = self._questions.get(key)
        if known is None:
            known = self._encoder.encode_tokens(EncoderInput(PASSAGE_QUERY, (key,), texts=(question,)))[0]
            if known is not None:
                self._questions[key] = known
        return known


def estimated_tokens(text: str) -> int:
    """Returns about how many tokens a text has: one for each four bytes of UTF-8."""
    return len(text.encode()) // 4 + 1


def text_key(text: str) -> str:
    """Returns the content key of a text."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _size_bytes(vectors: Float16) -> int:
    return vectors.nbytes + 200  # with the array's own overhead and its key
