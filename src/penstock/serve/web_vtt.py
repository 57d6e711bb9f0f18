"""Writes WebVTT, the captions that browsers show over a video (W3C, https://www.w3.org/TR/webvtt1/)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

# Two lines of 42 characters, the usual size of subtitles; a wide character, as of Chinese, counts twice.
MAX_CUE_WIDTH = 84
_WIDE = re.compile(r"[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6]")
# Line breaks would end a cue, and other controls, half surrogates among them, have no place in a text file.
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


@dataclass(frozen=True, slots=True)
class Cue:
    """Words that are shown from one time to another one, milliseconds.

    `name` becomes the cue's identifier, with a number behind it: a long text has several cues.
    """

    start_ms: int
    end_ms: int
    text: str
    name: str


def web_vtt(cues: Sequence[Cue]) -> str:
    """Returns a WebVTT file: cues in order of time that do not overlap, with escaped text of about two lines.

    A cue ends where the next one starts. A longer text becomes several cues, which share its time by their lengths.
    """
    return "\n".join(["WEBVTT\n", *map(_written, _laid(cues))])


def _written(cue: Cue) -> str:
    times = f"{_time(cue.start_ms)} --> {_time(cue.end_ms)}"
    return f"{cue.name}\n{times}\n{cue.text.translate(_ESCAPES)}\n"


def _laid(cues: Sequence[Cue]) -> Iterator[Cue]:
    """Yields cues that do not overlap, each short enough."""
    cleaned = [replace(cue, text=_UNPRINTABLE.sub(" ", cue.text).strip()) for cue in cues]
    ordered = sorted((cue for cue in cleaned if cue.text), key=lambda cue: (cue.start_ms, cue.end_ms))
    for number, cue in enumerate(ordered):
        following = ordered[number + 1].start_ms if number + 1 < len(ordered) else cue.end_ms
        yield from _short(replace(cue, end_ms=min(cue.end_ms, following)))


def _short(cue: Cue) -> Iterator[Cue]:
    """Yields the cues of a text that may be longer than one; none if it has no time."""
    parts = list(_parts(cue.text))
    total, at = sum(map(len, parts)), 0
    for number, part in enumerate(parts, 1):
        start_ms = cue.start_ms + (cue.end_ms - cue.start_ms) * at // total
        at += len(part)
        end_ms = cue.start_ms + (cue.end_ms - cue.start_ms) * at // total
        if end_ms > start_ms:
            yield Cue(start_ms, end_ms, part, f"{cue.name}-{number}")


def _parts(text: str) -> Iterator[str]:
    """Yields parts of a text of about the same width, cut between words where there are any."""
    total = _width(text)
    count = -(-total // MAX_CUE_WIDTH)
    part, at, number = "", 0, 1
    for word in _words(text):
        width = _width(word)
        if part and at + width / 2 > total * number / count:
            yield part.strip()
            part, number = "", number + 1
        part += word
        at += width
    if part.strip():
        yield part.strip()


def _words(text: str) -> Iterator[str]:
    """Yields words with the space behind them, and single characters of scripts without spaces."""
    for word in re.findall(r"\S+\s*", text):
        if _WIDE.search(word) or len(word) > MAX_CUE_WIDTH:
            yield from word
        else:
            yield word


def _width(text: str) -> int:
    return len(text) + len(_WIDE.findall(text))


def _time(milliseconds: int) -> str:
    seconds, rest = divmod(max(0, milliseconds), 1_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{rest:03}"
