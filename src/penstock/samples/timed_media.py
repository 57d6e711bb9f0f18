"""Sample audio and video, with the times of the scenes shown and the sentences spoken in them.

`python -m tools.reference_models.sample_timed_media` makes them from reference images and from sentences that the
reference speech model understands.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from penstock.records import Modality

TIMED_MEDIA_DIR = Path(__file__).with_name("media")
MANIFEST = TIMED_MEDIA_DIR / "manifest.json"
# A spoken query. Its sentence occurs word by word in none of the sample media.
SPOKEN_QUESTION = TIMED_MEDIA_DIR / "question.ogg"


@dataclass(frozen=True, slots=True)
class Annotation:
    """A range of time with its label: the spoken sentence, or the id of the concept that is shown."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class SampleTimedMedia:
    """A video or an audio clip.

    Attributes:
        key: its identity: the file's name without the suffix.
        title: for display.
        modality: audio or video.
        file: MP4 (H.264, AAC) or Ogg (Opus).
        scenes: of a video, in order.
        sentences: in order.
    """

    key: str
    title: str
    modality: Modality
    file: Path
    scenes: Sequence[Annotation]
    sentences: Sequence[Annotation]


@cache
def sample_timed_media() -> tuple[SampleTimedMedia, ...]:
    """Returns all sample audio and video, videos first."""
    rows = json.loads(MANIFEST.read_text(encoding="utf-8"))
    return tuple(
        SampleTimedMedia(
            key=row["key"],
            title=row["title"],
            modality=Modality(row["modality"]),
            file=TIMED_MEDIA_DIR / row["file"],
            scenes=[Annotation(*scene) for scene in row["scenes"]],
            sentences=[Annotation(*sentence) for sentence in row["sentences"]],
        )
        for row in rows
    )
