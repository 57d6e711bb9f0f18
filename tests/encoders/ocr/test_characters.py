from __future__ import annotations

import numpy as np
import pytest

from penstock.encoders.ocr.characters import decode
from penstock.records import Float32

CHARACTERS = ("a", "b", " ")


def steps(*classes: int, probability: float = 0.9) -> Float32:
    result = np.full((len(classes), 4), (1 - probability) / 3, dtype=np.float32)
    result[np.arange(len(classes)), classes] = probability
    return result


def test_repetitions_are_one_character_unless_a_blank_stands_between() -> None:
    assert decode(steps(1, 1, 0, 1, 2, 2, 0), CHARACTERS).text == "aab"


def test_spaces_around_a_line_are_dropped_and_those_inside_kept() -> None:
    assert decode(steps(3, 1, 3, 2, 3), CHARACTERS).text == "a b"


def test_confidence_is_the_mean_of_the_characters() -> None:
    line = decode(np.concatenate([steps(1, probability=0.8), steps(0), steps(2, probability=0.6)]), CHARACTERS)
    assert line.confidence == pytest.approx(0.7)


def test_a_line_of_blanks_is_empty() -> None:
    line = decode(steps(0, 0), CHARACTERS)
    assert (line.text, line.confidence) == ("", 0.0)
