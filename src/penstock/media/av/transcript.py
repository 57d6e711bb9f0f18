"""From words that were heard to passages that can be found: segments of one asset, joined to 5 to 30 s.

A transcriber's segments are as long as a breath. A passage ends where a sentence does or a breath is taken, once it is
long enough, or at a pause; it never spans a change of language.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？", "।", "؟")


@dataclass(frozen=True, slots=True)
class SpeechPassage:
    """A segment on the player's clock, milliseconds."""

    start_ms: int
    end_ms: int
    text: str
    language: str


@dataclass(frozen=True, slots=True)
class PassageOptions:
    """How long a passage is, milliseconds.

    Attributes:
        min_ms: a shorter one goes on, if it can,
        max_ms: and never beyond this.
        pause_ms: a longer pause ends a passage, however short it is.
        breath_ms: a pause of so long ends one that is long enough, as a full stop does: not all models write any.
    """

    min_ms: int = 5_000
    max_ms: int = 30_000
    pause_ms: int = 3_000
    breath_ms: int = 700


def join_segments(heard: Sequence[SpeechPassage], rules: PassageOptions) -> Iterator[SpeechPassage]:
    """Joins segments that follow each other. A single longer one stays whole.

    Args:
        heard: of one asset, in order of their times.
        rules: see `PassageOptions`.
    """
    joined: SpeechPassage | None = None
    for one in heard:
        if joined is None:
            joined = one
        elif _goes_on(joined, one, rules):
            joined = SpeechPassage(joined.start_ms, one.end_ms, f"{joined.text} {one.text}", joined.language)
        else:
            yield joined
            joined = one
    if joined is not None:
        yield joined


def _goes_on(joined: SpeechPassage, after: SpeechPassage, rules: PassageOptions) -> bool:
    """Whether the segment belongs to the passage before it."""
    pause_ms = after.start_ms - joined.end_ms
    apart = pause_ms > rules.pause_ms or after.language != joined.language
    if apart or after.end_ms - joined.start_ms > rules.max_ms:
        return False
    long_enough = joined.end_ms - joined.start_ms >= rules.min_ms
    return not (long_enough and (joined.text.endswith(_SENTENCE_ENDS) or pause_ms >= rules.breath_ms))
