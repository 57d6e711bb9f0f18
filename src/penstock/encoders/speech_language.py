"""Decides the language of a window of speech from what Whisper detects."""

from __future__ import annotations

from collections.abc import Mapping

UNKNOWN_LANGUAGE = "und"
"""ISO 639-2's code for undetermined: speech in a language that the model does not know."""

# Languages that Whisper has been trained on hardly at all and that have few speakers: where it detects one of them in a
# short window, it is mostly another language with an accent or noise.
_RARE = frozenset(
    [
        "ba",
        "bo",
        "br",
        "cy",
        "fo",
        "haw",
        "ht",
        "jw",
        "la",
        "lb",
        "ln",
        "mg",
        "mi",
        "nn",
        "oc",
        "sa",
        "sn",
        "so",
        "tk",
        "yi",
    ]
)
_SHORT_S = 5.0
_RARE_WEIGHT = 0.05


def choose_language(probabilities: Mapping[str, float], duration_s: float) -> tuple[str, float]:
    """Returns the most probable language of a window, and its probability.

    A short window says little, and Whisper then takes accents and noise for languages such as Welsh. There the rare
    ones count for less.

    Args:
        probabilities: by ISO 639-1 code, as the model detects them.
        duration_s: of the window.
    """
    if duration_s >= _SHORT_S:
        best = max(probabilities, key=lambda language: probabilities[language])
        return best, probabilities[best]
    weighted = {
        language: probability * (_RARE_WEIGHT if language in _RARE else 1.0)
        for language, probability in probabilities.items()
    }
    best = max(weighted, key=lambda language: weighted[language])
    return best, weighted[best] / sum(weighted.values())
