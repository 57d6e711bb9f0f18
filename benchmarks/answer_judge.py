"""Judges answers by strings alone, independently of the check that the product makes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.answer_index import LabelledQuestion
from penstock.query.generate.types import EXTRACTIVE, CheckedSentence, GeneratedAnswer, Source

_NUMBER = re.compile(
    r"\d.*|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen"
    r"|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|half|twice|once"
)
_NEGATION = re.compile("no|not|never|none|nothing|neither|nor|without|cannot")
_MIN_SHARE = 0.7  # of a sentence's longer words that its source has
_STEM = 4  # letters by which two forms of a word are the same here


@dataclass(slots=True)
class Verdicts:
    """Counts what became of questions.

    Attributes:
        right: answers that contain the fact, and cite its own source first; by what wrote them.
        right_anywhere: those that contain the fact, whatever they cite first.
        wrong: other answers to questions that have one, by what wrote them.
        missed: abstentions where there is an answer.
        abstained: abstentions where there is none.
        false: answers where there is none, by what wrote them.
        shown: sentences that were shown.
        unsupported: sentences that were shown although their source does not have their words, with the question.
        examples: questions with answers that are not right.
    """

    right: Counter[str] = field(default_factory=Counter)
    right_anywhere: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    abstained: int = 0
    false: Counter[str] = field(default_factory=Counter)
    shown: int = 0
    unsupported: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)

    def add(self, question: LabelledQuestion, answer: GeneratedAnswer) -> None:
        """Counts one answer."""
        self._add_sentences(question, answer)
        by = EXTRACTIVE if answer.generator == EXTRACTIVE else "model"
        if not question.answerable:
            self.abstained += answer.abstained
            if not answer.abstained:
                self.false[by] += 1
                self.examples.append(f"{question.question} → {answer.text}")
            return
        if answer.abstained:
            self.missed += 1
            self.examples.append(f"{question.question} → (abstained)")
            return
        has_fact = contains_fact(question, answer)
        self.right_anywhere += has_fact
        if has_fact and answer.sources[0].hit.entry.asset.key == question.source:
            self.right[by] += 1
        else:
            self.wrong[by] += 1
            self.examples.append(f"{question.question} → {answer.text}")

    def figures(self) -> dict[str, object]:
        """Returns the counts as plain JSON values."""
        return {
            "right": dict(self.right),
            "fact_anywhere": self.right_anywhere,
            "wrong": dict(self.wrong),
            "missed": self.missed,
            "abstained": self.abstained,
            "false": dict(self.false),
            "sentences_shown": self.shown,
            "unsupported_shown": self.unsupported,
            "not_right": self.examples,
        }

    def _add_sentences(self, question: LabelledQuestion, answer: GeneratedAnswer) -> None:
        by_number = {source.number: source for source in answer.sources}
        for sentence in answer.sentences:
            self.shown += 1
            cited = [by_number[number] for number in sentence.citations]
            if sentence.support != "no_claim" and not is_stated(sentence, cited):
                self.unsupported.append(f"{question.question} → {sentence.text}")


def contains_fact(question: LabelledQuestion, answer: GeneratedAnswer) -> bool:
    """Returns whether an answer has the fact that the question wants, in one of its spellings."""
    text = answer.text.lower()
    return any(fact.lower() in text for fact in question.answer)


def is_stated(sentence: CheckedSentence, cited: Sequence[Source]) -> bool:
    """Returns whether the cited sources have the numbers, the names, the negations and most words of a sentence."""
    source = " ".join(f"{source.hit.entry.title} {source.text}" for source in cited)
    known = set(_words(source))
    words = _words(sentence.text)
    exact = [word for word in words if _NUMBER.fullmatch(word) or _NEGATION.fullmatch(word)]
    names = [name.lower() for name in re.findall(r"(?<=[a-z,;] )[A-Z]\w+", sentence.text)]
    if not set(exact) <= known or not set(names) <= known:
        return False
    stems = {word[:_STEM] for word in known}
    longer = [word for word in words if len(word) >= _STEM]
    return sum(word[:_STEM] in stems for word in longer) >= _MIN_SHARE * len(longer)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
