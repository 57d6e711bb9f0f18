"""Carries the topic of a conversation into a question that only makes sense after it, without a generator.

"What does it eat?" after "Where is the heron?" is searched with the word heron besides, at a small weight: enough for a
text on herons to win among those on eating, too little to matter for a question that stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.analysis.function_words import content_words
from penstock.query.understand.understood import ChatMessage, WeightedWords

TOPIC_WEIGHT = 0.3
MAX_TOPIC_WORDS = 12  # of a question; those of a pasted text would outweigh it together
_USER = "user"


def topic_of(messages: Sequence[ChatMessage], question: str) -> WeightedWords | None:
    """Returns the words of the last question before this one that it lacks; None: there are none.

    Args:
        messages: before the question, the oldest first.
        question: whose words are searched anyway.
    """
    before = next((message.content for message in reversed(messages) if message.role == _USER), "")
    known = set(content_words(question))
    words = [word for word in dict.fromkeys(content_words(before)) if word not in known]
    return WeightedWords(" ".join(words[:MAX_TOPIC_WORDS]), TOPIC_WEIGHT) if words else None
