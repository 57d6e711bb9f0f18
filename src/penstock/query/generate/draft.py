"""Collects the sentences of one answer while they are checked: shown, held back, or dropped with the reason.

A sentence that a source supports may still not answer the question. Until one does, those before it are held back, so
that nothing is shown as an answer that is none; if none comes, they are dropped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from penstock.analysis import terms
from penstock.analysis.folding import fold
from penstock.analysis.function_words import content_words
from penstock.config import UnsupportedRule
from penstock.query.generate.numbering import Numbering, with_markers
from penstock.query.generate.prompt import Prompt, PromptMessage
from penstock.query.generate.sentences import AnswerSentence
from penstock.query.generate.types import CheckedSentence, SentenceEvent, Support

NO_ANSWER = "it does not answer the question"
REPEATED = "it repeats a sentence before it"
ECHOED = "it repeats the question"
INSTRUCTIONS = "it repeats the instructions of the generator"
UNKNOWN = "it states that the sources do not answer the question"
LATE = "it was not checked in time"
CUT = "the generator ended in the middle of it"

# Sources have no angle brackets in a prompt, so that these are its own.
_TAG = re.compile(r"</?[a-z]+>")
_SUPPORTED = (Support.SUPPORTED, Support.PARTLY)
# A generator that writes this many sentences again will not stop by itself.
MAX_REPEATED = 3
_MIN_WORDS = 4  # with a topic, of a further sentence: "The answer is …" has fewer
_MIN_INSTRUCTION_WORDS = 4  # fewer words may be a sentence's own


@dataclass(frozen=True, slots=True)
class DraftSentence:
    """A sentence of the draft, with the numbers of the prompt."""

    written: AnswerSentence
    checked: CheckedSentence


class Draft:
    """The sentences of one answer.

    Args:
        numbering: of the sources that are cited.
        unsupported: what becomes of a sentence that no source supports.
        question: which a generator may repeat.

    Attributes:
        numbering: as given.
        shown: with the numbers of the shown answer.
        dropped: with the reason; their numbers are those of the prompt.
        repeated: how many sentences repeated one before them.
        text: the shown sentences, with markers.
        answered: whether one of them answers the question.
    """

    def __init__(self, numbering: Numbering, unsupported: UnsupportedRule, question: str) -> None:
        self.numbering = numbering
        self.shown: list[CheckedSentence] = []
        self.dropped: list[CheckedSentence] = []
        self.repeated = 0
        self.text = ""
        self.answered = False
        self._unsupported = unsupported
        self._question = _folded(question)
        self._question_terms = frozenset(terms(" ".join(content_words(question))))
        self._instructions = ""
        self._tags: frozenset[str] = frozenset()
        self._held: list[DraftSentence] = []
        self._seen: set[str] = set()

    def expect_instructions(self, prompt: Prompt) -> None:
        """Notes the instructions of a prompt and the tags between its parts, which a generator may repeat."""
        texts = [_text(message) for message in prompt.messages]
        self._instructions = _folded(texts[0])
        self._tags = frozenset(tag for text in texts for tag in _TAG.findall(text))

    def echo(self, sentence: AnswerSentence) -> str | None:
        """Returns why a sentence says nothing of its own, and notes it; None: it does, and is to be checked."""
        folded = _folded(sentence.text)
        if folded in self._seen:
            self.repeated += 1
            return REPEATED
        self._seen.add(folded)
        if folded == self._question:
            return ECHOED
        if self._tags.intersection(_TAG.findall(sentence.text)):
            return INSTRUCTIONS
        long_enough = len(folded.split()) >= _MIN_INSTRUCTION_WORDS
        return INSTRUCTIONS if long_enough and folded in self._instructions else None

    def add(self, sentence: DraftSentence, *, answers: bool) -> list[SentenceEvent]:
        """Adds a checked sentence, and returns what is shown or dropped since.

        Supported sentences beside one that answers are shown, too, if they have a word of the question, or after the
        answer if they say enough to be part of it. A word that a source made a generator write is neither.

        Args:
            sentence: its check has ended.
            answers: whether it answers the question, if it is supported.
        """
        checked = sentence.checked
        if checked.support is Support.CONTRADICTED:
            return [self.drop(sentence)]
        if checked.support is Support.UNSUPPORTED and self._unsupported is UnsupportedRule.DROP:
            return [self.drop(sentence)]
        if not answers and checked.support in _SUPPORTED and not self._may_stand_beside(checked.text):
            return [self.drop(sentence, NO_ANSWER)]
        self._held.append(sentence)
        self.answered = self.answered or (answers and checked.support in _SUPPORTED)
        return self._show_held() if self.answered else []

    def _may_stand_beside(self, text: str) -> bool:
        words = frozenset(terms(" ".join(content_words(text))))
        return bool(words & self._question_terms) or (self.answered and len(words) >= _MIN_WORDS)

    def drop(self, sentence: DraftSentence, because: str | None = None) -> SentenceEvent:
        """Drops a sentence, with another reason than that of its check if one is given."""
        checked = sentence.checked if because is None else replace(sentence.checked, because=because)
        self.dropped.append(checked)
        return SentenceEvent(checked, {}, (sentence.written.start, sentence.written.end), dropped=True)

    def drop_held(self) -> list[SentenceEvent]:
        """Drops the sentences that wait for one that answers the question, as none came."""
        held, self._held = self._held, []
        return [self.drop(sentence, NO_ANSWER) for sentence in held]

    def _show_held(self) -> list[SentenceEvent]:
        held, self._held = self._held, []
        return [self._show(sentence) for sentence in held]

    def _show(self, sentence: DraftSentence) -> SentenceEvent:
        checked, sources = self.numbering.number(sentence.checked)
        self.shown.append(checked)
        before = sentence.written.before if "\n" in sentence.written.before else " "
        before = before if self.text else ""
        self.text += before + with_markers(checked.text, checked.citations)
        replaces = sentence.written.start, sentence.written.end
        return SentenceEvent(checked, sources, replaces, dropped=False, before=before)


def unchecked(sentence: AnswerSentence, because: str) -> DraftSentence:
    """Returns a sentence that is dropped without a check."""
    return DraftSentence(sentence, CheckedSentence(sentence.text, (), Support.UNSUPPORTED, 0.0, because=because))


def _text(message: PromptMessage) -> str:
    """Returns the words of a message, of which images may be parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content or () if part.get("type") == "text")


def _folded(text: str) -> str:
    return " ".join(fold(text).split())
