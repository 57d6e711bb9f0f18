"""Step 6, rerank: reorders the best hits by a model that reads the question and their words, within a budget.

    1 the hits are read in the order of the fusion, in batches as large as the measured pace of the model allows
    2 no batch begins that would not be done in time, and one that is late is given up
    3 those that were read get their places in a new order; all others keep theirs

The score of the model and the score of the fusion are both brought to deviations from their means, and mixed. Hits
without words, such as images, keep their places: only the places of hits with words are dealt out again.

A model that fails costs nothing but its gain: the order of the fusion stays. The budget is that of the request or the
settings, and at most a share of what is left of the deadline, so that the steps after it have the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from penstock.errors import PenstockError, QueryError
from penstock.query.fusion.normalise import Float64, z_score
from penstock.query.options import RerankReport
from penstock.query.reading_pace import ReadingPace
from penstock.query.trace import Trace
from penstock.query.types import Hit, Query
from penstock.records import Float32

logger = logging.getLogger(__name__)

# The share of the model's score. MRR@10 of three sets of texts by log-odds alone and with MaxSim of MiniLM at shares of
# 0.3, 0.5, 0.7 and 1: .816 .827 .828 .836 .825, .588 .601 .599 .591 .563, and .426 .438 .446 .449 .432.
MODEL_SHARE = 0.5
# One call of the model lasts about this long, as the vectors of other searches wait for its end.
BATCH_MS = 25.0
FAILED = (
    "The hits have the order of the fusion, as the reranking model failed; the log of the query plane has the error."
)

NO_MODEL = "Nothing is reranked, as the models of this query plane cannot score passages."


class PassageReader(Protocol):
    """Scores passages against a question. Safe to use by many tasks of one event loop."""

    @property
    def reranks_by(self) -> str | None:
        """Returns the name of its model; None if it has none."""

    def tokens_to_read(self, passages: Sequence[str]) -> Sequence[int]:
        """Returns about how many tokens the model must read of each passage; 0 for one that it has read before."""

    async def score_passages(self, question: str, passages: Sequence[str]) -> Float32:
        """Returns float32[passages], nan for a passage that cannot be scored.

        Raises:
            PenstockError: as `QueryEncoder.encode_text`.
        """


@dataclass(frozen=True, slots=True)
class Reranked:
    """All hits after reranking, with what the model read of them, and a sentence if that was not all."""

    hits: list[Hit]
    report: RerankReport
    because: str | None = None


@dataclass(slots=True)
class _PassageReading:
    """The scores so far of the passages of one search, float64[passages], nan where there is none."""

    scores: Float64
    done: int = 0
    failed: bool = False

    def fail(self) -> None:
        """Drops all scores: those of a model that fails are not trusted."""
        self.failed, self.done = True, 0


class Reranker:
    """Reranks the hits of all searches with one model, whose pace it measures.

    Args:
        reader: the model.
        clock: seconds, monotonic.
        pace: of the model; None: it is not known yet.
    """

    def __init__(self, reader: PassageReader, clock: Callable[[], float], pace: ReadingPace | None = None) -> None:
        self._reader = reader
        self._clock = clock
        self.pace = pace or ReadingPace()

    @property
    def model(self) -> str:
        """The name of the model."""
        return self._reader.reranks_by or ""

    async def rerank(self, hits: Sequence[Hit], question: str, *, top: int, budget_s: float) -> Reranked:
        """Returns all hits, of the first `top` those with words in a new order.

        Args:
            hits: best first.
            question: in words.
            top: number of hits that may change places.
            budget_s: seconds until this returns, by the clock of the event loop. Without any the model is not called.
        """
        began_s = self._clock()
        places = [place for place, hit in enumerate(hits[:top]) if words_of(hit)]
        reading = _PassageReading(np.full(len(places), np.nan))
        if len(places) > 1:
            await self._read(question, [words_of(hits[place]) for place in places], reading, began_s + budget_s)
        report = RerankReport(self.model, reading.done, len(places), (self._clock() - began_s) * 1000)
        reordered = _dealt_out(hits, places[: reading.done], reading.scores[: reading.done])
        return Reranked(reordered, report, _because(reading, len(places), budget_s))

    async def _read(self, question: str, passages: Sequence[str], reading: _PassageReading, ends_s: float) -> None:
        """Scores passages until all are read, the next ones would be late, or the model fails."""
        tokens = self._reader.tokens_to_read(passages)
        try:
            async with asyncio.timeout(max(0.0, ends_s - self._clock())):
                while reading.done < len(passages):
                    left_ms = (ends_s - self._clock()) * 1000
                    fitting = self.pace.fitting(tokens[reading.done :], left_ms=left_ms, batch_ms=BATCH_MS)
                    if not fitting:
                        break
                    part = slice(reading.done, reading.done + fitting)
                    reading.scores[part] = await self._score(question, passages[part], sum(tokens[part]))
                    reading.done = part.stop
        except TimeoutError:
            pass  # what was read before counts
        except PenstockError as exc:
            reading.fail()
            logger.warning("hits keep the order of the fusion: reranking failed (%s)", exc)
        except Exception:
            reading.fail()
            logger.exception("hits keep the order of the fusion: reranking failed unexpectedly")
        if not reading.done and not reading.failed:
            self.pace.skip()

    async def _score(self, question: str, passages: Sequence[str], tokens: int) -> Float32:
        """Returns the scores of one batch, and counts the time that they took."""
        began_s = self._clock()
        finished = False
        try:
            scores = await self._reader.score_passages(question, passages)
            finished = True
        finally:
            self.pace.observe(tokens, (self._clock() - began_s) * 1000, finished=finished)
        return scores


def with_available_model(query: Query, reranker: Reranker | None, trace: Trace) -> Query:
    """Returns the query, without reranking where no model of this plane can do it. The trace has the reason.

    Raises:
        QueryError: the request names a model that the plane does not have.
    """
    options = query.rerank
    if options is None or (reranker is not None and options.model in (None, reranker.model)):
        return query
    if options.model is not None:
        there_is = "it has none" if reranker is None else f"it has {reranker.model}"
        raise QueryError(
            f"the query plane has no reranking model {options.model!r}: {there_is} (auto takes whichever there is)",
            field="/rerank/model",
        )
    trace.add_reason(NO_MODEL)
    return replace(query, rerank=None)


async def rerank_hits(
    hits: list[Hit], query: Query, reranker: Reranker | None, trace: Trace, *, share: float
) -> tuple[list[Hit], RerankReport | None]:
    """Returns the hits in their last order, and what was read; None if the query is not reranked.

    Args:
        hits: best first.
        query: as `with_available_model` returned it.
        reranker: of this plane.
        trace: takes the time and the reason why not all was read.
        share: of what is left of the deadline, the part that this step may take.
    """
    if reranker is None or query.rerank is None or query.text is None:
        return hits, None
    budget_s = min(query.rerank.budget_ms / 1000, share * trace.left_s())
    with trace.step("rerank"):
        reranked = await reranker.rerank(hits, query.text, top=query.rerank.top, budget_s=budget_s)
    if reranked.because is not None:
        trace.add_reason(reranked.because)
    return reranked.hits, reranked.report


def words_of(hit: Hit) -> str:
    """Returns the text of a hit, or the transcript of a moment; empty if it has no words."""
    return (hit.moment.transcript if hit.moment else hit.entry.text).strip()


def order_by_scores(fused: Float64, read: Float64) -> list[int]:
    """Returns rows in their new order, by both scores as deviations from their means.

    Args:
        fused: float64[n], the scores of the fusion.
        read: float64[n], those of the model; nan counts as the lowest. Where all are, the order stays.
    """
    if np.isnan(read).all():
        return list(range(len(read)))
    known = np.where(np.isnan(read), np.nanmin(read), read)
    mixed = (1 - MODEL_SHARE) * z_score(fused) + MODEL_SHARE * z_score(known)
    order: list[int] = np.argsort(-mixed, kind="stable").tolist()
    return order


def _dealt_out(hits: Sequence[Hit], places: Sequence[int], scores: Float64) -> list[Hit]:
    """Gives the places to the hits that held them, by mixed score. The scores of the fusion stay with the places."""
    order = order_by_scores(np.array([hits[place].score for place in places]), scores)
    reordered = list(hits)
    for place, row in zip(places, order, strict=True):
        reordered[place] = replace(hits[places[row]], score=hits[place].score)
    return reordered


def _because(reading: _PassageReading, passages: int, budget_s: float) -> str | None:
    if reading.failed:
        return FAILED
    if passages < 2 or reading.done == passages:
        return None
    had_ms = max(0.0, budget_s) * 1000
    return (
        f"Of {passages} hits with words {reading.done} were reranked within the {had_ms:.0f} ms that there were; the "
        "others keep the places of the fusion."
    )
