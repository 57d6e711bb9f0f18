"""One answer: what its steps share, and which of them come one after the other."""

from __future__ import annotations

import asyncio
import uuid

from penstock.config import GenerateSettings
from penstock.observability import metrics
from penstock.query.generate.abstain import GENERATOR_ABSTAINED, NO_WORDS, NOTHING_SUPPORTED, abstention
from penstock.query.generate.answer_tools import AnswerTools
from penstock.query.generate.answer_trace import AnswerTrace
from penstock.query.generate.draft import Draft
from penstock.query.generate.generators import AnswerGenerator, GeneratorRun
from penstock.query.generate.markers import without_markers
from penstock.query.generate.numbering import Numbering
from penstock.query.generate.prompt import Prompt, build_prompt, shown_prompt
from penstock.query.generate.sentences import AnswerSentence
from penstock.query.generate.types import EXTRACTIVE, GeneratedAnswer, Source, TokenEvent
from penstock.query.generate.validate import Question
from penstock.query.generate.verify import MAX_CHECK_S, Verifier
from penstock.query.generate.writing import Put, Writing
from penstock.query.types import SearchResult

_ENGLISH = "en"
_IMAGES_S = 1.0  # to read and scale a few images; decoding one of 12 megapixels takes a tenth of that


class Answering:
    """Writes one answer.

    Args:
        question: that is answered.
        result: of its search.
        sources: of its hits.
        tools: generate and check.
        settings: of answers.
        trace: of the answer.

    Attributes:
        id: of the answer, 32 hexadecimal digits.
    """

    def __init__(
        self,
        question: Question,
        result: SearchResult,
        sources: tuple[Source, ...],
        *,
        tools: AnswerTools,
        settings: GenerateSettings,
        trace: AnswerTrace,
    ) -> None:
        self.id = uuid.uuid4().hex
        self._question = question
        self._result = result
        self._sources = sources
        self._tools = tools
        self._settings = settings
        self._trace = trace
        self._text = _words_of(question, result)
        self._language = question.answer_in or result.language or _ENGLISH
        self._draft = Draft(Numbering(sources), settings.unsupported, self._text)
        self._run = GeneratorRun()
        self._chars = 0  # of all tokens
        self._generator = EXTRACTIVE
        self._why: str | None = None
        self._seen: tuple[tuple[Source, ...], tuple[bytes, ...]] = (sources, ())  # what the generator reads and sees

    async def write(self, put: Put) -> None:
        """Writes and verifies the answer, and puts its events as they come."""
        self._why = self._why_not()
        if self._why is not None:
            return
        tools = self._tools
        sources = await tools.checker.read(self._sources)
        verifier = Verifier(tools, self._text, sources, self._trace)
        try:
            if tools.generator is not None and not self._question.extractive:
                await self._generate(tools.generator, verifier, put)
            if not self._draft.answered and self._why is None:
                await self._quote_in_time(verifier, put)
        finally:
            verifier.close()

    def _why_not(self) -> str | None:
        """Returns why the question cannot be answered at all; None: it may be."""
        if self._result.nothing_found:
            return self._result.why or NOTHING_SUPPORTED
        return None if self._sources else NO_WORDS

    async def _generate(self, generator: AnswerGenerator, verifier: Verifier, put: Put) -> None:
        self._seen = await self._with_images()
        prompt = self._prompt()
        for notice in prompt.notices:
            self._trace.note(notice)
        self._draft.expect_instructions(prompt)
        writing = Writing(generator, prompt, self._draft, verifier, self._trace, language=self._language)
        await writing.run(put)
        self._chars, self._run = writing.text.chars, writing.text.run
        for event in self._draft.drop_held():
            put(event)
        self._generator = generator.name
        if writing.text.unknown:
            self._why = GENERATOR_ABSTAINED
        elif writing.text.failure is not None:
            self._trace.note(f"no answer was generated, so the sources are quoted: {writing.text.failure}")
        elif not self._draft.answered:
            self._trace.note("the sources support no sentence of the generator that answers the question")

    def _prompt(self) -> Prompt:
        sources, images = self._seen
        return build_prompt(
            self._text,
            sources,
            self._settings,
            history=self._question.history,
            profile=self._question.profile,
            language=self._question.answer_in,
            images=images,
            template=self._tools.template,
        )

    async def _with_images(self) -> tuple[tuple[Source, ...], tuple[bytes, ...]]:
        """Returns the sources with their images, and those of the question, as far as the generator sees images."""
        if self._tools.images is None:
            return self._sources, ()
        searched = self._question.search.image
        images = self._question.images
        if searched is not None and searched not in images:
            images = (searched, *images)
        return await self._tools.images.add(self._sources, images, timeout_s=_IMAGES_S)

    async def _quote_in_time(self, verifier: Verifier, put: Put) -> None:
        try:
            async with asyncio.timeout(MAX_CHECK_S):
                await self._quote(verifier, put)
        except TimeoutError:
            self._trace.partial = True
            self._trace.note(f"the sentences of the sources took more than {MAX_CHECK_S:g} s to check")

    async def _quote(self, verifier: Verifier, put: Put) -> None:
        """Quotes the sentences of the sources that answer the question best, each with its marker only."""
        separator = "\n\n" if self._chars else ""
        for quoted in await verifier.best_sentences():
            words, _ = without_markers(quoted.text)  # those of a source are not of this answer
            text = f"{separator}{words} [{quoted.source}]"
            put(TokenEvent(text))
            start = self._chars + len(separator)
            self._chars += len(text)
            checked = await verifier.check(AnswerSentence(words, (quoted.source,), start, self._chars))
            for event in self._draft.add(checked, answers=True):
                put(event)
            separator = " "
        if self._draft.answered:
            self._generator = EXTRACTIVE

    def complete(self) -> GeneratedAnswer:
        """Returns the answer, once it is written."""
        draft, numbering = self._draft, self._draft.numbering
        abstained = not draft.answered
        text = draft.text
        if abstained:
            self._why = self._why or NOTHING_SUPPORTED
            text = abstention(self._sources, numbering, self._language)
        self._count(abstained)
        return GeneratedAnswer(
            id=self.id,
            text=text,
            sentences=tuple(draft.shown),
            sources=numbering.cited,
            also=numbering.others,
            dropped=tuple(draft.dropped),
            abstained=abstained,
            why=self._why if abstained else None,
            generator=self._generator,
            usage=self._run.usage,
            partial=self._trace.partial or self._result.partial,
            notices=(*self._result.notices, *self._trace.notices),
            search=self._result,
            took_ms=self._trace.publish(self._result.took_ms),
            prompt=shown_prompt(self._prompt()) if self._question.search.explain else None,
        )

    def _count(self, abstained: bool) -> None:
        wrote = EXTRACTIVE if self._generator == EXTRACTIVE else "model"
        result = "abstained" if abstained else "partial" if self._trace.partial else "answered"
        metrics.ANSWERS.labels("none" if abstained else wrote, result).inc()
        for sentences, shown in ((self._draft.shown, "shown"), (self._draft.dropped, "dropped")):
            for sentence in sentences:
                metrics.ANSWER_SENTENCES.labels(sentence.support, shown).inc()


def _words_of(question: Question, result: SearchResult) -> str:
    """Returns the question that is answered: the one that stands alone, if the search has rewritten it."""
    rewritten = None if result.understood is None else result.understood.rewritten
    return rewritten or question.text or result.transcript or ""
