"""Makes the films and sound clips that ship with the package, and the list of what happens in them.

    python -m tools.reference_models.sample_timed_media

A film shows one reference picture after another, each for as long as the sentence that belongs to it is spoken and a
pause after it. A clip is one sentence. Sentences are of words and forms that the reference speech model understands.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from penstock.records import Float32
from penstock.samples.images import compose, load_concepts
from penstock.samples.timed_media import MANIFEST, SPOKEN_QUESTION, TIMED_MEDIA_DIR
from tools.reference_models.audio_writer import write_speech
from tools.reference_models.speech_synthesis import RATE_HZ, SpeechSynthesizer

# Of each film its title, and of its scenes what is shown and what is said.
VIDEOS: Mapping[str, tuple[str, Sequence[tuple[str, str]]]] = {
    "animals": (
        "Animals, near and far",
        (
            ("elephant", "a large elephant waits near the river"),
            ("penguin", "the penguin dances with the rabbit tonight"),
            ("octopus", "there is a octopus in the fountain"),
            ("giraffe", "today the giraffe sleeps at the village"),
            ("turtle", "in the desert a golden turtle hides"),
        ),
    ),
    "workshop": (
        "An evening in the workshop",
        (
            ("hammer", "my brother repairs the hammer and the ladder"),
            ("bicycle", "the teacher paints a yellow bicycle"),
            ("umbrella", "there is a broken umbrella behind the red basket"),
            ("violin", "tonight my sister repairs a violin at the school"),
        ),
    ),
    "market": (
        "At the market",
        (
            ("banana", "the farmer sells a yellow banana"),
            ("strawberry", "the small strawberry is near the market"),
            ("trumpet", "my captain carries the trumpet and the drum"),
            ("balloon", "a doctor with a red balloon walks in the garden"),
        ),
    ),
}
AUDIO_CLIPS: Mapping[str, tuple[str, str]] = {
    "note-telescope": ("A note on the mountain", "tomorrow my teacher finds a telescope at the mountain"),
    "note-anchor": ("A note from the harbor", "the captain carries a silver anchor"),
    "note-wolf": ("A note of the night", "the hungry wolf and the young fox runs tonight"),
    "note-bread": ("A note on bread", "the doctor and my sister sells the bread today"),
    "note-castle": ("A note on the way", "the castle is behind the volcano"),
    "note-candle": ("A note by candle light", "seven of the small white candle near the mirror"),
}
QUESTION = "a young captain finds the silver anchor"
_SIZE_PX, _PER_S = 256, 10
_CLIP_PAUSE_S = 1.6
_SCENE_PAUSE_S = 3.6  # so long that each sentence is a passage of its own
_SEED = 41  # of the pictures' backgrounds


def main() -> int:
    TIMED_MEDIA_DIR.mkdir(exist_ok=True)
    for old in TIMED_MEDIA_DIR.iterdir():
        old.unlink()
    told = [_film(key, *film) for key, film in VIDEOS.items()] + [
        _clip(key, *clip) for key, clip in AUDIO_CLIPS.items()
    ]
    _write_sound(SPOKEN_QUESTION, _spoken(QUESTION, _CLIP_PAUSE_S)[0])
    lines = ",\n".join(json.dumps(one) for one in told)
    MANIFEST.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    for file in sorted(TIMED_MEDIA_DIR.iterdir()):
        print(f"{file.name}: {file.stat().st_size:,} bytes")
    return 0


def _film(key: str, title: str, scenes: Sequence[tuple[str, str]]) -> dict[str, Any]:
    concepts = {concept.id: concept for concept in load_concepts()}
    shown: list[tuple[str, float, float]] = []
    said: list[tuple[str, float, float]] = []
    parts: list[Float32] = []
    at_s = 0.0
    for concept_id, sentence in scenes:
        samples, start_s, end_s = _spoken(sentence, _SCENE_PAUSE_S)
        lasts_s = len(samples) / RATE_HZ
        said.append((sentence, _rounded(at_s + start_s), _rounded(at_s + end_s)))
        shown.append((concept_id, _rounded(at_s), _rounded(at_s + lasts_s)))
        parts.append(samples)
        at_s += lasts_s
    file = TIMED_MEDIA_DIR / f"{key}.mp4"
    with av.open(str(file), "w", options={"fflags": "+bitexact"}) as container:
        pictures: Any = container.add_stream("h264", rate=_PER_S, options={"crf": "26"})
        pictures.width = pictures.height = _SIZE_PX
        pictures.pix_fmt = "yuv420p"
        sound: Any = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        sound.bit_rate = 32_000
        number = 0
        for concept_id, start_s, end_s in shown:
            pixels = np.asarray(compose(concepts[concept_id], _SEED, _SIZE_PX).convert("RGB"))
            for _ in range(round((end_s - start_s) * _PER_S)):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, _PER_S)
                container.mux(pictures.encode(frame))
                number += 1
        container.mux(pictures.encode(None))
        write_speech(container, sound, parts)
    return _told(file, title, "video", shown, said)


def _clip(key: str, title: str, sentence: str) -> dict[str, Any]:
    samples, start_s, end_s = _spoken(sentence, _CLIP_PAUSE_S)
    file = TIMED_MEDIA_DIR / f"{key}.ogg"
    _write_sound(file, samples)
    return _told(file, title, "audio", [], [(sentence, _rounded(start_s), _rounded(end_s))])


def _write_sound(file: Path, samples: Float32) -> None:
    with av.open(str(file), "w", options={"fflags": "+bitexact"}) as container:
        sound: Any = container.add_stream("libopus", rate=RATE_HZ, layout="mono")
        sound.bit_rate = 24_000
        write_speech(container, sound, [samples])


def _told(
    file: Path,
    title: str,
    modality: str,
    scenes: Sequence[tuple[str, float, float]],
    sentences: Sequence[tuple[str, float, float]],
) -> dict[str, Any]:
    return {
        "key": file.stem,
        "title": title,
        "modality": modality,
        "file": file.name,
        "scenes": scenes,
        "sentences": sentences,
    }


def _spoken(sentence: str, pause_s: float) -> tuple[Float32, float, float]:
    """The sentence amid silence, as long as whole frames of film; and from when to when it is spoken, seconds."""
    said = SpeechSynthesizer().synthesize(sentence).samples
    frames = -(-(len(said) + round(pause_s * RATE_HZ)) * _PER_S // RATE_HZ)
    samples = np.zeros(frames * RATE_HZ // _PER_S, np.float32)
    start = round(pause_s / 2 * RATE_HZ)
    samples[start : start + len(said)] = said
    return samples, start / RATE_HZ, (start + len(said)) / RATE_HZ


def _rounded(seconds: float) -> float:
    return round(seconds, 2)


if __name__ == "__main__":
    sys.exit(main())
