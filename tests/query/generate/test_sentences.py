"""Splitting an answer into sentences, whole and while it arrives."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.query.generate.markers import MARKER
from penstock.query.generate.sentences import MAX_SENTENCE_CHARS, AnswerSentence, SentenceSplitter, split_sentences

_FRAGMENTS = (
    "Dr. ", "a ", "[1]", "[1", ", 2]", ".", "!", "?", "\n", "- ", "1. ", "Foo", "bar ", '"', "“", "”", " ", "。", "你",
    "e.g. ", "ก" * 9, "b" * 30, " 3.5", "J. ", "】", "【2†x】", "…", "؟",
)  # fmt: skip


def _texts(sentences: Sequence[AnswerSentence]) -> list[str]:
    return [sentence.text for sentence in sentences]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dr. Smith paid 3.5 kg on Jan. 3. He left.", ["Dr. Smith paid 3.5 kg on Jan. 3.", "He left."]),
        ("It is approx. 3 kg. Fine.", ["It is approx. 3 kg.", "Fine."]),
        ("Use milk, eggs, etc. The rest follows.", ["Use milk, eggs, etc.", "The rest follows."]),
        ("Wait... what? Yes!", ["Wait... what?", "Yes!"]),
        ('He said: "It rains. It pours." Then he left.', ['He said: "It rains. It pours."', "Then he left."]),
        ('"Go!" he said. She went.', ['"Go!" he said.', "She went."]),
        ("Er kam am 3. Januar. Ende.", ["Er kam am 3. Januar.", "Ende."]),
        ("我很好！你呢？今天。", ["我很好！", "你呢？", "今天。"]),
        ("これは本です。あれは犬です。", ["これは本です。", "あれは犬です。"]),
        ("هل هذا صحيح؟ نعم.", ["هل هذا صحيح؟", "نعم."]),
        ("यह है। वह गया।", ["यह है।", "वह गया।"]),
        ("ฉันไปตลาดเมื่อวานนี้กับแม่ ฉันซื้อผลไม้มากมาย", ["ฉันไปตลาดเมื่อวานนี้กับแม่", "ฉันซื้อผลไม้มากมาย"]),
        ("One line\nwraps here. Two.", ["One line\nwraps here.", "Two."]),
        ("No stop\n\nNext paragraph", ["No stop", "Next paragraph"]),
        ("", []),
        (" \n ... [1]", []),
    ],
)  # fmt: skip
def test_sentences_end_where_readers_see_their_end(text: str, expected: list[str]) -> None:
    assert _texts(split_sentences(text)) == expected


def test_items_of_lists_are_sentences_and_their_bullets_stand_before_them() -> None:
    sentences = split_sentences("You need:\n- Flour [1]\n- Milk. [2]\n1. Eggs\n2) Salt")
    assert [(sentence.before, sentence.text, sentence.written) for sentence in sentences] == [
        ("", "You need:", ()),
        ("\n- ", "Flour", (1,)),
        ("\n- ", "Milk.", (2,)),
        ("\n1. ", "Eggs", ()),
        ("\n2) ", "Salt", ()),
    ]


@pytest.mark.parametrize(
    ("text", "bare", "written"),
    [
        ("It rains [1].", "It rains.", (1,)),
        ("It rains. [1]", "It rains.", (1,)),
        ("It rains.[1][2]", "It rains.", (1, 2)),
        ("It rains [1] and pours [2, 1].", "It rains and pours.", (1, 2)),
        ("It rains [2-4].", "It rains.", (2, 3, 4)),
        ("It rains [Source 3].", "It rains.", (3,)),
        ("It rains 【2†notes】.", "It rains.", (2,)),
        ("下雨了[1]。", "下雨了。", (1,)),
        ("下雨了。[1]", "下雨了。", (1,)),
        ("In [2024] it rained.", "In [2024] it rained.", ()),
        ("It rains [1-900].", "It rains.", tuple(range(1, 21))),
    ],
)
def test_markers_belong_to_their_sentence_and_leave_its_text(text: str, bare: str, written: tuple[int, ...]) -> None:
    first, second = split_sentences(text + " Then it stops [7].")
    assert (first.text, first.written) == (bare, written)
    assert text[first.start : first.end] == text
    assert second.written == (7,)


def test_a_sentence_comes_as_soon_as_the_next_word_is_complete() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed("It rains. [1] The") == []
    assert _texts(splitter.feed(" ")) == ["It rains."]
    assert _texts(splitter.flush()) == ["The"]


def test_a_text_that_never_ends_is_cut() -> None:
    splitter = SentenceSplitter()
    sentences = splitter.feed("word " * MAX_SENTENCE_CHARS)
    assert sentences
    assert len(splitter.flush()) == 1
    assert all(len(sentence.text) <= MAX_SENTENCE_CHARS for sentence in sentences)


@given(st.lists(st.sampled_from(_FRAGMENTS), max_size=25), st.lists(st.integers(1, 5), min_size=1))
@settings(deadline=None, max_examples=300)
def test_the_pieces_in_which_a_text_arrives_change_nothing(fragments: list[str], sizes: list[int]) -> None:
    text = "".join(fragments)
    splitter, arrived, at, turn = SentenceSplitter(), list[AnswerSentence](), 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        arrived += splitter.feed(text[at : at + size])
        at, turn = at + size, turn + 1
    arrived += splitter.flush()
    assert arrived == split_sentences(text)
    end = 0
    for sentence in arrived:
        assert text[end : sentence.start] == sentence.before
        assert text[sentence.start : sentence.end].strip() == text[sentence.start : sentence.end] != ""
        end = sentence.end
    assert not any(char.isalpha() for char in MARKER.sub("", text[end:]))


@pytest.mark.parametrize("piece", ["1. ", "a. ", "e.g. ", '"a. ', "- a\n", ". ", "\n", "[1] ", "กขคงจฉช "])
def test_odd_texts_are_split_in_time(piece: str) -> None:
    began_s = time.process_time()
    split_sentences((piece * 20_000)[:20_000])
    assert time.process_time() - began_s < 2.5


def test_a_long_text_in_one_piece_has_the_sentences_of_its_parts() -> None:
    text = "The heron (e.g. the grey one) eats fish [1]. It nests in trees.\n- Dr. Owl sleeps.\n\n"
    parts = [sentence.text for sentence in split_sentences(text)]
    assert len(parts) == 3
    assert [sentence.text for sentence in split_sentences(text * 60)] == parts * 60
