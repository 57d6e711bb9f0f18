"""Tests which words of a conversation are searched besides a question."""

from __future__ import annotations

import pytest

from penstock.query.understand.conversation import MAX_TOPIC_WORDS, topic_of
from penstock.query.understand.understood import ChatMessage, WeightedWords


def user(text: str) -> ChatMessage:
    return ChatMessage("user", text)


@pytest.mark.parametrize(
    ("before", "question", "words"),
    [
        ("Where does the grey heron live?", "What does it eat?", "grey heron live"),
        ("Wann öffnet das Museum am Hafen?", "Und sonntags?", "offnet museum hafen"),
        ("Who plays the oboe?", "And the oboe d'amore?", "plays"),
    ],
)
def test_the_topic_is_what_the_question_before_has_and_this_one_lacks(before: str, question: str, words: str) -> None:
    assert topic_of([user(before)], question) == WeightedWords(words, 0.3)


def test_the_last_question_counts_and_no_answer() -> None:
    messages = [user("heard about bees"), user("heard about herons"), ChatMessage("assistant", "They eat fish.")]

    assert topic_of(messages, "where?") == WeightedWords("heard herons", 0.3)


def test_a_question_without_words_of_its_own_has_no_topic() -> None:
    assert topic_of([user("and what is it?")], "when?") is None
    assert topic_of([], "when?") is None


def test_a_pasted_text_has_the_first_of_its_words() -> None:
    topic = topic_of([user(" ".join(f"word{number}" for number in range(100)))], "when?")

    assert topic is not None
    assert len(topic.text.split()) == MAX_TOPIC_WORDS
