"""A further opinion on a sentence that the rules support: a model that reads it with the quoted passage."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

from penstock.encoders.entailment import Entailment
from penstock.query.generate.types import CheckedSentence, Support

logger = logging.getLogger(__name__)

_CERTAIN = 0.5  # more than all other labels together


class ClaimVerifier(Protocol):
    """Judges whether a passage says a sentence."""

    async def verify(self, passage: str, sentence: str) -> Entailment | None:
        """Returns the probabilities; None: not in time, or it failed. Raises nothing else than cancellation."""


class EntailmentVerifier:
    """Verifies by a model of entailment, in a thread of its own.

    Args:
        judge: returns the probabilities for a passage and a sentence.
        timeout_s: after this time the rules decide.
    """

    def __init__(self, judge: Callable[[str, str], Entailment], *, timeout_s: float) -> None:
        self._judge = judge
        self._timeout_s = timeout_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="verifier")

    async def verify(self, passage: str, sentence: str) -> Entailment | None:
        """Returns the probabilities; None: not in time, or it failed."""
        call = asyncio.get_running_loop().run_in_executor(self._thread, self._judge, passage, sentence)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except TimeoutError:
            return None
        except Exception:
            logger.warning("a sentence is checked by rules alone: the verifier failed", exc_info=True)
            return None


def verified(sentence: CheckedSentence, judged: Entailment | None) -> CheckedSentence:
    """Returns a sentence that rules support, after a further opinion.

    One that is contradicted is; one that is entailed is supported; of others, what rules support is partly supported.
    """
    if judged is None:
        return sentence
    if judged.contradicts > _CERTAIN:
        because = "the verifier finds that the source contradicts it"
        return replace(sentence, support=Support.CONTRADICTED, score=min(sentence.score, 0.1), because=because)
    if judged.entails > _CERTAIN:
        score = max(sentence.score, round(judged.entails, 3))
        return replace(sentence, support=Support.SUPPORTED, score=score, because=None)
    if sentence.support is Support.SUPPORTED:
        because = "the verifier does not find that the source says it"
        return replace(sentence, support=Support.PARTLY, because=because)
    return sentence
