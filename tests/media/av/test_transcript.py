from __future__ import annotations

import itertools

import hypothesis.strategies as st
from hypothesis import given

from penstock.media.av.transcript import PassageOptions, SpeechPassage, join_segments

OPTIONS = PassageOptions()


def speech(*parts: tuple[float, float, str], language: str = "en") -> list[SpeechPassage]:
    """Returns segments for triples of start and end, seconds, and text."""
    return [SpeechPassage(round(start * 1000), round(end * 1000), text, language) for start, end, text in parts]


def joined(segments: list[SpeechPassage]) -> list[tuple[float, float, str]]:
    return [
        (passage.start_ms / 1000, passage.end_ms / 1000, passage.text) for passage in join_segments(segments, OPTIONS)
    ]


def test_segments_are_joined_until_a_sentence_ends_beyond_the_minimum() -> None:
    segments = speech(
        (0, 2, "The fox waits"), (2, 4, "by the river."), (4.5, 7, "It is late."), (7, 9, "A bear comes.")
    )
    assert joined(segments) == [(0, 7, "The fox waits by the river. It is late."), (7, 9, "A bear comes.")]


def test_without_full_stops_a_breath_ends_a_passage_that_is_long_enough() -> None:
    segments = speech((0, 3, "the fox waits"), (4, 6, "by the river"), (6.2, 8, "today"), (9, 11, "a bear comes"))
    assert joined(segments) == [(0, 8, "the fox waits by the river today"), (9, 11, "a bear comes")]


def test_a_long_pause_ends_a_passage_of_any_length() -> None:
    assert joined(speech((0, 1, "one"), (5, 6, "two"))) == [(0, 1, "one"), (5, 6, "two")]


def test_words_without_sentences_are_cut_at_the_maximum() -> None:
    passages = joined(speech(*((second, second + 4, f"word{second}") for second in range(0, 80, 4))))
    assert [(start, end) for start, end, _ in passages] == [(0, 28), (28, 56), (56, 80)]


def test_a_change_of_language_ends_a_passage() -> None:
    segments = speech((0, 2, "one two")) + speech((2, 4, "eins zwei"), language="de")
    assert [passage.language for passage in join_segments(segments, OPTIONS)] == ["en", "de"]


def test_a_segment_longer_than_the_maximum_stays_whole() -> None:
    assert joined(speech((0, 45, "on and on"), (45, 46, "end"))) == [(0, 45, "on and on"), (45, 46, "end")]


def test_no_segments_are_no_passages() -> None:
    assert joined([]) == []


@given(
    st.lists(
        st.tuples(st.integers(0, 5_000), st.integers(100, 20_000), st.sampled_from(["a", "b.", "c d", "e?"])),
        max_size=40,
    )
)
def test_every_word_is_in_one_passage_in_order_and_no_passage_is_too_long(parts: list[tuple[int, int, str]]) -> None:
    segments, at_ms = [], 0
    for pause_ms, length_ms, text in parts:
        at_ms += pause_ms
        segments.append(SpeechPassage(at_ms, at_ms + length_ms, text, "en"))
        at_ms += length_ms
    passages = list(join_segments(segments, OPTIONS))
    assert " ".join(passage.text for passage in passages) == " ".join(segment.text for segment in segments)
    assert all(passage.end_ms - passage.start_ms <= OPTIONS.max_ms for passage in passages)
    assert all(passage.end_ms <= after.start_ms for passage, after in itertools.pairwise(passages))


def test_speech_without_text_is_one_passage_however_long_it_lasts() -> None:
    unknown = [SpeechPassage(number * 30_000, number * 30_000 + 29_000, "", "und") for number in range(4)]
    assert list(join_segments(unknown, PassageOptions())) == [SpeechPassage(0, 119_000, "", "und")]
