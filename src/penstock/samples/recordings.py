"""Sample films and sound clips that ship with the package, and what is seen and said in them, and when.

They are made of reference pictures and of sentences that the reference speech model understands, by
`python -m tools.reference_models.sample_recordings`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from penstock.records import Modality

RECORDINGS_DIR = Path(__file__).with_name("media")
MANIFEST = RECORDINGS_DIR / "recordings.json"


@dataclass(frozen=True, slots=True)
class Happening:
    """What is said, or the id of the concept that is shown, from when to when."""

    what: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Recording:
    """A film or a sound clip.

    Attributes:
        key: names it; its file's name without the suffix.
        title: for people.
        modality: audio or video.
        file: MP4 (H.264, AAC) or Ogg (Opus).
        scenes: of a film, in order.
        sentences: in order.
    """

    key: str
    title: str
    modality: Modality
    file: Path
    scenes: Sequence[Happening]
    sentences: Sequence[Happening]


SPOKEN_QUESTION = RECORDINGS_DIR / "question.ogg"
"""A question by voice; what is said in it stands in none of the recordings word by word."""


@cache
def sample_recordings() -> tuple[Recording, ...]:
    """All of them, films first."""
    told = json.loads(MANIFEST.read_text(encoding="utf-8"))
    return tuple(
        Recording(
            key=one["key"],
            title=one["title"],
            modality=Modality(one["modality"]),
            file=RECORDINGS_DIR / one["file"],
            scenes=[Happening(*each) for each in one["scenes"]],
            sentences=[Happening(*each) for each in one["sentences"]],
        )
        for one in told
    )
