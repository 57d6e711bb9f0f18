"""Step 6, rerank: reorders the best hits by a model that reads the question and their words.

The score of the model and the score of the fusion are both brought to deviations from their means, and mixed. Hits
without words, such as images, keep their places: only the places of hits with words are dealt out again.

A model that fails costs nothing but its gain: the order of the fusion stays. It has a share of what is left of the
deadline, so that the steps after it have the rest; a model that is later than that is given up, which the answer says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from penstock.errors import PenstockError
from penstock.query.fusion.normalise import Float64, z_score
from penstock.query.types import Hit
from penstock.records import Float32

logger = logging.getLogger(__name__)

# The share of the model's score. MRR@10 of three sets of texts by log-odds alone and with MaxSim of MiniLM at shares of
# 0.3, 0.5, 0.7 and 1: .816 .827 .828 .836 .825, .588 .601 .599 .591 .563, and .426 .438 .446 .449 .432.
MODEL_SHARE = 0.5

LATE = (
    "The hits have the order of the fusion, as reranking did not end within its share of the deadline "
    "(query.rerank_share)."
)


class PassageReader(Protocol):
    """Scores passages against a question. Safe to use by many tasks of one event loop."""

    async def score_passages(self, question: str, passages: Sequence[str]) -> Float32:
        """Returns float32[passages], nan for a passage that cannot be scored.

        Raises:
            PenstockError: as `QueryEncoder.encode_text`.
        """


async def rerank(
    hits: Sequence[Hit], question: str, reader: PassageReader, *, top: int, timeout_s: float
) -> tuple[list[Hit], str | None]:
    """Returns all hits, of the first `top` those with words in a new order, and a notice if late.

    Args:
        hits: best first.
        question: in words.
        reader: the model.
        top: number of hits that may change places.
        timeout_s: seconds until the order of the fusion has to do, by the clock of the event loop. Without any the
            model is not called.
    """
    places = [place for place, hit in enumerate(hits[:top]) if words_of(hit)]
    if len(places) < 2:
        return list(hits), None
    if timeout_s <= 0:
        return list(hits), LATE
    try:
        async with asyncio.timeout(timeout_s):
            scores = await reader.score_passages(question, [words_of(hits[place]) for place in places])
        return _dealt_out(hits, places, np.asarray(scores, dtype=np.float64)), None
    except TimeoutError:
        return list(hits), LATE
    except PenstockError as exc:
        logger.warning("hits keep the order of the fusion: reranking failed (%s)", exc)
    except Exception:
        logger.exception("hits keep the order of the fusion: reranking failed unexpectedly")
    return list(hits), None


def words_of(hit: Hit) -> str:
    """Returns the text of a hit, or the transcript of a moment; empty if it has no words."""
    return (hit.moment.transcript if hit.moment else hit.entry.text).strip()


def _dealt_out(hits: Sequence[Hit], places: Sequence[int], scores: Float64) -> list[Hit]:
    """Gives the places to the hits that held them, by mixed score. The scores of the fusion stay with the places."""
    if np.isnan(scores).all():
        return list(hits)
    known = np.where(np.isnan(scores), np.nanmin(scores), scores)
    fused = np.array([hits[place].score for place in places])
    mixed = (1 - MODEL_SHARE) * z_score(fused) + MODEL_SHARE * z_score(known)
    reordered = list(hits)
    for place, row in zip(places, np.argsort(-mixed, kind="stable").tolist(), strict=True):
        reordered[place] = replace(hits[places[row]], score=hits[place].score)
    return reordered
