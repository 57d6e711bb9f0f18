"""The language of a question, and the sentence about one that the sentence encoder does not know."""

from __future__ import annotations

import pytest

from penstock.query.understand.language import detect_language, notice_of


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("寿司を食べたい", "ja"),
        ("データ", "ja"),
        ("Python で書く", "ja"),
        ("红烧肉怎么做好吃", "zh"),
        ("图书馆", None),  # may be Japanese
        ("학교", "ko"),
        ("โรงเรียน", "th"),
        ("كيف أطبخ الأرز في البيت", "ar"),
        ("де знаходиться бібліотека міста", "uk"),
        ("где", None),  # may be Bulgarian
        ("Où se trouve la bibliothèque de la ville ?", "fr"),
        ("wie finde ich die nächste Apotheke in dieser Stadt", "de"),
        ("where is the nearest library that is open", "en"),
        ("Müller", None),
        ("C++", None),
    ],
)
def test_language_is_named_where_it_is_certain(text: str, code: str | None) -> None:
    detected = detect_language(text)
    assert detected is not None
    assert detected.code == code


def test_a_question_without_letters_has_no_language() -> None:
    assert detect_language("2048 …") is None


@pytest.mark.parametrize(
    "text", ["寿司を食べたい", "图书馆", "где", "학교", "où se trouve la bibliothèque de la ville"]
)
def test_a_question_in_another_language_gets_a_notice(text: str) -> None:
    notice = notice_of(detect_language(text), ["en"], lexical=True)
    assert notice is not None
    assert "knows English only" in notice
    assert "literal words" in notice


def test_the_notice_names_the_language_and_what_is_reliable() -> None:
    notice = notice_of(detect_language("寿司を食べたい"), ["en", "de"], lexical=False)
    assert notice == (
        "The sentence encoder of this profile knows English and German only; this question looks Japanese, so its hits "
        "are not reliable."
    )


@pytest.mark.parametrize(
    "text",
    [
        "library opening hours",
        "wolf",
        "Doppelgänger",
        "Rio de Janeiro",
        "Château de Versailles",
        "crème brûlée tarte tatin",
        "Ludwig van Beethoven",
        "Angela Merkel Emmanuel Macron",
        "Taraxacum officinale",
        "Seven Kingdoms 七王国",
        "ＦＵＬＬ ｗｉｄｔｈ",
        "ᚠᚢᚦᚨᚱᚲ",
        "2048",
        "🎉",
    ],
)
def test_names_and_english_get_no_notice(text: str) -> None:
    assert notice_of(detect_language(text), ["en"], lexical=True) is None


def test_a_language_that_the_encoder_knows_or_may_know_gets_no_notice() -> None:
    assert notice_of(detect_language("图书馆"), ["ja"], lexical=True) is None
    assert notice_of(detect_language("где"), ["en", "bg"], lexical=True) is None
    assert notice_of(detect_language("寿司を食べたい"), None, lexical=True) is None
