"""Steps 4 and 5, generate and verify: a generator writes, and each complete sentence is checked.

Two tasks run beside each other: one receives the text and cuts it into sentences, the other checks these in their
order. So a token is passed on when it arrives, whatever is being checked. The text of a generator is bounded, and so
is what waits between the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from penstock.query.generate.abstain import says_unknown
from penstock.query.generate.answer_trace import AnswerTrace
from penstock.query.generate.draft import (
    CUT,
    INSTRUCTIONS,
    LATE,
    MAX_REPEATED,
    UNKNOWN,
    Draft,
    DraftSentence,
    unchecked,
)
from penstock.query.generate.generators import AnswerGenerator, GeneratorCutError, GeneratorError, GeneratorRun
from penstock.query.generate.prompt import Prompt
from penstock.query.generate.sentences import AnswerSentence, SentenceSplitter
from penstock.query.generate.types import AnswerEvent, Support, TokenEvent
from penstock.query.generate.verify import MAX_CHECK_S, Verifier

# Of a token; models of other scripts write one or two characters with each.
_CHARS_PER_TOKEN = 8
_SUPPORTED = (Support.SUPPORTED, Support.PARTLY)

Put = Callable[[AnswerEvent], None]


@dataclass(slots=True)
class WrittenText:
    """Reports what a generator wrote.

    Attributes:
        run: as the generator reports it.
        chars: characters of all tokens.
        unknown: whether the generator wrote that the sources do not answer the question, before anything they support.
        failure: why it wrote nothing; None: it did.
    """

    run: GeneratorRun
    chars: int = 0
    unknown: bool = False
    failure: str | None = None


class Writing:
    """Lets a generator write one answer.

    Args:
        generator: writes it.
        prompt: for it.
        draft: takes the sentences.
        verifier: checks them.
        trace: of the answer.
        language: of the answer, ISO 639-1.
    """

    def __init__(
        self,
        generator: AnswerGenerator,
        prompt: Prompt,
        draft: Draft,
        verifier: Verifier,
        trace: AnswerTrace,
        *,
        language: str,
    ) -> None:
        self._generator = generator
        self._prompt = prompt
        self._draft = draft
        self._verifier = verifier
        self._trace = trace
        self._splitter = SentenceSplitter(language)
        self._sentences: asyncio.Queue[AnswerSentence | None] = asyncio.Queue()
        self._unfinished: list[AnswerSentence] = []  # what the text ended with
        self._check_s = MAX_CHECK_S
        self._max_chars = prompt.max_tokens * _CHARS_PER_TOKEN
        self.text = WrittenText(GeneratorRun())

    async def run(self, put: Put) -> None:
        """Writes and checks until the generator ends or is stopped. Puts tokens and sentences as they come."""
        receiving = asyncio.create_task(self._receive(put))
        try:
            if await self._check(put):
                await receiving
        finally:
            receiving.cancel()
            await asyncio.wait([receiving])

    # --- the text ----------------------------------------------------------------------------------------------------

    async def _receive(self, put: Put) -> None:
        """Receives the text and cuts it into sentences, of which `None` is after the last."""
        try:
            with self._trace.step("generate"):
                await self._stream(put)
        except GeneratorError as exc:
            self._fail(exc)
        finally:
            try:
                self._unfinished = self._splitter.flush()
                for sentence in self._unfinished:
                    self._sentences.put_nowait(sentence)
            finally:
                self._sentences.put_nowait(None)  # whatever fails, the check must not wait indefinitely

    async def _stream(self, put: Put) -> None:
        async with aclosing(self._generator.stream(self._prompt, self.text.run)) as pieces:
            async for piece in pieces:
                self._trace.end("first_token", since="generate")
                kept = piece[: self._max_chars - self.text.chars]
                self.text.chars += len(kept)
                put(TokenEvent(kept))
                for sentence in self._splitter.feed(kept):
                    self._sentences.put_nowait(sentence)
                if self.text.chars >= self._max_chars:
                    self._cut(f"the generator wrote {self._max_chars:,} characters and was stopped")
                    return

    def _fail(self, exc: GeneratorError) -> None:
        if self.text.chars or isinstance(exc, GeneratorCutError):
            self._cut(f"the answer is not complete: {exc}")
        else:
            self.text.failure = str(exc)

    def _cut(self, notice: str) -> None:
        self._trace.partial = True
        self._trace.note(notice)

    # --- its sentences -----------------------------------------------------------------------------------------------

    async def _check(self, put: Put) -> bool:
        """Checks the sentences in their order. Returns whether that was all, else the generator is to be stopped."""
        while (sentence := await self._sentences.get()) is not None:
            if self._is_cut(sentence):
                put(self._draft.drop(unchecked(sentence, CUT)))
                continue
            because = self._draft.echo(sentence)
            if because is not None and not (because == INSTRUCTIONS and says_unknown(sentence.text)):
                put(self._draft.drop(unchecked(sentence, because)))
                if self._draft.repeated >= MAX_REPEATED:
                    self._cut("the generator repeated itself and was stopped")
                    return False
                continue
            if not await self._verify_in_time(sentence, put):
                return False
        return True

    async def _verify_in_time(self, sentence: AnswerSentence, put: Put) -> bool:
        """Checks a sentence in what is left of the time for all of them. Returns whether the next one may come."""
        clock = asyncio.get_running_loop().time
        began_s = clock()
        try:
            async with asyncio.timeout(max(0.0, self._check_s)):
                return await self._verify(sentence, put)
        except TimeoutError:
            put(self._draft.drop(unchecked(sentence, LATE)))
            self._cut(f"its sentences took more than {MAX_CHECK_S:g} s to check, and the generator was stopped")
            return False
        finally:
            self._check_s -= clock() - began_s

    async def _verify(self, sentence: AnswerSentence, put: Put) -> bool:
        checked = await self._verifier.check(sentence)
        if self._is_unknown(checked):
            self.text.unknown = True
            put(self._draft.drop(checked, UNKNOWN))
            return False
        addition = await self._verifier.addition(checked.checked)
        if addition is not None:
            put(self._draft.drop(checked, addition))
            return True
        for event in self._draft.add(checked, answers=await self._verifier.answers(checked.checked)):
            put(event)
        return True

    def _is_cut(self, sentence: AnswerSentence) -> bool:
        """Returns whether the text ended, before it was complete, within this sentence."""
        ended_early = self._trace.partial or self.text.run.shortened
        return ended_early and sentence in self._unfinished and sentence.text.rstrip()[-1:] not in _ENDS

    def _is_unknown(self, sentence: DraftSentence) -> bool:
        supported = sentence.checked.support in _SUPPORTED
        return not self._draft.answered and not supported and says_unknown(sentence.checked.text)


_ENDS = tuple(".!?…。！？\"'”’»)")
