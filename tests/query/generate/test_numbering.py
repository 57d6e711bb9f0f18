"""Tests where the markers of an answer stand."""

from __future__ import annotations

from penstock.query.generate.numbering import marker_places, with_markers


def test_only_added_markers_are_placed() -> None:
    sentences = [("In [2] herons eat.", (1, 2)), ("Hello [1]!", ()), ("In [2] herons eat.", (2,))]
    text = "\n- ".join(with_markers(*sentence) for sentence in sentences)

    places = list(marker_places(text, sentences))
    assert [text[start:end] for start, end, _ in places] == ["[1]", "[2]", "[2]"]
    assert [number for _, _, number in places] == [1, 2, 2]
    assert places[0][0] == len("In [2] herons eat. ")
    assert places[-1][1] == len(text)


def test_a_sentence_that_is_not_in_the_text_has_no_marker() -> None:
    assert not list(marker_places("Herons eat. [1]", [("Owls fly.", (1,))]))
