"""Joins transcript segments of one asset into passages of 5 to 30 s that can be searched.

A speech model's segments are as long as a breath. A passage ends at the end of a sentence or at a breath once it is
long enough, or at a pause. It never spans a change of language.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？", "।", "؟")


@dataclass(frozen=True, slots=True)
class SpeechPassage:
    """Transcribed speech: a transcript segment or several joined. Times on the player's clock, milliseconds.

    Without text it is speech in a language that the speech model does not know.
    """

    start_ms: int
    end_ms: int
    text: str
    language: str


@dataclass(frozen=True, slots=True)
class PassageOptions:
    """Limits of a passage of speech, milliseconds.

    Attributes:
        min_ms: a shorter passage is continued, if it can be.
        max_ms: a passage is not continued beyond this.
        pause_ms: a longer pause ends a passage of any length.
        breath_ms: a pause of this length ends a passage that is long enough, as a full stop does, since not all models
            write punctuation.
    """

    min_ms: int = 5_000
    max_ms: int = 30_000
    pause_ms: int = 3_000
    breath_ms: int = 700


def join_segments(segments: Sequence[SpeechPassage], options: PassageOptions) -> Iterator[SpeechPassage]:
    """Yields passages of consecutive segments. A single segment over the limit stays whole.

    Args:
        segments: those of one asset, in order of their times.
        options: see `PassageOptions`.
    """
    joined: SpeechPassage | None = None
    for segment in segments:
        if joined is None:
            joined = segment
        elif _continues(joined, segment, options):
            text = f"{joined.text} {segment.text}".strip()
            joined = SpeechPassage(joined.start_ms, segment.end_ms, text, joined.language)
        else:
            yield joined
            joined = segment
    if joined is not None:
        yield joined


def _continues(joined: SpeechPassage, after: SpeechPassage, options: PassageOptions) -> bool:
    """Returns whether the segment belongs to the passage before it."""
    pause_ms = after.start_ms - joined.end_ms
    apart = pause_ms > options.pause_ms or after.language != joined.language
    if not joined.text and not after.text and not apart:
        return True  # all that is known of it is where it is
    if apart or after.end_ms - joined.start_ms > options.max_ms:
        return False
    long_enough = joined.end_ms - joined.start_ms >= options.min_ms
    return not (long_enough and (joined.text.endswith(_SENTENCE_ENDS) or pause_ms >= options.breath_ms))
