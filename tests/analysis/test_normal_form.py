"""Texts that look the same have the same characters."""

from __future__ import annotations

import unicodedata

import pytest

from penstock.analysis.normal_form import normal_form


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Donau\u00addampf\u00adschiff", "Donaudampfschiff"),
        (unicodedata.normalize("NFD", "Überfluß, Münchner Café"), "Überfluß, Münchner Café"),
        ("zero\u200bwidth\u2060 and\ufeff marks", "zerowidth and marks"),
        ("Ｍｕｎｉｃｈ ２０２６", "Munich 2026"),
        ("ﾊﾟﾝ", "パン"),
        ("plain", "plain"),
    ],
)
def test_what_looks_the_same_is_the_same(text: str, same: str) -> None:
    assert normal_form(text) == same


@pytest.mark.parametrize("text", ["می\u200cخواهم", "👩\u200d🚀", "今天，很好！（真的）", "x² + ½"])
def test_what_looks_different_stays(text: str) -> None:
    assert normal_form(text) == unicodedata.normalize("NFC", text)
