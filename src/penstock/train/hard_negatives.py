"""Finds hard negatives for questions: documents that the index ranks high and that are not right.

Some of those that rank high are right although no label says it. A candidate that is nearly as close to the question as
the closest right document, or closer, is left out (GISTEmbed, Solatorio, 2024; by a relative margin NV-Retriever,
Moreira et al., 2024). Documents that the same question chose are never negatives.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.records import Float32

IntArray: TypeAlias = npt.NDArray[np.int64]

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class NegativeFilter:
    """The bound above which a candidate counts as perhaps right.

    Attributes:
        kind: absolute: cosine of the right document - margin; relative: that cosine · (1 - margin).
        margin: of either kind.
    """

    kind: Literal["absolute", "relative"] = "relative"
    margin: float = 0.05

    def bound(self, cosine: Float32) -> Float32:
        """Returns the largest cosine that a negative may have, of the same shape as those of the right documents."""
        bounds = cosine - self.margin if self.kind == "absolute" else cosine * (1 - self.margin)
        return np.asarray(bounds, dtype=np.float32)


def mine_negatives(
    questions: Float32,
    documents: Float32,
    chosen: Sequence[Set[int]],
    *,
    count: int,
    depth: int = 50,
    rule: NegativeFilter | None = None,
) -> IntArray:
    """Returns rows of documents, int64[questions, count]: the hardest that pass the filter, -1 where fewer do.

    Args:
        questions: float32[questions, dim], L2-normalised.
        documents: float32[documents, dim], L2-normalised.
        chosen: for each question, the rows of all documents that are right for it or for the same words.
        count: negatives of each question.
        depth: ranks that are looked at.
        rule: says which candidates may be right; None: `NegativeFilter()`.
    """
    rule = rule or NegativeFilter()
    depth = min(depth, len(documents))
    negatives = np.full((len(questions), count), -1, dtype=np.int64)
    for start in range(0, len(questions), _BLOCK):
        cosines = questions[start : start + _BLOCK] @ documents.T
        ranked = np.argpartition(-cosines, depth - 1, axis=1)[:, :depth]
        order = np.argsort(-np.take_along_axis(cosines, ranked, axis=1), axis=1, kind="stable")
        ranked = np.take_along_axis(ranked, order, axis=1)
        for place, rows in enumerate(ranked.tolist()):
            right = chosen[start + place]
            if not right:
                continue
            bound = rule.bound(cosines[place, sorted(right)].max())
            kept = [row for row in rows if row not in right and cosines[place, row] <= bound][:count]
            negatives[start + place, : len(kept)] = kept
    return negatives


def chosen_by_words(words: Sequence[str], right: Sequence[Set[int]]) -> list[Set[int]]:
    """Returns for each question the documents that it or an equal question chose.

    Args:
        words: of the questions.
        right: of each question.
    """
    together: dict[str, set[int]] = {}
    for text, rows in zip(words, right, strict=True):
        together.setdefault(text.casefold().strip(), set()).update(rows)
    return [together[text.casefold().strip()] for text in words]
