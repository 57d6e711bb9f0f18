"""Finds the type of answer that a question expects, such as a time, and recognises it in a sentence.

The patterns are data, in `answer_types.toml`. Persons and names are found by capital letters, and counts by the counted
word beside the number.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import regex

from penstock.analysis import terms
from penstock.analysis.folding import fold
from penstock.analysis.function_words import FUNCTION_WORDS, content_words

_FILE = Path(__file__).with_name("answer_types.toml")
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:[-'’.][\p{L}\p{N}]+)*")
_COUNTED = regex.compile(r"\b(?:how many|number of|wie ?viele|combien de|cuánt[oa]s)\s+(.*)", regex.IGNORECASE)
_PERSON_ENDING = regex.compile(
    r"\w{3,}(?:ologists?|icians?|cists?|mists?|nists?|rists?|m[ae]n|wom[ae]n|ineers?|keepers?|makers?)"
)
# The noun behind "which" or "what", which the answer need not repeat, and the adjective behind "how".
_TYPE = regex.compile(
    r"\b(?:which|what)\s+((?!is\b|are\b|was\b|were\b|do\b|does\b|did\b|has\b|have\b|had\b|can\b|will\b)\p{L}+)"
    r"|\bhow\s+(\p{L}+)"
)
_TYPE_NAMES = {
    "temperature": frozenset(("temperature",)),
    "colour": frozenset(("colour", "color", "colours", "colors")),
    "time": frozenset(("day", "days", "time", "date", "month")),
    "year": frozenset(("year", "century")),
    "name": frozenset(("name", "names", "called", "named")),
    "reason": frozenset(("reason", "causes", "cause")),
}
_WHO_FIRST = regex.compile(r"\W*(?:who|wer|qui|quién(?:es)?)\b", regex.IGNORECASE)
_MIN_WORDS = 2  # that say what a question is about; with fewer, the noun behind `which` is one of them
_FIRST_WORDS = 2  # `from where`, `until when`
_PRONOUNS = frozenset(("he", "she", "er", "sie", "il", "elle", "él", "ella"))
_COUNTED_WORDS = 3  # after "how many": `scent cells does a dog's nose`
# Words from a number to what it counts: `three hundred million scent cells`; and from that to the number: `goats: 40`.
_AHEAD, _BEHIND = 4, 2


@dataclass(frozen=True, slots=True)
class AnswerType:
    """A type of answer.

    Attributes:
        name: `money`, `time`, `person` …
        question: the pattern of questions that expect it.
        answer: the pattern of sentences that have it; None: the code decides, or every sentence may.
    """

    name: str
    question: regex.Pattern[str]
    answer: regex.Pattern[str] | None


@dataclass(frozen=True, slots=True)
class _TypeData:
    """The content of the file.

    Attributes:
        types: in the order in which they are tried.
        number: the pattern of a number in digits or words.
        people: folded words for persons.
        first_words: names of types by the words that questions for them begin with.
        question_words: folded words that questions begin with.
        dates: folded names of days and months.
        place_before: folded prepositions, behind which a name is that of a place.
    """

    types: tuple[AnswerType, ...]
    number: regex.Pattern[str]
    people: frozenset[str]
    first_words: Mapping[str, str]
    question_words: frozenset[str]
    dates: frozenset[str]
    place_before: frozenset[str]


@cache
def _data() -> _TypeData:
    data = tomllib.loads(_FILE.read_text("utf-8"))
    number = data["number"]

    def answer_type(row: dict[str, str]) -> AnswerType:
        question, answer = row["question"], row.get("answer", "").replace("{number}", number)
        return AnswerType(row["name"], regex.compile(question), regex.compile(answer) if answer else None)

    return _TypeData(
        tuple(map(answer_type, data["types"])),
        regex.compile(number),
        frozenset(data["people"].split()),
        {word: name for name, words in data["first_words"].items() for word in words.split()},
        frozenset(data["question_words"].split()),
        frozenset(data["dates"].split()),
        frozenset(data["place_before"].split()),
    )


class ExpectedAnswer:
    """Describes the answer that a question expects.

    Args:
        question: its words.

    Attributes:
        name: of its type; None: of another type than those that are known.
        is_question: whether it is one, rather than words to look for.
        names: folded words of the question that are names: an answer is about them.
        words: the folded content words of the question, without those that name the type: `platform` in "from which
            platform".
        predicate: the first of them behind "who", such as `built`; None: no person is expected.
    """

    def __init__(self, question: str) -> None:
        lowered = question.lower()
        answer_type = _type_of(lowered)
        self.name = None if answer_type is None else answer_type.name
        self._answer = None if answer_type is None else answer_type.answer
        self.is_question = answer_type is not None or any(mark in question for mark in "?？؟") or _asks(lowered)
        self.names = frozenset(names_in(question))
        self.words = _without_type(question, self.name)
        self._words = frozenset(content_words(question))
        self.predicate = self.words[0] if self.name == "person" and _WHO_FIRST.match(lowered) and self.words else None
        counted = _COUNTED.search(question)
        self._counted = frozenset(terms(" ".join(_first_run(counted[1])))) if counted else None

    def is_in(self, sentence: str) -> bool:
        """Returns whether a sentence has an answer of the expected type."""
        if self.name == "person":
            return _has_person(sentence, self._words)
        if self.name == "name":
            return any(name not in self._words for name in names_in(sentence))
        if self._answer is None:
            return True
        if self._answer.search(sentence.lower()) is None:
            return False
        return self.name != "count" or self._counts(sentence)

    def adds(self, sentence: str) -> bool:
        """Returns whether a sentence has a word that carries a topic and that the question has not."""
        return not set(terms(" ".join(content_words(sentence)))) <= set(terms(" ".join(self._words)))

    def _counts(self, sentence: str) -> bool:
        """Returns whether what is counted stands beside a number, so that 18 months are no number of goats."""
        if not self._counted:
            return True
        words = [word.lower() for word in _WORD.findall(sentence)]
        stems = [frozenset(terms(word)) for word in words]
        numbers = [place for place, word in enumerate(words) if _data().number.fullmatch(word)]
        return any(
            self._counted & stem for place in numbers for stem in stems[max(0, place - _BEHIND) : place + _AHEAD + 1]
        )


def _first_run(text: str) -> list[str]:
    """Returns the first words of a text that carry a topic, up to one that does not: what "how many" counts."""
    run: list[str] = []
    for word in fold(text).split():
        if word in FUNCTION_WORDS:
            if run:
                break
            continue
        run.append(word)
    return run[:_COUNTED_WORDS]


def _type_of(lowered: str) -> AnswerType | None:
    """Returns the type by the word that a question begins with, else by the first pattern that it has."""
    data = _data()
    for word in lowered.split()[:_FIRST_WORDS]:
        name = data.first_words.get(word.strip("¿?,"))
        if name is not None:
            return next(known for known in data.types if known.name == name)
        if word not in FUNCTION_WORDS:
            break
    return next((known for known in data.types if known.question.search(lowered)), None)


def _asks(lowered: str) -> bool:
    return not _data().question_words.isdisjoint(lowered.split()[:1])


def _without_type(question: str, name: str | None) -> list[str]:
    """Returns the content words of a question but for those that name the type of its answer."""
    lowered = question.lower()
    of_type = {word for match in _TYPE.finditer(lowered) for word in content_words(match[1] or match[2])}
    if name in _TYPE_NAMES:
        of_type |= {word for word in content_words(lowered) if word in _TYPE_NAMES[name]}
    every = content_words(lowered)
    words = [word for word in every if word not in of_type]
    return words if len(set(words)) >= _MIN_WORDS else every


def names_in(text: str, *, places: bool = True) -> list[str]:
    """Returns the folded words with a capital letter, except one that begins a sentence and may be any word.

    Args:
        text: of one or more sentences.
        places: whether those behind a preposition of place are among them.
    """
    names: list[str] = []
    begins, before = True, ""
    for match in _WORD.finditer(text):
        word = match[0]
        is_name = word[:1].isupper() and not begins and word.lower() not in FUNCTION_WORDS
        if is_name and (places or before not in _data().place_before):
            names += content_words(word.removesuffix("'s").removesuffix("’s"))
        # Of a name of two words behind a preposition both are left out.
        before = before if is_name and before in _data().place_before else word.lower()
        begins = text[match.end() : match.end() + 2].strip() in (".", "!", "?", "…", ":")
    return names


def _has_person(sentence: str, known: frozenset[str]) -> bool:
    """Returns whether a sentence names a person, or a kind of people, that the question does not name."""
    words: Sequence[str] = content_words(sentence)
    if sentence == sentence.lower():  # a transcript without capital letters
        return any(word not in known for word in words)
    if not _PRONOUNS.isdisjoint(fold(sentence).split()[:3]):
        return True  # the extract has the sentence before it, too
    if any(word in _data().people or _PERSON_ENDING.fullmatch(word) for word in words if word not in known):
        return True
    if any(name not in known | _data().dates for name in names_in(sentence, places=False)):
        return True
    # Two capital letters at the beginning of a sentence: Marta Lindqvist kept it.
    capitals = [word for word in _WORD.findall(sentence) if word[:1].isupper()]
    return len(capitals) > 1 and sentence.startswith(" ".join(capitals[:2])) and words[0] not in known
