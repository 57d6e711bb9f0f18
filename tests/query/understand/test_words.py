from __future__ import annotations

import pytest

from penstock.query.understand.words import correctable_words, text_words


def correctable(question: str) -> list[str]:
    words = correctable_words(question)
    assert all(question[word.start : word.end] == word.text for word in words)
    return [word.text for word in words]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("ancor silvr", ["ancor", "silvr"]),
        ("Ancor silvr", ["Ancor", "silvr"]),
        ("the ancor, (silvr)!", ["ancor", "silvr"]),
        ("a boat. Ancor lost", ["boat", "Ancor", "lost"]),
        ("café größe наука", ["café", "größe", "наука"]),
    ],
)
def test_words_of_an_alphabet_may_be_corrected(question: str, expected: list[str]) -> None:
    assert correctable(question) == expected


@pytest.mark.parametrize(
    "question",
    [
        "x100 mp3player usb2",  # digits
        "\"ancor silvr\" “wolf howwl” „ancor“ «ancor» ‘ancor’ 'ancor'",  # quotes
        "the Rhinne and Berlni",  # capitals inside a sentence
        "GTKK LaTeXx",
        "cat ox a",  # short
        "lib-fooo some_nmae user@exmaple.org http://exmaple.org/ancor .dmod don't",
        "手机壳手机 ภาษาไทยย كتابب ספררר ひらがなな 한국어어",  # scripts that are no alphabets here
        "ab手机cd手机",
        "",
    ],
)
def test_other_words_are_never_corrected(question: str) -> None:
    assert [word for word in correctable(question) if word not in {"the", "and"}] == []


def test_an_apostrophe_or_an_open_quote_quotes_nothing() -> None:
    assert correctable("the ship's ancor and cooks' silvr") == ["ancor", "cooks", "silvr"]
    assert correctable('6" ancor of silvr') == ["ancor", "silvr"]


def test_words_of_a_text_are_folded_and_keep_their_form() -> None:
    assert text_words("Café, ANCHOR anchor 2024 x100 a") == {"cafe": "café", "anchor": "anchor", "x100": "x100"}
    assert text_words("Anchor, anchor's x100 2024") == {"anchor": "anchor", "x100": "x100"}


def test_clauses_without_spaces_are_no_words() -> None:
    assert text_words("智能手机 anchor 한국어 книга") == {"anchor": "anchor", "한국어": "한국어", "книга": "книга"}
