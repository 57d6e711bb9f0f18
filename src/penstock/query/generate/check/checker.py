"""Decides for each sentence of an answer which sources support it.

1. A sentence that claims nothing needs no source.
2. The sentences of the sources that share most words with it are compared with it, one by one and with a neighbour.
3. If rules do not find it supported, or contradicted by what it cites, the sentence encoder points to further ones.
4. Citations: sources that say it stay, others leave; if none is left, those that say it come in their place.
5. A verifier, if there is one, has the last word on what rules find supported or partly supported.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial

from penstock.query.generate.check.claims import claims_nothing
from penstock.query.generate.check.comparison import MIN_SUPPORTED, ClaimComparison, compare
from penstock.query.generate.check.long_claims import claim_parts, weakest
from penstock.query.generate.check.sources import Encode, ReadSources, SourceSentence, split_sources
from penstock.query.generate.check.statement import Statement, read_statement
from penstock.query.generate.check.threads import in_thread
from penstock.query.generate.check.verifier import ClaimVerifier, verified
from penstock.query.generate.types import CheckedSentence, Source, Support

logger = logging.getLogger(__name__)

ENCODER_TIMEOUT_S = 1.0  # for the vectors of all sources, which are computed while the generator writes
_CANDIDATES = 3  # sentences of each source that are compared
_MIN_SHARE_OF_BEST = 0.5  # of the words that the best sentence of all sources shares, for one that is not cited
_COSINE_BEHIND_BEST = 0.15
_MAX_CITED = 3  # sources that a sentence cites after repair, unless it cited more that hold
_ORDER = (Support.UNSUPPORTED, Support.CONTRADICTED, Support.PARTLY, Support.SUPPORTED)


@dataclass(frozen=True, slots=True)
class _Finding:
    """The passage of a source that says most of a sentence."""

    source: int
    passage: tuple[SourceSentence, ...]
    comparison: ClaimComparison

    @property
    def key(self) -> tuple[int, float, float]:
        return _ORDER.index(self.comparison.support), self.comparison.score, -len(self.passage)


class SentenceChecker:
    """Checks sentences. Safe to use by many tasks of one event loop.

    Args:
        encode: the sentence encoder; None: rules alone decide.
        verifier: gives a further opinion on what rules support; None: there is none.
        encoder_timeout_s: how long a check waits for vectors, before rules alone decide.
    """

    def __init__(
        self,
        encode: Encode | None = None,
        *,
        encoder_timeout_s: float = ENCODER_TIMEOUT_S,
        verifier: ClaimVerifier | None = None,
    ) -> None:
        self._encode = encode
        self._verifier = verifier
        self._timeout_s = encoder_timeout_s

    async def read(self, sources: Sequence[Source]) -> ReadSources:
        """Returns the sentences of sources. Their vectors are computed in the background; `close` ends that."""
        return ReadSources(sources, self._encode, await in_thread(lambda: split_sources(sources)))

    async def check(self, text: str, written: Sequence[int], sources: ReadSources) -> CheckedSentence:
        """Returns a sentence with its support, and its citations after repair.

        Args:
            text: without markers.
            written: the numbers of its markers; those of no source are left out.
            sources: of the answer.
        """
        parts = claim_parts(text)
        if len(parts) == 1:
            return await self._check(text, written, sources)
        return weakest(text, written, [await self._check(part, written, sources) for part in parts])

    async def _check(self, text: str, written: Sequence[int], sources: ReadSources) -> CheckedSentence:
        by_rules = await in_thread(lambda: _by_rules(text, written, sources))
        if isinstance(by_rules, CheckedSentence):
            checked = by_rules
        else:
            cosines = await self._cosines(text, sources)
            checked = await in_thread(partial(_by_vectors, text, by_rules, written, sources, cosines))
        if self._verifier is None or checked.support not in (Support.SUPPORTED, Support.PARTLY):
            return checked
        passage = " ".join(quote.text for quote in checked.quotes)
        return verified(checked, await self._verifier.verify(passage, text))

    async def _cosines(self, text: str, sources: ReadSources) -> Mapping[int, float]:
        """Returns the cosine of each sentence of the sources, by row; none without vectors in time."""
        if self._encode is None or not sources.sentences or sources.late:
            return {}
        try:
            async with asyncio.timeout(self._timeout_s):
                vectors = await sources.vectors(self._timeout_s)
                if vectors is None:
                    sources.late = True
                    return {}
                (vector,) = await self._encode([text])
        except TimeoutError:
            sources.late = True
            return {}
        except Exception:
            logger.warning("a sentence is checked by rules alone: the encoder failed", exc_info=True)
            return {}
        return dict(enumerate((vectors @ vector).tolist()))


@dataclass(frozen=True, slots=True)
class _Undecided:
    """Holds what rules find of a sentence before its vector is known."""

    claim: Statement
    rows: set[int]
    findings: dict[int, _Finding]


def _by_rules(text: str, written: Sequence[int], sources: ReadSources) -> CheckedSentence | _Undecided:
    """Returns a sentence with its support, if rules alone decide."""
    claim = read_statement(text, sources.language)
    if claims_nothing(text, claim):
        return CheckedSentence(text, (), Support.NO_CLAIM, 1.0, repaired=bool(written))
    rows = _by_words(claim, sources, written)
    findings = _findings(claim, sources, rows, {})
    if not _is_decided(findings, written):
        return _Undecided(claim, rows, findings)
    return _decide(text, claim, tuple(written), findings, sources)


def _by_vectors(
    text: str, by_rules: _Undecided, written: Sequence[int], sources: ReadSources, cosines: Mapping[int, float]
) -> CheckedSentence:
    findings = by_rules.findings
    if cosines:
        rows = by_rules.rows | _by_cosine(cosines, sources, written)
        findings = _findings(by_rules.claim, sources, rows, cosines)
    return _decide(text, by_rules.claim, tuple(written), findings, sources)


# --- candidates ------------------------------------------------------------------------------------------------------


def _by_words(claim: Statement, sources: ReadSources, cited: Sequence[int]) -> set[int]:
    """Returns the rows of the sentences that share most words with a claim: of cited sources, and of all."""
    weights = {word.stem: word.weight for word in claim.content}
    shared = {sentence.row: _shared(weights, claim, sentence) for sentence in sources.sentences}
    least = _MIN_SHARE_OF_BEST * max(shared.values(), default=0.0)
    rows: set[int] = set()
    for number, sentences in sources.of_source.items():
        best = sorted((sentence.row for sentence in sentences), key=lambda row: (-shared[row], row))[:_CANDIDATES]
        rows.update(row for row in best if shared[row] > 0 and (number in cited or shared[row] >= least))
    return rows


def _shared(weights: Mapping[str, float], claim: Statement, sentence: SourceSentence) -> float:
    statement = sentence.statement
    shared = sum(weight for root, weight in weights.items() if root in statement.stems)
    if claim.quantities and statement.quantities:
        shared += sum(any(mine.equals(theirs) for theirs in statement.quantities) for mine in claim.quantities)
    return shared


def _by_cosine(cosines: Mapping[int, float], sources: ReadSources, cited: Sequence[int]) -> set[int]:
    """Returns the rows of the sentences whose vectors are nearest: of cited sources, and of all."""
    least = max(cosines.values()) - _COSINE_BEHIND_BEST
    rows: set[int] = set()
    for number, sentences in sources.of_source.items():
        best = sorted((sentence.row for sentence in sentences), key=lambda row: -cosines[row])[:_CANDIDATES]
        rows.update(row for row in best if number in cited or cosines[row] >= least)
    return rows


def _findings(
    claim: Statement, sources: ReadSources, rows: Iterable[int], cosines: Mapping[int, float]
) -> dict[int, _Finding]:
    """Returns for each source the passage that says most of a claim, by its number."""
    best: dict[int, _Finding] = {}
    for passage in _passages(claim, rows, sources):
        number = passage[0].source
        cosine = max((cosines[sentence.row] for sentence in passage if sentence.row in cosines), default=None)
        finding = _Finding(
            number,
            passage,
            compare(claim, sources.joined(passage), sources.title(number), sources.context(number), cosine),
        )
        if len(passage) > 1:
            finding = replace(finding, comparison=_of_two(claim, finding.comparison))
        if number not in best or _is_better(finding, best[number]):
            best[number] = finding
    return best


def _of_two(claim: Statement, comparison: ClaimComparison) -> ClaimComparison:
    """Returns a comparison with two sentences: what they have of one clause, they may have of different things."""
    if comparison.support is not Support.SUPPORTED or len({word.clause for word in claim.content}) > 1:
        return comparison
    because = "its words stand in two sentences of the source"
    return replace(
        comparison, support=Support.PARTLY, score=min(comparison.score, MIN_SUPPORTED - 0.01), because=because
    )


def _is_better(finding: _Finding, other: _Finding) -> bool:
    """Returns whether a passage decides rather than another one of its source.

    One that supports the claim does; else the one that is more about the same does, whatever it says.
    """
    supports = (finding.comparison.support is Support.SUPPORTED, other.comparison.support is Support.SUPPORTED)
    if supports[0] != supports[1]:
        return supports[0]
    gain = finding.comparison.related - other.comparison.related
    if len(finding.passage) > len(other.passage):
        return gain > _MIN_GAIN
    return gain > 0


_MIN_GAIN = 0.05  # by which two sentences must be more about the same than one


def _passages(claim: Statement, rows: Iterable[int], sources: ReadSources) -> list[tuple[SourceSentence, ...]]:
    """Returns each sentence alone, and then pairs of neighbours of which each has words that the other has not."""
    singles = sorted(rows)
    stems = {word.stem for word in claim.content}
    sentences = sources.sentences
    firsts = sorted({first for row in singles for first in (row - 1, row) if 0 <= first < len(sentences) - 1})
    pairs = [(sentences[first], sentences[first + 1]) for first in firsts]
    return [(sentences[row],) for row in singles] + [
        (first, second)
        for first, second in pairs
        if first.source == second.source and _add_to_each_other(stems, first, second)
    ]


def _add_to_each_other(stems: Set[str], first: SourceSentence, second: SourceSentence) -> bool:
    mine, theirs = stems & first.statement.stems, stems & second.statement.stems
    return not mine <= theirs and not theirs <= mine


# --- citations -------------------------------------------------------------------------------------------------------


def _is_decided(findings: Mapping[int, _Finding], written: Sequence[int]) -> bool:
    """Returns whether the rules need no cosine: a source supports the claim, or what it cites is clearly about it."""
    if any(finding.comparison.support is Support.SUPPORTED for finding in findings.values()):
        return True
    cited = [findings[number].comparison for number in written if number in findings]
    clear = (Support.CONTRADICTED, Support.PARTLY)
    return any(comparison.support in clear and comparison.related >= _SURELY for comparison in cited)


_SURELY = 0.7


def _decide(
    text: str,
    claim: Statement,
    written: tuple[int, ...],
    findings: Mapping[int, _Finding],
    sources: ReadSources,
) -> CheckedSentence:
    """Returns the verdict over all sources, with the citations that hold."""
    cited = [findings[number] for number in dict.fromkeys(written) if number in findings]
    supporting = _with(Support.SUPPORTED, cited) or _with(Support.SUPPORTED, findings.values())[:1]
    if supporting:
        return _checked(text, written, supporting, supporting[0].comparison, sources)
    joint = _joint(claim, findings, sources)
    if joint is not None:
        return _checked(text, written, *joint, sources)
    ranked = sorted(findings.values(), key=lambda finding: -finding.comparison.related)
    opposed = _with(Support.CONTRADICTED, cited) or _with(Support.CONTRADICTED, ranked[:1])
    partly = _with(Support.PARTLY, cited) or _with(Support.PARTLY, ranked)[:1]
    if opposed:
        return _checked(text, written, opposed[:1], opposed[0].comparison, sources)
    if partly:
        return _checked(text, written, partly, partly[0].comparison, sources)
    return _unsupported(text, written, ranked, sources)


def _with(support: Support, findings: Iterable[_Finding]) -> list[_Finding]:
    among = [finding for finding in findings if finding.comparison.support is support]
    return sorted(among, key=lambda finding: -finding.comparison.score)


def _joint(
    claim: Statement, findings: Mapping[int, _Finding], sources: ReadSources
) -> tuple[list[_Finding], ClaimComparison] | None:
    """Returns two sources that say a claim together, which neither says alone; None: no two do."""
    partly = _with(Support.PARTLY, findings.values())[:_MAX_CITED]
    for index, first in enumerate(partly):
        for second in partly[index + 1 :]:
            both = sources.joined((*first.passage, *second.passage))
            comparison = compare(claim, both, both, both, None)
            if comparison.support is Support.SUPPORTED:
                return [first, second], comparison
    return None


def _checked(
    text: str, written: tuple[int, ...], findings: Sequence[_Finding], comparison: ClaimComparison, sources: ReadSources
) -> CheckedSentence:
    findings = sorted(findings, key=lambda finding: finding.source)
    citations = tuple(finding.source for finding in findings)
    return CheckedSentence(
        text,
        citations,
        comparison.support,
        round(comparison.score, 3),
        tuple(sources.quote(finding.passage) for finding in findings),
        repaired=set(citations) != set(written),
        because=comparison.because,
    )


def _unsupported(
    text: str, written: tuple[int, ...], ranked: Sequence[_Finding], sources: ReadSources
) -> CheckedSentence:
    absent = [number for number in written if number not in sources.sources]
    nearest = ranked[0].comparison if ranked else None
    reasons = [f"there is no source {number}" for number in absent]
    reasons.append((nearest.because if nearest is not None else None) or "no source has its words")
    score = 0.0 if nearest is None else nearest.score
    return CheckedSentence(
        text, (), Support.UNSUPPORTED, round(score, 3), repaired=bool(written), because="; ".join(reasons)
    )
