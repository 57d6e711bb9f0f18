"""Step 5, verify: whether the sources support a sentence, and whether it answers the question."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from penstock.analysis import terms
from penstock.analysis.folding import fold
from penstock.errors import PenstockError
from penstock.query.generate.answer_check import ANSWERS, AnswerCheck
from penstock.query.generate.answer_tools import AnswerTools
from penstock.query.generate.answer_trace import AnswerTrace
from penstock.query.generate.answer_type import names_in
from penstock.query.generate.check.sources import Encode, ReadSources, SourceSentence
from penstock.query.generate.check.threads import in_thread
from penstock.query.generate.draft import DraftSentence
from penstock.query.generate.extractive import extract
from penstock.query.generate.own_words import addition_without_source, foreign_address
from penstock.query.generate.same_words import has
from penstock.query.generate.sentences import AnswerSentence
from penstock.query.generate.types import CheckedSentence, Support
from penstock.records import Float32

logger = logging.getLogger(__name__)

_SUPPORTED = (Support.SUPPORTED, Support.PARTLY)
# For the sentences of one generator, and for those that are quoted. They take less than a second, unless the threads of
# checks are busy.
MAX_CHECK_S = 30.0
# The vectors of eight passages take some 300 ms on two cores; without them the words decide.
VECTORS_S = 2.0


class Verifier:
    """Verifies the sentences of one answer. `close` it once they are.

    Args:
        tools: compare sentences with sources.
        question: that is answered.
        sources: of the answer.
        trace: of the answer.
    """

    def __init__(self, tools: AnswerTools, question: str, sources: ReadSources, trace: AnswerTrace) -> None:
        self._tools = tools
        self._question = question
        self._sources = sources
        self._trace = trace
        self._answer_check: AnswerCheck | None = None
        self._arounds: dict[int, str] = {}
        self._terms: dict[int, frozenset[str]] = {}  # by source
        self._known: frozenset[str] | None = None  # terms of the question and all sources

    async def check(self, sentence: AnswerSentence) -> DraftSentence:
        """Returns a sentence with what the sources say about it."""
        with self._trace.step("check"):
            of_sources = await self._tools.checker.check(sentence.text, sentence.written, self._sources)
            checked = await in_thread(lambda: self._without_invented_names(of_sources))
        return DraftSentence(sentence, checked)

    def _without_invented_names(self, checked: CheckedSentence) -> CheckedSentence:
        """Returns a supported sentence as unsupported if it has a name or a number that no cited source has."""
        if checked.support not in _SUPPORTED:
            return checked
        known = self._terms_of(checked.citations)
        numbers = [word for word in fold(checked.text).split() if any(map(str.isdigit, word))]
        for word in (*names_in(checked.text), *numbers):
            if not all(has(term, known) for term in terms(word)):
                because = f"no source that it cites has {word!r}"
                return replace(checked, support=Support.UNSUPPORTED, citations=(), quotes=(), because=because)
        return checked

    async def addition(self, checked: CheckedSentence) -> str | None:
        """Returns what a sentence of a generator has and no source that it cites; None: nothing that matters."""
        if checked.support is Support.NO_CLAIM:
            return await in_thread(lambda: self._addition_without_source(checked.text))
        part = await in_thread(lambda: foreign_address(checked.text, map(self._around, checked.citations)))
        return None if part is None else f"no source that it cites has {part!r}"

    def _addition_without_source(self, text: str) -> str | None:
        if self._known is None:
            self._known = self._terms_of(self._sources.sources)
        return addition_without_source(text, self._known)

    async def answers(self, sentence: CheckedSentence) -> bool:
        """Returns whether a sentence is supported and answers the question."""
        if sentence.support not in _SUPPORTED:
            return False
        with self._trace.step("check"):
            answer_check = await self._for_question()
            vectors = await _vectors(self._tools.encode, [sentence.text])
            vector = None if vectors is None else vectors[0]
            return await in_thread(lambda: self._is_answer(answer_check, sentence, vector))

    def _is_answer(self, answer_check: AnswerCheck, sentence: CheckedSentence, vector: Float32 | None) -> bool:
        around = [self._around(number) for number in sentence.citations]
        if sentence.support is Support.PARTLY:
            around = [words for words in around if answer_check.is_covered(sentence.text, words)]
        return any(answer_check.probability(sentence.text, words, vector) >= ANSWERS for words in around)

    async def best_sentences(self) -> list[SourceSentence]:
        """Returns the sentences of the sources that answer the question, in the order in which they are quoted."""
        with self._trace.step("check"):
            answer_check = await self._for_question()
            vectors = await self._sources.vectors(VECTORS_S)

            def probability(sentence: SourceSentence) -> float:
                vector = None if vectors is None else vectors[sentence.row]
                return answer_check.probability(sentence.text, self._around(sentence.source), vector)

            extracted = await in_thread(
                lambda: extract(
                    self._question,
                    self._sources,
                    probability,
                    question_vector=answer_check.vector,
                    sentence_vectors=vectors,
                )
            )
        return [sentence.sentence for sentence in extracted]

    def close(self) -> None:
        """Stops reading the sources."""
        self._sources.close()

    def _around(self, number: int) -> str:
        """Returns the words of a source, with its title."""
        if number not in self._arounds:
            source = self._sources.sources[number]
            self._arounds[number] = f"{source.hit.entry.title}\n{source.text}"
        return self._arounds[number]

    def _terms_of(self, numbers: Iterable[int]) -> frozenset[str]:
        """Returns the terms of the question and of some sources."""
        of_sources = []
        for number in numbers:
            if number not in self._terms:
                self._terms[number] = frozenset(terms(self._around(number)))
            of_sources.append(self._terms[number])
        return frozenset(terms(self._question)).union(*of_sources)

    async def _for_question(self) -> AnswerCheck:
        if self._answer_check is None:
            vectors = await _vectors(self._tools.encode_question, [self._question])
            vector = None if vectors is None else vectors[0]
            self._answer_check = await in_thread(lambda: AnswerCheck(self._question, vector))
        return self._answer_check


async def _vectors(encode: Encode | None, texts: Sequence[str]) -> Float32 | None:
    """Returns float32[texts, dim]; None: there is no encoder, or it is overloaded or fails."""
    if encode is None:
        return None
    try:
        return await encode(texts)
    except PenstockError as exc:
        logger.warning("whether a sentence answers the question is judged by its words: %s", exc)
        return None
