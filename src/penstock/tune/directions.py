"""Defines the directions of search: which vectors are questions, and which are searched.

An index that finds images by images may miss them by words: the vectors of another modality lie outside of what its
graph connects. So each direction is measured by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from penstock.errors import UsageError
from penstock.evaluate.evaluation_set import EvaluationSet
from penstock.evaluate.offline import document_vectors, query_vectors
from penstock.evaluate.vectors import VectorFiles
from penstock.records import COLLECTIONS_OF, Channel, Field, Float32, Modality
from penstock.store.index_trials import buckets_of

# Documents that are questions of their own modality are not in the bank: each would find itself first.
HELD_OUT = 500
MIN_QUERIES = 20
# Two equal vectors differ in the last bits of their cosines, by where they stand in a matrix.
_TIE = 1e-5
_BLOCK = 256
_NEIGHBOURS = 16
_GROWN_BLOCK = 1_024


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """The questions of one modality to the vectors of one channel.

    Attributes:
        name: such as `words → image.joint`.
        queries: float32[m, dim], L2-normalised.
    """

    name: str
    queries: Float32


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """The vectors of one channel, and the directions that search them.

    Attributes:
        channel: such as `image.joint`.
        vectors: float32[n, dim], L2-normalised.
        directions: at least one.
    """

    channel: str
    vectors: Float32
    directions: Sequence[Direction]


@dataclass(frozen=True, slots=True, eq=False)
class ExactAnswers:
    """The answers of an exact search.

    Attributes:
        bank: float32[n, dim].
        queries: float32[m, dim].
        least: float32[m], the score of each question's k-th best vector; -inf where fewer are allowed.
        counts: int64[m], how many can be found: k, or all that are allowed if they are fewer.
    """

    bank: Float32
    queries: Float32
    least: Float32
    counts: npt.NDArray[np.int64]

    def recall(self, query: int, rows: npt.NDArray[np.int64]) -> float:
        """Returns the share of the k best among the first k rows; vectors of equal score are equal.

        Args:
            query: row of the question.
            rows: int64[any], rows of the bank, best first.
        """
        count = int(self.counts[query])
        if not count:
            return 1.0
        scores = self.bank[np.unique(rows[:count])] @ self.queries[query]
        return float((scores >= self.least[query] - _TIE).sum() / count)


def exact_answers(bank: Float32, queries: Float32, *, k: int, below_bucket: int | None = None) -> ExactAnswers:
    """Searches exactly, as FLAT does.

    Args:
        bank: float32[n, dim].
        queries: float32[m, dim].
        k: vectors wanted.
        below_bucket: only vectors of smaller buckets are allowed; None: all.
    """
    allowed = np.ones(len(bank), dtype=np.bool_)
    if below_bucket is not None:
        allowed = buckets_of(len(bank)) < below_bucket
    most = min(k, int(allowed.sum()))
    least = np.full(len(queries), -np.inf, dtype=np.float32)
    if most:
        searched = bank[allowed]
        for start in range(0, len(queries), _BLOCK):
            scores = queries[start : start + _BLOCK] @ searched.T
            least[start : start + _BLOCK] = -np.partition(-scores, most - 1, axis=1)[:, most - 1]
    return ExactAnswers(bank, queries, least, np.full(len(queries), most, dtype=np.int64))


def banks_of_set(dataset: EvaluationSet, vectors: VectorFiles, *, max_queries: int, seed: int) -> list[Bank]:
    """Returns the banks of a set: its texts by its questions, its images by its questions and by images.

    Args:
        dataset: the set.
        vectors: of its profile.
        max_queries: of each direction, drawn by the seed.
        seed: of the draws.

    Raises:
        UsageError: it has too few documents or questions of every kind.
    """
    rng = np.random.default_rng(seed)
    in_words = np.flatnonzero([not query.image for query in dataset.queries])
    chosen_rows = np.sort(rng.permutation(in_words)[:max_queries])
    banks = []
    for modality, field in ((Modality.TEXT, Field.PASSAGE), (Modality.IMAGE, Field.JOINT)):
        rows = dataset.rows_of(modality)
        channel = Channel(COLLECTIONS_OF[modality][0], field)
        if len(rows) < 2 * MIN_QUERIES or len(chosen_rows) < MIN_QUERIES:
            continue
        bank = document_vectors(dataset, channel, rows, vectors)
        directions = [Direction(f"words → {channel}", query_vectors(dataset, channel, vectors, chosen_rows))]
        if modality is Modality.IMAGE:
            held_out, bank = hold_out(bank, min(HELD_OUT, max_queries), seed=seed)
            directions.append(Direction(f"images → {channel}", held_out))
        banks.append(Bank(str(channel), bank, directions))
    if not banks:
        raise UsageError(f"set {dataset.name} has fewer than {MIN_QUERIES} questions in words, or too few documents")
    return banks


def hold_out(bank: Float32, count: int, *, seed: int) -> tuple[Float32, Float32]:
    """Returns vectors that serve as questions, at most a quarter of all, and the others, which are searched."""
    order = np.random.default_rng(seed).permutation(len(bank))
    count = min(count, len(bank) // 4)
    return bank[np.sort(order[:count])], bank[np.sort(order[count:])]


def grown(bank: Bank, count: int, *, seed: int) -> Bank:
    """Returns a bank of more vectors: each further one lies between a real one and another that resembles it.

    Sets of some thousand documents cannot show what an index misses among fifty thousand. The added vectors have the
    spread of the real ones, within and between their neighbourhoods; they belong to no document.
    """
    missing = count - len(bank.vectors)
    if missing <= 0:
        return bank
    rng = np.random.default_rng(seed)
    parts = [bank.vectors]
    for start in range(0, missing, _GROWN_BLOCK):
        size = min(_GROWN_BLOCK, missing - start)
        left = bank.vectors[rng.integers(0, len(bank.vectors), size)]
        similarity = left @ bank.vectors.T
        near = np.argpartition(-similarity, _NEIGHBOURS, axis=1)[:, 1:_NEIGHBOURS]
        right = bank.vectors[near[np.arange(size), rng.integers(0, near.shape[1], size)]]
        share = np.asarray(rng.uniform(0.25, 0.75, (size, 1)), dtype=np.float32)
        mixed = share * left + (1 - share) * right
        spread = np.abs(left - right).mean(axis=1, keepdims=True)
        mixed += spread * rng.standard_normal(mixed.shape, dtype=np.float32)
        parts.append(np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), dtype=np.float32))
    return Bank(bank.channel, np.concatenate(parts), bank.directions)


def joined(banks: Sequence[Bank], *, max_queries: int, seed: int) -> list[Bank]:
    """Returns one bank for each channel, of the vectors and questions of several sets.

    Args:
        banks: of any sets, whose vectors are of the same encoders.
        max_queries: of each direction, drawn by the seed.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    by_channel: dict[str, list[Bank]] = {}
    for bank in banks:
        by_channel.setdefault(bank.channel, []).append(bank)
    result = []
    for channel, parts in by_channel.items():
        queries: dict[str, list[Float32]] = {}
        for direction in (direction for bank in parts for direction in bank.directions):
            queries.setdefault(direction.name, []).append(direction.queries)
        directions = []
        for name, of_sets in queries.items():
            together = np.concatenate(of_sets)
            chosen = np.sort(rng.permutation(len(together))[:max_queries])
            directions.append(Direction(name, together[chosen]))
        result.append(Bank(channel, np.concatenate([bank.vectors for bank in parts]), directions))
    return result
