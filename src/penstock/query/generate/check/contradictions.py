"""Finds where a passage contradicts a claim: by a negation, a word of opposite meaning, or exchanged roles.

A negation counts only in the clause of the passage that is most like its clause of the claim, and only if what it
negates is in both, or nearly everything else of the clause is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from penstock.query.generate.check.lexicon import opposites
from penstock.query.generate.check.matching import Matches
from penstock.query.generate.check.statement import Negation, Statement, positive_stem
from penstock.query.generate.check.words import LIGHT_WEIGHT, Word

_MIN_CLAUSE_SHARED = 0.6  # of the words of a clause, where the negated word itself is another
_MIN_OWN_SHARED = 0.4  # of the clauses of the claim that a negation of the passage would contradict
_MIN_ALIKE = 0.8  # of all words, where a negation is about none of them
_MAX_ROLE_WORDS = 14  # triples of more words are too many, and sentences as long are reordered often


def find_contradiction(claim: Statement, passage: Statement, matches: Matches) -> str | None:
    """Returns why a passage contradicts a claim, in words; None if it does not."""
    swaps = list(_opposite_words(claim, passage, matches))
    return (
        _by_negation(claim, passage, matches, swaps)
        or _by_opposites(claim, passage, matches, swaps)
        or _by_roles(claim, passage, matches, swaps)
    )


# --- opposites -------------------------------------------------------------------------------------------------------


def _opposite_words(claim: Statement, passage: Statement, matches: Matches) -> Iterator[tuple[Word, Word]]:
    """Yields the words of a claim with the opposite that the passage has in the same clause instead."""
    for word in claim.content:
        rivals = [other for other in passage.content if _are_opposite(word, other)]
        if not rivals:
            continue
        aligned = _aligned(claim, word.clause, passage, matches, without=word)
        same = matches.same.get(word.place, ())
        for rival in rivals:
            in_same_clause = rival.clause in aligned
            if in_same_clause and not any(other.clause in aligned for other in same):
                if not any(other.stem == rival.stem for other in claim.content):
                    yield word, rival
                    break
                if same and rival.clause in aligned:
                    yield word, rival
                    break


def _are_opposite(word: Word, other: Word) -> bool:
    if other.stem in opposites().get(word.stem, ()):
        return True
    return positive_stem(word) == other.stem or positive_stem(other) == word.stem


def _by_opposites(
    claim: Statement, passage: Statement, matches: Matches, swaps: Sequence[tuple[Word, Word]]
) -> str | None:
    for word, rival in swaps:
        if claim.is_negated(word.clause) == passage.is_negated(rival.clause) and not _is_reversed(
            claim, matches, around=(word, rival)
        ):
            return f"the source says “{rival.text}”, not “{word.text}”"
    return None


# --- negation --------------------------------------------------------------------------------------------------------


def _by_negation(
    claim: Statement, passage: Statement, matches: Matches, swaps: Sequence[tuple[Word, Word]]
) -> str | None:
    for negation in claim.negations:
        if _is_denied(negation, claim, passage, matches, swaps):
            return f"the source does not say “{_phrase(negation, claim)}”"
    for negation in passage.negations:
        if _is_ignored(negation, claim, passage, matches, swaps):
            return f"the source says “{_phrase(negation, passage)}”"
    return None


def _is_denied(
    negation: Negation,
    claim: Statement,
    passage: Statement,
    matches: Matches,
    swaps: Sequence[tuple[Word, Word]],
) -> bool:
    """Returns whether the passage says without negation what the claim negates."""
    clauses = _aligned(claim, negation.clause, passage, matches)
    focus = negation.focus
    if focus is None:
        return matches.coverage >= _MIN_ALIKE and len(claim.negations) % 2 != len(passage.negations) % 2
    same = matches.same.get(focus.place, ()) if focus is not None else ()
    if same:
        clauses = {word.clause for word in same} & clauses or {word.clause for word in same}
    elif _shared(claim, negation.clause, matches, focus) < _MIN_CLAUSE_SHARED:
        return False
    if not clauses:
        return False
    flips = sum(word.clause == negation.clause for word, _ in swaps) % 2 == 1
    mine = claim.is_negated(negation.clause) != flips
    return all(passage.is_negated(clause) != mine for clause in clauses)


def _is_ignored(
    negation: Negation,
    claim: Statement,
    passage: Statement,
    matches: Matches,
    swaps: Sequence[tuple[Word, Word]],
) -> bool:
    """Returns whether the claim says without negation what the passage negates."""
    focus = negation.focus
    if focus is None:
        return matches.coverage >= _MIN_ALIKE and len(claim.negations) % 2 != len(passage.negations) % 2
    places = [place for place, words in matches.same.items() if any(word.clause == negation.clause for word in words)]
    if not places:
        return False
    by_place = {word.place: word for word in claim.content}
    focused = [
        place
        for place in places
        if focus is not None and any(word.place == focus.place for word in matches.same[place])
    ]
    if not focused:
        total = sum(word.weight for word in passage.clause(negation.clause) if word is not focus)
        shared = sum(by_place[place].weight for place in places)
        if total <= 0 or shared < _MIN_CLAUSE_SHARED * total:
            return False
    clauses = {by_place[place].clause for place in focused or places}
    own = sum(word.weight for clause in clauses for word in claim.clause(clause))
    if sum(by_place[place].weight for place in places if by_place[place].clause in clauses) < _MIN_OWN_SHARED * own:
        return False
    flips = any(rival.clause == negation.clause for _, rival in swaps)
    theirs = passage.is_negated(negation.clause) != flips
    if not theirs:
        return False
    return not any(claim.is_negated(clause) for clause in clauses)


def _aligned(
    claim: Statement, clause: int, passage: Statement, matches: Matches, without: Word | None = None
) -> set[int]:
    """Returns the clauses of the passage that share most with a clause of the claim."""
    shared: dict[int, float] = {}
    for word in claim.clause(clause):
        if without is not None and word.place == without.place:
            continue
        for number in {other.clause for other in matches.same.get(word.place, ())}:
            shared[number] = shared.get(number, 0.0) + word.weight
    if not shared:
        return set()
    best = max(shared.values())
    return {number for number, weight in shared.items() if weight >= best - 1e-9}


def _shared(claim: Statement, clause: int, matches: Matches, without: Word | None) -> float:
    """Returns the share of a clause of the claim, less one word, that was found."""
    words = [word for word in claim.clause(clause) if without is None or word.place != without.place]
    total = sum(word.weight for word in words)
    return sum(word.weight for word in words if word.place in matches.same) / total if total else 0.0


def _phrase(negation: Negation, statement: Statement) -> str:
    end = negation.focus.place if negation.focus is not None else negation.place
    first, last = min(negation.place, end), max(negation.place, end)
    words = [word.text for word in statement.words[first : last + 1]]
    return " ".join(words if not statement.words[first].cjk else words[:1])


# --- roles -----------------------------------------------------------------------------------------------------------


def _by_roles(claim: Statement, passage: Statement, matches: Matches, swaps: Sequence[tuple[Word, Word]]) -> str | None:
    """Returns why the claim exchanges who does what: "A gave B" against "B gave A"."""
    exchanged = _exchanged(claim, passage)
    if exchanged is not None:
        return f"the source has “{exchanged[0]}” and “{exchanged[1]}” in each other's place"
    for reversal in _reversals(claim, matches):
        if claim.passive != passage.passive or any(
            word.place == other.place for word, _ in swaps for other in reversal
        ):
            continue
        first, pivot, last = reversal
        return f"the source says it the other way round: “{last.text} {pivot.text} {first.text}”"
    return None


def _exchanged(claim: Statement, passage: Statement) -> tuple[str, str] | None:
    """Returns two words of the claim of which each stands between the words that the passage has around the other."""
    mine, theirs = _surroundings(claim), _surroundings(passage)
    homes = {around: root for root, places in theirs.items() for around in places}
    for root, places in mine.items():
        for around in places.keys() - theirs.get(root, places).keys():
            other = homes.get(around)
            if other is None or other == root or other not in mine or around in mine[other]:
                continue
            back = [near for near in mine[other].keys() - theirs[other].keys() if homes.get(near) == root]
            if back and not _is_list(claim, *sorted((places[around], mine[other][back[0]]))):
                return claim.words[places[around]].text, claim.words[mine[other][back[0]]].text
    return None


_BOUND = "|"  # in the place of a neighbour in another clause


def _surroundings(statement: Statement) -> dict[str, dict[tuple[str, str], int]]:
    """Returns the words before and behind each content word, by its stem, with its place."""
    around: dict[str, dict[tuple[str, str], int]] = {}
    for word in statement.content:
        if not word.cjk and word.weight > LIGHT_WEIGHT:
            neighbours = (_neighbour(statement, word, -1), _neighbour(statement, word, 1))
            around.setdefault(word.stem, {})[neighbours] = word.place
    return around


def _neighbour(statement: Statement, word: Word, step: int) -> str:
    place = word.place + step
    if not 0 <= place < len(statement.words) or statement.words[place].clause != word.clause:
        return _BOUND
    folded = statement.words[place].folded
    return "a" if folded == "an" else folded


def transposed(claim: Statement, passage: Statement) -> tuple[str, str] | None:
    """Returns two neighbouring words of the claim that the passage has in the other order only."""
    order = {(first.stem, second.stem) for first, second in _neighbours(passage)}
    for first, second in _neighbours(claim):
        if (second.stem, first.stem) in order and (first.stem, second.stem) not in order:
            return first.text, second.text
    return None


def _neighbours(statement: Statement) -> Iterator[tuple[Word, Word]]:
    for first, second in itertools.pairwise(statement.content):
        adjacent = second.place == first.place + 1 and second.clause == first.clause
        if adjacent and first.stem != second.stem and not first.cjk:
            yield first, second


def _is_reversed(claim: Statement, matches: Matches, around: tuple[Word, Word]) -> bool:
    """Returns whether the words around an opposite are in reverse order, as in "A before B" and "B after A"."""
    word, rival = around
    before = [near for near in claim.content if near.clause == word.clause and near.place < word.place]
    after = [near for near in claim.content if near.clause == word.clause and near.place > word.place]
    left = [other.place for near in before[-2:] for other in matches.same.get(near.place, ())]
    right = [other.place for near in after[:2] for other in matches.same.get(near.place, ())]
    return bool(left and right) and min(left) > rival.place > max(right)


def _reversals(claim: Statement, matches: Matches) -> Iterator[tuple[Word, Word, Word]]:
    """Yields three words of a clause of the claim that the passage has in one clause in the reverse order."""
    for _, group in itertools.groupby(claim.content, key=lambda word: word.clause):
        words = [
            (word, matches.same[word.place][0])
            for word in group
            if not word.cjk and word.weight > LIGHT_WEIGHT and len(matches.same.get(word.place, ())) == 1
        ]
        if len(words) > _MAX_ROLE_WORDS:
            continue
        for (first, at_first), (second, at_second), (third, at_third) in itertools.combinations(words, 3):
            if not at_first.place > at_second.place > at_third.place or at_first.clause != at_third.clause:
                continue
            if _is_list(claim, first.place, third.place):
                continue
            yield first, second, third


_LISTING = frozenset({"and", "or", "und", "oder", "et", "ou", "y", "o", "e", "i", "и", "или"})


def _is_list(claim: Statement, first: int, last: int) -> bool:
    """Returns whether mostly "and" and "or" stand between two places, whose words may then change places."""
    between = [word.folded for word in claim.words[first + 1 : last]]
    return sum(word in _LISTING for word in between) >= len(between) / 2
