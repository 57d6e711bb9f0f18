"""Answers a question by the sentences of its sources that fit it best, verbatim.

Whether a sentence answers is estimated elsewhere (`answer_check`). Sentences that are about as likely to are ranked by

    cover      share of the question's words that a sentence has, the rare ones among the sources counting more
    around     the same share of its source with its title, for a sentence may rest on those before it
    cosine     of the question and the sentence, by the sentence encoder
    relevance  of the hit

A question in a source answers nothing, and neither does a sentence without a word of its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import regex

from penstock.analysis import query_terms, terms
from penstock.analysis.folding import fold
from penstock.analysis.function_words import content_words
from penstock.query.generate.check.sources import ReadSources, SourceSentence
from penstock.records import Float32

MAX_SENTENCES = 3
ANSWERS = 0.5
_COVER, _AROUND, _COSINE = 0.55, 0.15, 0.3
_UNKNOWN_RELEVANCE = 0.5
_LEAST_RELEVANCE_FACTOR = 0.7
_SHARE_OF_BEST = 0.7  # a further sentence that is worse says something else
_SAME_WORDS = 0.8  # Jaccard's similarity of two sentences that say the same
_LONG_CHARS = 300  # longer ones are mostly transcripts without full stops, which have every word somewhere
_HEADING_WORDS = 6
_QUESTION_MARKS = ("?", "？", "؟")
_ENDS = (".", "!", "…", "。", "！", "।", ";", ":", ")", "”", '"')
# A sentence that begins so speaks of the one before it.
_REFERS_BACK = regex.compile(
    r"(?:it|its|he|she|they|his|her|their|this|that|these|those|there|er|sie|es|dies\w*|il|elle|ils|elles|cela|él|ella"
    r"|ellos|ellas|esto|这|它|他|她)\b",
    regex.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ExtractedSentence:
    """A sentence of a source, verbatim, and how well it fits the question, 0 to 1."""

    sentence: SourceSentence
    score: float


def extract(
    question: str,
    sources: ReadSources,
    answers: Callable[[SourceSentence], float],
    *,
    question_vector: Float32 | None = None,
    sentence_vectors: Float32 | None = None,
    max_sentences: int = MAX_SENTENCES,
) -> tuple[ExtractedSentence, ...]:
    """Returns the sentences that answer a question, in the order in which they are shown; none if none does.

    Args:
        question: its words.
        sources: of the answer.
        answers: estimates the probability that a sentence answers the question.
        question_vector: by the sentence encoder, float32[dim], L2-normalised; None: words alone decide.
        sentence_vectors: of `sources.sentences`, float32[sentences, dim]; None: as above.
        max_sentences: maximum number of sentences.
    """
    fit = _Fit(question, sources, question_vector, sentence_vectors)
    scored: list[ExtractedSentence] = []
    for sentence in filter(fit.may_answer, sources.sentences):
        probability = answers(sentence)
        if probability >= ANSWERS:
            scored.append(ExtractedSentence(sentence, probability * (1 + fit.score(sentence)) / 2))
    scored.sort(key=lambda extracted: (-extracted.score, extracted.sentence.row))
    chosen = _without_repetitions(scored, fit.stems, max_sentences)
    return _readable(_with_antecedent(chosen, sources, max_sentences))


class _Fit:
    """Scores sentences against a question.

    Attributes:
        stems: of each sentence of the sources.
    """

    def __init__(
        self,
        question: str,
        sources: ReadSources,
        question_vector: Float32 | None,
        sentence_vectors: Float32 | None,
    ) -> None:
        self._sources = sources
        self._words = frozenset(query_terms(" ".join(content_words(question)))) or frozenset(query_terms(question))
        self.stems = [_stems(sentence.text) for sentence in sources.sentences]
        self._rarity = _rarity(self._words, self.stems)
        self._cosines: Sequence[float] | None = None
        if question_vector is not None and sentence_vectors is not None:
            self._cosines = [float(cosine) for cosine in sentence_vectors @ question_vector]
        self._around: dict[int, float] = {}

    def may_answer(self, sentence: SourceSentence) -> bool:
        """Returns whether a sentence is no question, and has a word of its own."""
        is_question = sentence.text.rstrip("\"”’')").endswith(_QUESTION_MARKS)
        return not is_question and not self.stems[sentence.row] <= self._words

    def score(self, sentence: SourceSentence) -> float:
        """Returns how well a sentence fits, 0 to 1."""
        cover, cosine = self._cover(self.stems[sentence.row]), self._cosine(sentence)
        around = self._cover_of_source(sentence.source)
        score = _COVER * cover + _AROUND * around
        score = score / (_COVER + _AROUND) if cosine is None else score + _COSINE * min(1.0, max(0.0, cosine))
        relevance = self._sources.sources[sentence.source].hit.relevance
        relevance = _UNKNOWN_RELEVANCE if relevance is None else relevance
        score *= _LEAST_RELEVANCE_FACTOR + (1 - _LEAST_RELEVANCE_FACTOR) * relevance
        return score * _shape(sentence.text)

    def _cosine(self, sentence: SourceSentence) -> float | None:
        return None if self._cosines is None else self._cosines[sentence.row]

    def _cover(self, stems: frozenset[str]) -> float:
        every = sum(self._rarity.values())
        return sum(self._rarity[word] for word in self._words & stems) / every if every else 0.0

    def _cover_of_source(self, number: int) -> float:
        if number not in self._around:
            source = self._sources.sources[number]
            self._around[number] = self._cover(_stems(f"{source.hit.entry.title}\n{source.text}"))
        return self._around[number]


def _stems(text: str) -> frozenset[str]:
    """Returns the stems of the words of a text that carry a topic."""
    return frozenset(terms(" ".join(content_words(text))))


def _rarity(words: frozenset[str], stems: Sequence[frozenset[str]]) -> Mapping[str, float]:
    """Returns the inverse document frequency of each word, with sentences as documents."""
    counts = Counter(word for sentence in stems for word in words & sentence)
    return {word: math.log(1 + (len(stems) + 1) / (counts[word] + 0.5)) for word in words}


def _shape(text: str) -> float:
    """Returns a factor that is less for headings and for text without full stops."""
    heading = not text.rstrip().endswith(_ENDS) and len(text.split()) < _HEADING_WORDS and text.isascii()
    return (0.7 if heading else 1.0) / (1 + max(0, len(text) - _LONG_CHARS) / (2 * _LONG_CHARS))


def _without_repetitions(
    scored: Sequence[ExtractedSentence], stems: Sequence[frozenset[str]], max_sentences: int
) -> list[ExtractedSentence]:
    """Returns the best sentences, of those that say nearly the same the best one."""
    chosen: list[ExtractedSentence] = []
    for extracted in scored:
        if len(chosen) == max_sentences or (chosen and extracted.score < _SHARE_OF_BEST * chosen[0].score):
            break
        if not any(_says_the_same(extracted.sentence, other.sentence, stems) for other in chosen):
            chosen.append(extracted)
    return chosen


def _says_the_same(first: SourceSentence, second: SourceSentence, stems: Sequence[frozenset[str]]) -> bool:
    """Returns whether two sentences have nearly the same words, and the same numbers."""
    shared, every = stems[first.row] & stems[second.row], stems[first.row] | stems[second.row]
    return len(shared) >= _SAME_WORDS * len(every) and _numbers(first.text) == _numbers(second.text)


def _numbers(text: str) -> frozenset[str]:
    return frozenset(word for word in fold(text).split() if any(char.isdigit() for char in word))


def _with_antecedent(
    chosen: Sequence[ExtractedSentence], sources: ReadSources, max_sentences: int
) -> list[ExtractedSentence]:
    """Adds, where there is room, the sentence before the best one if that refers back to it."""
    if not chosen or max_sentences < 2 or not _REFERS_BACK.match(chosen[0].sentence.text):
        return list(chosen)
    of_source = sources.of_source[chosen[0].sentence.source]
    before = next((earlier for earlier in reversed(of_source) if earlier.row < chosen[0].sentence.row), None)
    if before is None or any(extracted.sentence == before for extracted in chosen):
        return list(chosen)
    return [*chosen[: max_sentences - 1], ExtractedSentence(before, chosen[0].score)]


def _readable(chosen: Sequence[ExtractedSentence]) -> tuple[ExtractedSentence, ...]:
    """Returns the sentences by source, that of the best one first, in the order in which each source has them."""

    def order() -> Iterator[int]:
        for extracted in sorted(chosen, key=lambda extracted: -extracted.score):
            yield extracted.sentence.source

    place = {source: position for position, source in enumerate(dict.fromkeys(order()))}
    return tuple(sorted(chosen, key=lambda extracted: (place[extracted.sentence.source], extracted.sentence.row)))
