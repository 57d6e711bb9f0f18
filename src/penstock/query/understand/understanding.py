"""Step 2, understand the words: a question is rewritten to stand alone, or corrected; and its synonyms are found.

Nothing here fails a search: what is late or broken leaves the question as it was sent, and `because` says so. Comparing
words with a vocabulary of 100,000 takes milliseconds, so it runs in a thread; the event loop only looks words up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from penstock.config import QuerySettings, SpellingMode
from penstock.observability import metrics
from penstock.query.overload import NOTHING_SHED, SheddableStep, Shedding
from penstock.query.trace import Trace
from penstock.query.types import Query
from penstock.query.understand.conversation import topic_of
from penstock.query.understand.dictionary import Dictionary
from penstock.query.understand.language import detect_language
from penstock.query.understand.rewrite import RewriteError, Rewriter, Rewriting
from penstock.query.understand.spelling import Correction, apply, correct, unknown_words
from penstock.query.understand.synonyms import NO_SYNONYMS, SynonymFile, Synonyms
from penstock.query.understand.understood import RespeltWord, Understood, WeightedWords
from penstock.query.understand.vocabularies import Vocabularies
from penstock.records import Access

# Longer questions are pasted texts, whose spelling is their own.
MAX_SPELT_CHARS = 500
# A synonym counts half of the word that was sent.
SYNONYM_WEIGHT = PARAPHRASE_WEIGHT = 0.5
ORIGINAL_WEIGHT = 1.0
# Beyond its 5 ms, what a busy thread may take before a question is searched as it is.
SPELLING_TIMEOUT_S = 0.1
# The share of the deadline that a slow generator may take; the rest is left for the search.
REWRITE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class WordTools:
    """The parts that understanding uses; each may be absent.

    Attributes:
        vocabularies: of all tenants; None: no word is corrected.
        dictionary: words that are right although no index has them.
        synonyms: None: there are none.
        rewriter: None: there is no generator.
    """

    vocabularies: Vocabularies | None = None
    dictionary: Dictionary | None = None
    synonyms: SynonymFile | None = None
    rewriter: Rewriter | None = None


class Understanding:
    """Understands the words of queries. Belongs to one event loop.

    Args:
        tools: what it uses. `close` does not end them.
        settings: the time for rewriting.
        clock: seconds, monotonic.
    """

    def __init__(self, tools: WordTools, settings: QuerySettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._tools = tools
        self._rewrite_s = settings.rewrite_ms / 1000
        self._clock = clock
        self._dictionary = tools.dictionary or (Dictionary() if tools.vocabularies else None)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="understand")

    async def understand(self, query: Query, trace: Trace, shedding: Shedding = NOTHING_SHED) -> Query:
        """Returns the query with the words that are searched, and in `understood` what was made of them."""
        with trace.step("understand"):
            if query.text is None:
                return query
            rewriting = await self._rewriting(query, query.text, trace, shedding)
            if rewriting is not None:
                understood = _rewritten(query.text, rewriting)
            else:
                understood = _continued(await self._respelt(query, query.text, trace), query, trace)
            if query.understand.synonyms:
                understood = _widened(understood, self._synonyms())
        return replace(query, text=understood.used, understood=understood)

    async def _rewriting(self, query: Query, text: str, trace: Trace, shedding: Shedding) -> Rewriting | None:
        """Returns what the generator made of the question; None without one, or if it is late or broken."""
        rewriter, options = self._tools.rewriter, query.understand
        if rewriter is None or not options.rewrite or shedding.sheds(SheddableStep.REWRITE, trace):
            return None
        timeout_s = min(self._rewrite_s, REWRITE_SHARE * trace.left_s())
        try:
            rewriting = await rewriter.rewrite(text, options.messages, timeout_s=timeout_s)
        except RewriteError as exc:
            trace.add_shortened(f"the question was not rewritten: {exc}")
            metrics.UNDERSTANDING.labels("rewrite", "failed").inc()
            return None
        metrics.UNDERSTANDING.labels("rewrite", "rewritten").inc()
        if rewriting.question != text:
            trace.add_reason(
                f"{rewriting.question!r} was searched, as the generator rewrote the question "
                '("understand": {"rewrite": false} searches it as it was sent)'
            )
        return rewriting

    async def _respelt(self, query: Query, text: str, trace: Trace) -> Understood:
        mode = query.understand.spelling
        corrections = [] if mode is SpellingMode.OFF else await self._corrections(query.access, text, trace)
        if not corrections:
            return Understood(text, text)
        corrected, applied = apply(text, corrections), mode is SpellingMode.APPLY
        words = tuple(RespeltWord(correction.original, correction.corrected, applied) for correction in corrections)
        metrics.UNDERSTANDING.labels("spelling", "applied" if applied else "suggested").inc()
        if not applied:
            return Understood(text, text, spelling=words, did_you_mean=corrected)
        trace.add_reason(
            f"{corrected!r} was searched instead of {text!r} "
            '("understand": {"spelling": "off"} searches it as it was sent)'
        )
        # The words as they were sent are searched, too, where the index has them after all.
        original = WeightedWords(" ".join(word.original for word in words), ORIGINAL_WEIGHT)
        return Understood(text, corrected, spelling=words, extra=(original,))

    async def _corrections(self, access: Access, text: str, trace: Trace) -> list[Correction]:
        """Returns the corrections of a question. A tenant without a vocabulary, as every unknown one, has none."""
        if self._tools.vocabularies is None or self._dictionary is None or len(text) > MAX_SPELT_CHARS:
            return []
        vocabulary = self._tools.vocabularies.get(access)
        if not len(vocabulary):
            return []
        detected = detect_language(text)
        language = None if detected is None else detected.code
        unknown = unknown_words(text, vocabulary, self._dictionary, language)
        if not unknown:
            return []
        comparing = asyncio.get_running_loop().run_in_executor(self._executor, correct, unknown, vocabulary)
        try:
            async with asyncio.timeout(min(SPELLING_TIMEOUT_S, trace.left_s())):
                return await comparing
        except TimeoutError:
            trace.add_shortened("the spelling was not compared with the index, to save time")
            metrics.UNDERSTANDING.labels("spelling", "late").inc()
            return []

    def _synonyms(self) -> Synonyms:
        """Returns the synonyms, and has their file looked at in the thread if that is due."""
        synonyms = self._tools.synonyms
        if synonyms is None:
            return NO_SYNONYMS
        if synonyms.is_due():
            self._executor.submit(synonyms.reload)
        return synonyms.current

    def close(self) -> None:
        """Ends its thread."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _rewritten(text: str, rewriting: Rewriting) -> Understood:
    paraphrases = tuple(WeightedWords(words, PARAPHRASE_WEIGHT) for words in rewriting.paraphrases)
    weight = PARAPHRASE_WEIGHT / max(1, len(paraphrases))  # together they count as one
    extra = tuple(replace(words, weight=weight) for words in paraphrases)
    return Understood(text, rewriting.question, rewritten=rewriting.question, extra=extra)


def _continued(understood: Understood, query: Query, trace: Trace) -> Understood:
    """Adds the topic of the conversation before a question that was not rewritten, for lexical channels alone."""
    options = query.understand
    topic = topic_of(options.messages, understood.used) if options.rewrite else None
    if topic is None:
        return understood
    trace.add_reason(
        f"{topic.text!r} of the question before was searched, too, at a weight of {topic.weight:g} "
        '("understand": {"rewrite": false} searches the question alone)'
    )
    return replace(understood, extra=(*understood.extra, topic))


def _widened(understood: Understood, synonyms: Synonyms) -> Understood:
    """Adds the synonyms of the question that is searched, for lexical channels alone."""
    expansions = synonyms.expand(understood.used)
    if not expansions:
        return understood
    words = dict.fromkeys(word for expansion in expansions.values() for word in expansion)
    metrics.UNDERSTANDING.labels("synonyms", "searched").inc()
    return replace(
        understood,
        synonyms=expansions,
        extra=(*understood.extra, WeightedWords(" ".join(words), SYNONYM_WEIGHT)),
    )
