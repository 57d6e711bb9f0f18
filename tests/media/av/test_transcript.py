from __future__ import annotations

import itertools

import hypothesis.strategies as st
from hypothesis import given

from penstock.media.av.transcript import PassageOptions, SpeechPassage, join_segments

RULES = PassageOptions()


def said(*parts: tuple[float, float, str], language: str = "en") -> list[SpeechPassage]:
    """Segments of (start, end, text), seconds."""
    return [SpeechPassage(round(start * 1000), round(end * 1000), text, language) for start, end, text in parts]


def joined(segments: list[SpeechPassage]) -> list[tuple[float, float, str]]:
    return [(one.start_ms / 1000, one.end_ms / 1000, one.text) for one in join_segments(segments, RULES)]


def test_breaths_are_joined_until_a_sentence_ends_beyond_the_least() -> None:
    segments = said((0, 2, "The fox waits"), (2, 4, "by the river."), (4.5, 7, "It is late."), (7, 9, "A bear comes."))
    assert joined(segments) == [(0, 7, "The fox waits by the river. It is late."), (7, 9, "A bear comes.")]


def test_without_full_stops_a_breath_ends_what_is_long_enough() -> None:
    segments = said((0, 3, "the fox waits"), (4, 6, "by the river"), (6.2, 8, "today"), (9, 11, "a bear comes"))
    assert joined(segments) == [(0, 8, "the fox waits by the river today"), (9, 11, "a bear comes")]


def test_a_long_pause_ends_a_passage_however_short_it_is() -> None:
    assert joined(said((0, 1, "one"), (5, 6, "two"))) == [(0, 1, "one"), (5, 6, "two")]


def test_words_without_sentences_are_cut_at_the_most() -> None:
    found = joined(said(*((second, second + 4, f"word{second}") for second in range(0, 80, 4))))
    assert [(start, end) for start, end, _ in found] == [(0, 28), (28, 56), (56, 80)]


def test_a_change_of_language_ends_a_passage() -> None:
    segments = said((0, 2, "one two")) + said((2, 4, "eins zwei"), language="de")
    assert [one.language for one in join_segments(segments, RULES)] == ["en", "de"]


def test_a_segment_longer_than_the_most_stays_whole() -> None:
    assert joined(said((0, 45, "on and on"), (45, 46, "end"))) == [(0, 45, "on and on"), (45, 46, "end")]


def test_nothing_heard_is_no_passage() -> None:
    assert joined([]) == []


@given(
    st.lists(
        st.tuples(st.integers(0, 5_000), st.integers(100, 20_000), st.sampled_from(["a", "b.", "c d", "e?"])),
        max_size=40,
    )
)
def test_every_word_is_in_one_passage_in_order_and_none_is_too_long(parts: list[tuple[int, int, str]]) -> None:
    segments, at_ms = [], 0
    for pause_ms, length_ms, text in parts:
        at_ms += pause_ms
        segments.append(SpeechPassage(at_ms, at_ms + length_ms, text, "en"))
        at_ms += length_ms
    found = list(join_segments(segments, RULES))
    assert " ".join(one.text for one in found) == " ".join(one.text for one in segments)
    assert all(one.end_ms - one.start_ms <= RULES.max_ms for one in found)
    assert all(one.end_ms <= other.start_ms for one, other in itertools.pairwise(found))
