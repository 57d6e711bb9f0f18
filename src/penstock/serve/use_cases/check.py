"""Checks the sentences of any answer against texts and entries."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence

from penstock.errors import OverloadedError, QueryError, UnavailableError
from penstock.query.generate.check import SentenceChecker
from penstock.query.generate.check.sources import MAX_SOURCE_SENTENCES
from penstock.query.generate.check.threads import in_thread
from penstock.query.generate.sentences import split_sentences
from penstock.query.generate.types import CheckedSentence, Source, TimedRange
from penstock.query.types import Hit
from penstock.records import TIMED_COLLECTIONS, Access, AssetRef, Collection, Entry
from penstock.records.entries import bare_entry
from penstock.serve.use_cases.entry_lookup import EntryLookup

MAX_ANSWER_CHARS = 20_000
MAX_SOURCES = 50
MAX_SOURCE_CHARS = 20_000
MAX_ALL_SOURCES_CHARS = 100_000
MAX_SENTENCES = 200
MAX_CHECKS = 4  # concurrently, as they share two threads with the answers
TIMEOUT_S = 10.0  # of a whole check; a sentence takes some milliseconds
RETRY_AFTER_S = 2.0

_ENTRY_ID = re.compile(r"[0-9a-f]{32}")


class CheckService:
    """The use case behind `POST /v1/check`.

    Args:
        checker: of sentences.
        entries: reads those that a request names.
        timeout_s: maximum duration of a check, seconds.

    Attributes:
        running: the number of checks that run.
    """

    def __init__(self, checker: SentenceChecker, entries: EntryLookup, *, timeout_s: float = TIMEOUT_S) -> None:
        self._checker = checker
        self._entries = entries
        self._timeout_s = timeout_s
        self.running = 0

    async def check(self, answer: str, sources: Sequence[str], *, access: Access) -> list[CheckedSentence]:
        """Returns the sentences of an answer with their support. The first source is number 1.

        Args:
            answer: with markers such as `[1]`.
            sources: texts, and ids of entries: 32 hexadecimal digits.
            access: the entries that may be sources.

        Raises:
            QueryError: 422, too much text; 400, there is no such entry that the access allows.
            OverloadedError: too many checks are running.
            UnavailableError: the store does not answer, or the check takes too long.
        """
        _validate(answer, sources)
        if self.running >= MAX_CHECKS:
            raise OverloadedError(
                f"{self.running} checks are running, which is the limit of this replica", retry_after_s=RETRY_AFTER_S
            )
        self.running += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._checked(answer, await self._read(sources, access))
        except TimeoutError as exc:
            detail = f"the check takes more than {self._timeout_s:g} s: send fewer sentences or shorter sources"
            raise UnavailableError(detail) from exc
        finally:
            self.running -= 1

    async def _checked(self, answer: str, sources: Sequence[Source]) -> list[CheckedSentence]:
        sentences = await in_thread(lambda: split_sentences(answer))
        if len(sentences) > MAX_SENTENCES:
            detail = f"answer has {len(sentences):,} sentences, more than {MAX_SENTENCES}"
            raise QueryError(detail, status=422, field="/answer")
        read = await self._checker.read(sources)
        try:
            if len(read.sentences) >= MAX_SOURCE_SENTENCES:
                detail = f"the sources have {MAX_SOURCE_SENTENCES} sentences or more: send fewer of them"
                raise QueryError(detail, status=422, field="/sources")
            return [await self._checker.check(sentence.text, sentence.written, read) for sentence in sentences]
        finally:
            read.close()

    async def _read(self, sources: Sequence[str], access: Access) -> list[Source]:
        ids = [source for source in sources if _ENTRY_ID.fullmatch(source)]
        entries = await self._entries.entries(ids, access) if ids else {}
        read = [_source(number, text, access.tenant, entries) for number, text in enumerate(sources, start=1)]
        chars = sum(len(source.text) for source in read)
        if chars > MAX_ALL_SOURCES_CHARS:
            detail = f"the sources have {chars:,} characters together, more than {MAX_ALL_SOURCES_CHARS:,}"
            raise QueryError(detail, status=422, field="/sources")
        return read


def _validate(answer: str, sources: Sequence[str]) -> None:
    if len(answer) > MAX_ANSWER_CHARS:
        detail = f"answer has {len(answer):,} characters, more than {MAX_ANSWER_CHARS:,}"
        raise QueryError(detail, status=422, field="/answer")
    if len(sources) > MAX_SOURCES:
        detail = f"there are {len(sources)} sources, more than {MAX_SOURCES}"
        raise QueryError(detail, status=422, field="/sources")
    for place, source in enumerate(sources):
        if len(source) > MAX_SOURCE_CHARS:
            detail = f"source {place + 1} has {len(source):,} characters, more than {MAX_SOURCE_CHARS:,}"
            raise QueryError(detail, status=422, field=f"/sources/{place}")


def _source(number: int, text: str, tenant: str, entries: Mapping[str, Entry]) -> Source:
    if not _ENTRY_ID.fullmatch(text):
        entry = bare_entry(AssetRef(tenant, "check", str(number)), Collection.TEXT)
        return Source(number, Hit(entry, 0.0, ()), text)
    if text not in entries:
        raise QueryError(f"there is no entry {text}", field=f"/sources/{number - 1}")
    entry = entries[text]
    words = entry.text or entry.title
    is_timed = entry.collection in TIMED_COLLECTIONS
    times = (TimedRange(0, len(words), entry.start_ms, entry.end_ms),) if is_timed and words else ()
    return Source(number, Hit(entry, 0.0, ()), words, times=times)
