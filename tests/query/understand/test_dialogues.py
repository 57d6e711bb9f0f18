"""Tests that a follow-up finds what the question that stands alone finds, in ten conversations about the samples."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from penstock.config import QuerySettings
from penstock.query.trace import Trace
from penstock.query.types import SearchRequest
from penstock.query.understand.rewrite import Rewriter, Rewriting, checked_rewriting
from penstock.query.understand.understanding import Understanding, WordTools
from penstock.query.understand.understood import ChatMessage, UnderstandRequest, WeightedWords
from penstock.query.understand.validate import validate
from penstock.query.weighted_words import search_weighted
from penstock.records import Access, AssetRef, Channel, Collection, Field, bare_entry
from penstock.samples.texts import sample_texts
from penstock.store.base import EntryQuery
from penstock.store.memory import MemoryStore
from tests.clock import Clock
from tests.store.builders import spec


@dataclass(frozen=True)
class Dialogue:
    """A question, its answer, a follow-up, and the same as a question that stands alone."""

    question: str
    answer: str
    follow_up: str
    alone: str


DIALOGUES = (
    Dialogue(
        "How long is a giraffe's neck?", "It has seven bones.", "And how does it drink?", "How does a giraffe drink?"
    ),
    Dialogue(
        "Who dances on the comb?",
        "The honeybee.",
        "What does the angle tell?",
        "What does the angle of a honeybee's dance tell?",
    ),
    Dialogue("What is in a camel's hump?", "Fat.", "How much can it drink?", "How much can a thirsty camel drink?"),
    Dialogue("Why are flamingos pink?", "From algae.", "What colour do they hatch?", "What colour do flamingos hatch?"),
    Dialogue(
        "When was the first traffic light set up?",
        "In 1868.",
        "What became of it?",
        "What became of the first traffic light in London?",
    ),
    Dialogue(
        "How hot should water for green tea be?",
        "Eighty degrees.",
        "And for black?",
        "How hot should water for black tea be?",
    ),
    Dialogue("What are Saturn's rings made of?", "Of ice.", "How old are they?", "How old are the rings of Saturn?"),
    Dialogue(
        "Who invented the stethoscope?",
        "A French doctor.",
        "What did he roll up?",
        "What did the doctor roll up before the stethoscope?",
    ),
    Dialogue(
        "What does a beaver build?",
        "A dam.",
        "Which animals move in?",
        "Which animals move in after beavers built a dam?",
    ),
    Dialogue(
        "Why does popcorn pop?",
        "Steam bursts the shell.",
        "At which temperature?",
        "At which temperature does popcorn pop?",
    ),
)


class RewritingDouble(Rewriter):
    """Writes the question that stands alone, as far as the product lets a generator write it."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue

    async def rewrite(self, question: str, messages: Sequence[ChatMessage], *, timeout_s: float) -> Rewriting:
        return checked_rewriting(f"1. {self._dialogue.alone}", question, messages)

    async def close(self) -> None:
        return


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    store = MemoryStore()
    store.ensure(spec())
    entries = [
        replace(bare_entry(AssetRef("a", "docs", text.key), Collection.TEXT), text=text.text, title=text.title)
        for text in sample_texts()
    ]
    store.upsert(Collection.TEXT, entries)
    return store


def best(store: MemoryStore, text: str, tools: WordTools, messages: Sequence[ChatMessage] = ()) -> str:
    """Returns the key of the text that lexical search finds first."""
    settings = QuerySettings()
    request = SearchRequest(
        text=text, access=Access.to_all_of("a"), understand=UnderstandRequest(messages=tuple(messages))
    )

    async def understand() -> EntryQuery:
        understanding = Understanding(tools, settings)
        query = await understanding.understand(validate(request, settings), Trace(Clock()))
        understanding.close()
        assert query.understood is not None
        extra.extend(query.understood.extra)
        return EntryQuery(
            Channel(Collection.TEXT, Field.LEXICAL),
            query.text or "",
            Access.to_all_of("a"),
            None,
            limit=10,
            timeout_s=5.0,
        )

    extra: list[WeightedWords] = []
    return search_weighted(store, asyncio.run(understand()), extra)[0].entry.asset.key


def matches(store: MemoryStore, dialogue: Dialogue, tools: WordTools) -> bool:
    messages = (ChatMessage("user", dialogue.question), ChatMessage("assistant", dialogue.answer))
    return best(store, dialogue.follow_up, tools, messages) == best(store, dialogue.alone, WordTools())


def test_a_rewritten_follow_up_finds_what_the_question_that_stands_alone_finds(store: MemoryStore) -> None:
    right = [matches(store, dialogue, WordTools(rewriter=RewritingDouble(dialogue))) for dialogue in DIALOGUES]

    assert sum(right) >= 8


def test_the_topic_of_the_question_before_helps_where_no_generator_rewrites(store: MemoryStore) -> None:
    with_topic = [matches(store, dialogue, WordTools()) for dialogue in DIALOGUES]
    alone = [
        best(store, dialogue.follow_up, WordTools()) == best(store, dialogue.alone, WordTools())
        for dialogue in DIALOGUES
    ]

    assert sum(with_topic) > sum(alone)
    assert sum(with_topic) >= 6
