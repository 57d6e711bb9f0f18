"""Decodes the recogniser's output: the most probable character of each step, without repetitions and blanks (CTC)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penstock.records import Float32

_BLANK = 0


@dataclass(frozen=True, slots=True)
class Line:
    """The text of one line, with the mean probability of its characters."""

    text: str
    confidence: float


def decode(probabilities: Float32, characters: Sequence[str]) -> Line:
    """Returns the text of a line.

    Args:
        probabilities: float32[steps, classes]; class 0 is the blank.
        characters: of the classes from 1 on.
    """
    classes = probabilities.argmax(axis=1)
    starts = np.flatnonzero((classes != _BLANK) & (classes != np.concatenate([[_BLANK], classes[:-1]])))
    if not len(starts):
        return Line("", 0.0)
    confidence = float(probabilities[starts, classes[starts]].mean())
    return Line("".join(characters[number - 1] for number in classes[starts]).strip(), confidence)
