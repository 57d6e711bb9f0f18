"""Sample films and sound clips that ship with the package, and what is seen and said in them, and when.

They are made of reference pictures and of sentences that the reference speech model understands, by
`python -m tools.reference_models.sample_timed_media`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from penstock.records import Modality

TIMED_MEDIA_DIR = Path(__file__).with_name("media")
MANIFEST = TIMED_MEDIA_DIR / "recordings.json"


@dataclass(frozen=True, slots=True)
class Annotation:
    """What is said, or the id of the concept that is shown, from when to when."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class SampleTimedMedia:
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
    scenes: Sequence[Annotation]
    sentences: Sequence[Annotation]


SPOKEN_QUESTION = TIMED_MEDIA_DIR / "question.ogg"
"""A question by voice; what is said in it stands in none of the recordings word by word."""


@cache
def sample_timed_media() -> tuple[SampleTimedMedia, ...]:
    """All of them, films first."""
    told = json.loads(MANIFEST.read_text(encoding="utf-8"))
    return tuple(
        SampleTimedMedia(
            key=one["key"],
            title=one["title"],
            modality=Modality(one["modality"]),
            file=TIMED_MEDIA_DIR / one["file"],
            scenes=[Annotation(*each) for each in one["scenes"]],
            sentences=[Annotation(*each) for each in one["sentences"]],
        )
        for one in told
    )
