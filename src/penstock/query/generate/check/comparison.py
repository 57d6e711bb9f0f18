"""Compares a sentence of an answer with one or two neighbouring sentences of a source, by rules on their words.

1. Words: the share of what the sentence claims that the source has, and the words that it does not have.
2. Contradictions: another number of the same thing, the opposite by negation or by a word, exchanged roles.
3. Verdict: contradicted, supported if all words are there, partly if most are, else unsupported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from penstock.query.generate.check.contradictions import find_contradiction, transposed
from penstock.query.generate.check.matching import Matches, match_words
from penstock.query.generate.check.quantities import NumberVerdict, compare_numbers
from penstock.query.generate.check.statement import Statement
from penstock.query.generate.check.words import LIGHT_WEIGHT
from penstock.query.generate.types import Support

# Chosen on the tuning half of the fixtures, see docs/ask.md.
MIN_SUPPORTED = 0.85  # of the weight of the words
MIN_PARTLY = 0.52
MIN_PARTLY_BY_WORDS = 0.6  # without a cosine
MIN_PARTLY_COSINE = 0.6
MIN_RELATED = 0.45  # a source that says less of a sentence cannot contradict it
MAX_UNRELATED_COSINE = 0.45


@dataclass(frozen=True, slots=True)
class ClaimComparison:
    """The result of comparing a sentence with a passage of a source.

    Attributes:
        support: what the passage says about it.
        score: 0 to 1, how much of it the passage says.
        because: why it is not supported; None if it is.
        related: 0 to 1, how far both are about the same.
    """

    support: Support
    score: float
    because: str | None
    related: float


def compare(
    claim: Statement, passage: Statement, title: Statement, context: Statement, cosine: float | None
) -> ClaimComparison:
    """Returns how a sentence compares with a passage.

    Args:
        claim: the sentence.
        passage: neighbouring sentences of a source.
        title: of the source, which says what its pronouns are about.
        context: all of the source, with its title.
        cosine: of their vectors; None: not known.
    """
    matches = match_words(claim, passage, title, context)
    numbers = compare_numbers(claim, passage, context, matches)
    related = max(matches.coverage, _rescaled(cosine))
    contradiction = numbers.contradiction or find_contradiction(claim, passage, matches)
    if contradiction is not None and related >= MIN_RELATED:
        return ClaimComparison(Support.CONTRADICTED, min(0.1, matches.coverage), contradiction, related)
    order = transposed(claim, passage)
    limits = [] if order is None else [f"the source has “{order[1]} {order[0]}”, not “{order[0]} {order[1]}”"]
    return _verdict(matches, numbers, related, cosine, limits)


def _verdict(
    matches: Matches, numbers: NumberVerdict, related: float, cosine: float | None, limits: Sequence[str]
) -> ClaimComparison:
    coverage = matches.coverage
    reasons = [*_reasons(matches, numbers), *limits]
    because = "; ".join(reasons) or None
    if numbers.missing or matches.foreign_names:
        return ClaimComparison(Support.UNSUPPORTED, min(coverage, MIN_PARTLY - 0.01), because, related)
    foreign = any(word.weight > LIGHT_WEIGHT for word in (*matches.foreign, *matches.away))
    if coverage >= MIN_SUPPORTED and not foreign and not reasons:
        return ClaimComparison(Support.SUPPORTED, coverage, None, related)
    least = MIN_PARTLY_BY_WORDS if cosine is None else MIN_PARTLY
    unrelated = cosine is not None and cosine < MAX_UNRELATED_COSINE
    if (coverage >= least and not unrelated) or (cosine or 0.0) >= MIN_PARTLY_COSINE:
        score = min(max(coverage, cosine or 0.0), MIN_SUPPORTED - 0.01)
        return ClaimComparison(Support.PARTLY, score, because or "the source says it in other words", related)
    reason = because or "the source has few of its words"
    return ClaimComparison(Support.UNSUPPORTED, min(coverage, MIN_PARTLY - 0.01), reason, related)


def _rescaled(cosine: float | None) -> float:
    """Returns how far a cosine shows that two sentences are about the same: unrelated ones have up to 0.3."""
    return 0.0 if cosine is None else max(0.0, (cosine - 0.3) / 0.5)


def _reasons(matches: Matches, numbers: NumberVerdict) -> Iterator[str]:
    if numbers.missing:
        yield f"the source does not have {_listed(numbers.missing)}"
    if matches.foreign_names:
        yield f"the source does not name {_listed([word.text for word in matches.foreign_names])}"
    others = [word.text for word in matches.foreign if not word.is_name and word.weight > LIGHT_WEIGHT]
    if others:
        yield f"the source does not have {_listed(others)}"
    away = [word.text for word in matches.away if word.weight > LIGHT_WEIGHT]
    if away:
        yield f"{_listed(away)} stands elsewhere in the source"
    if numbers.elsewhere:
        yield f"{_listed(numbers.elsewhere)} is in the source, but of something else"
    yield from matches.limits


def _listed(words: Sequence[str]) -> str:
    shown = [f"“{word}”" for word in dict.fromkeys(words)][:4]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
