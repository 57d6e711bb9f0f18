"""Answers a question in steps, each in a file of its own.

    1 check     a request → a question, and what is searched for it (`validate`)
    2 search    as /v1/search does it; if nothing was found, the answer says so (`abstain`)
    3 read      hits → sources, their words (`sources`), and the sentences of these (`check`)
    4 generate  a text that cites them, by a generator (`writing`), or their best sentences (`quoting`)
    5 verify    each sentence as it completes: whether a source supports it (`check`), and whether it answers the
                question (`answer_check`); then it is shown, marked, held back or dropped (`draft`)
    6 number    citations 1, 2 … in the order of first use (`numbering`)

A generator that writes nothing, or nothing that the sources support, has the best sentences of the sources in its
place. If these do not answer the question either, the answer abstains.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from penstock.config import GenerateSettings, QuerySettings
from penstock.query.generate.answer_tools import AnswerTools
from penstock.query.generate.answer_trace import AnswerTrace
from penstock.query.generate.answering import Answering
from penstock.query.generate.event_queue import events_of
from penstock.query.generate.types import AnswerEvent, AskRequest, DoneEvent, SearchEvent
from penstock.query.generate.validate import check_request
from penstock.query.result_cache import Searches


class AnswerPipeline:
    """Answers questions. Belongs to one event loop.

    Args:
        searches: answers the search of each question, such as the service behind `/v1/search`.
        tools: read sources, generate and check.
        settings: of answers.
        limits: of searches.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        searches: Searches,
        tools: AnswerTools,
        settings: GenerateSettings,
        limits: QuerySettings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._searches = searches
        self._tools = tools
        self._settings = settings
        self._limits = limits
        self._clock = clock

    async def answer(self, request: AskRequest) -> AsyncGenerator[AnswerEvent, None]:
        """Yields the search, the tokens and the checked sentences as they come, and at last the answer.

        Closing the iterator (`aclose`) cancels everything that runs for it, a request to the generator too.

        Raises:
            QueryError: the request is invalid; before the first event, as the others.
            OverloadedError: too many searches are running.
            UnavailableError: no channel answered in time.
        """
        trace = AnswerTrace(self._clock)
        generator = self._tools.generator
        model = None if generator is None else generator.name
        question = check_request(request, self._settings, self._limits, model=model)
        with trace.step("search"):
            result = await self._searches.search(question.search)
        with trace.step("read"):
            sources = await self._tools.sources.read(
                result.hits, access=question.search.access, max_sources=question.max_sources
            )
        answering = Answering(question, result, sources, tools=self._tools, settings=self._settings, trace=trace)
        yield SearchEvent(answering.id, result, sources)
        async with aclosing(events_of(answering.write)) as events:
            async for event in events:
                yield event
        yield DoneEvent(answering.complete())

    async def close(self) -> None:
        """Ends the connections of its generator."""
        if self._tools.generator is not None:
            await self._tools.generator.close()
