from __future__ import annotations

import pytest

from penstock.encoders.speech_language import choose_language

DETECTED = {"cy": 0.5, "en": 0.3, "de": 0.2}


def test_a_short_window_is_not_taken_for_a_rare_language() -> None:
    language, probability = choose_language(DETECTED, 1.5)
    assert language == "en"
    assert probability == pytest.approx(0.3 / (0.5 * 0.05 + 0.5))


def test_a_window_of_some_length_is_what_was_detected() -> None:
    assert choose_language(DETECTED, 8.0) == ("cy", 0.5)


def test_a_clear_rare_language_wins_in_a_short_window_too() -> None:
    assert choose_language({"cy": 0.99, "en": 0.01}, 1.5)[0] == "cy"
