from __future__ import annotations

import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.query.understand.deletes import DeleteIndex, edit_distances

WORDS = st.text("abcäж", min_size=4, max_size=9)


def osa(left: str, right: str) -> int:
    """Computes the optimal string alignment distance by its definition."""
    table = [[max(i, j) if 0 in (i, j) else 0 for j in range(len(right) + 1)] for i in range(len(left) + 1)]
    for i in range(1, len(left) + 1):
        for j in range(1, len(right) + 1):
            changed = table[i - 1][j - 1] + (left[i - 1] != right[j - 1])
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, changed)
            if i > 1 and j > 1 and left[i - 1] == right[j - 2] and left[i - 2] == right[j - 1]:
                table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
    return table[-1][-1]


@given(word=WORDS, others=st.lists(WORDS, min_size=1, max_size=30, unique=True), distance=st.sampled_from([1, 2]))
@example(word="captian", others=["captain", "captains", "caption"], distance=1)
@settings(max_examples=200, deadline=None)
def test_the_words_within_a_distance_are_those_of_the_definition(word: str, others: list[str], distance: int) -> None:
    expected = {place: osa(word, other) for place, other in enumerate(others) if osa(word, other) <= distance}
    assert dict(DeleteIndex(others).within(word, distance)) == expected


@given(word=st.text("ab", max_size=6), others=st.lists(st.text("ab", max_size=9), min_size=1, max_size=20))
def test_distances_above_the_limit_are_cut(word: str, others: list[str]) -> None:
    assert edit_distances(word, others, 2).tolist() == [min(osa(word, other), 3) for other in others]


def test_no_words_have_no_neighbours() -> None:
    assert DeleteIndex([]).within("anchor", 2) == []


def test_an_index_of_20_000_words_has_4_megabytes() -> None:
    drawn = random.Random(1)
    words = list({"".join(drawn.choices("abcdefghijklmnopqrstuvwxyz", k=drawn.randint(3, 12))) for _ in range(20_000)})
    assert DeleteIndex(words).nbytes < 4_000_000
