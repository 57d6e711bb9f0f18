"""Makes the sample videos and audio clips that ship with the package, and their manifest.

    python -m tools.reference_models.sample_timed_media

A video shows one reference image after another, each while its sentence is spoken and during a pause after it. An audio
clip is one sentence. The sentences consist of words and forms that the reference speech model understands.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np

from penstock.records import Float32, UInt8
from penstock.samples.images import compose, load_concepts
from penstock.samples.timed_media import MANIFEST, SPOKEN_QUESTION, TIMED_MEDIA_DIR
from tools.reference_models.audio_writer import write_speech
from tools.reference_models.speech_synthesis import RATE_HZ, SpeechSynthesizer

# By key the title of a video and its scenes: the concept shown and the sentence spoken.
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
_SIZE_PX, _FRAMES_PER_S = 256, 10
_CLIP_PAUSE_S = 1.6
_SCENE_PAUSE_S = 3.6  # long enough that each sentence is a passage of its own
_SEED = 41  # of the images' backgrounds

Span: TypeAlias = tuple[str, float, float]  # label, start and end in seconds


def main() -> int:
    """Writes all files; returns the exit code."""
    TIMED_MEDIA_DIR.mkdir(exist_ok=True)
    for old in TIMED_MEDIA_DIR.iterdir():
        old.unlink()
    rows = [_video(key, *video) for key, video in VIDEOS.items()]
    rows += [_audio_clip(key, *clip) for key, clip in AUDIO_CLIPS.items()]
    _write_audio(SPOKEN_QUESTION, _spoken(QUESTION, _CLIP_PAUSE_S)[0])
    lines = ",\n".join(json.dumps(row) for row in rows)
    MANIFEST.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    for file in sorted(TIMED_MEDIA_DIR.iterdir()):
        print(f"{file.name}: {file.stat().st_size:,} bytes")
    return 0


def _video(key: str, title: str, scenes: Sequence[tuple[str, str]]) -> dict[str, Any]:
    shown: list[Span] = []
    sentences: list[Span] = []
    parts: list[Float32] = []
    scene_start_s = 0.0
    for concept_id, sentence in scenes:
        samples, start_s, end_s = _spoken(sentence, _SCENE_PAUSE_S)
        duration_s = len(samples) / RATE_HZ
        sentences.append((sentence, _rounded(scene_start_s + start_s), _rounded(scene_start_s + end_s)))
        shown.append((concept_id, _rounded(scene_start_s), _rounded(scene_start_s + duration_s)))
        parts.append(samples)
        scene_start_s += duration_s
    file = TIMED_MEDIA_DIR / f"{key}.mp4"
    with av.open(str(file), "w", options={"fflags": "+bitexact"}) as container:
        images: Any = container.add_stream("h264", rate=_FRAMES_PER_S, options={"crf": "26"})
        images.width = images.height = _SIZE_PX
        images.pix_fmt = "yuv420p"
        audio: Any = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        audio.bit_rate = 32_000
        for number, pixels in enumerate(_frames(shown)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, _FRAMES_PER_S)
            container.mux(images.encode(frame))
        container.mux(images.encode(None))
        write_speech(container, audio, parts)
    return _row(file, title, "video", shown, sentences)


def _frames(shown: Sequence[Span]) -> Iterator[UInt8]:
    """Yields uint8[size, size, 3] for each frame of the scenes."""
    concepts = {concept.id: concept for concept in load_concepts()}
    for concept_id, start_s, end_s in shown:
        pixels = np.asarray(compose(concepts[concept_id], _SEED, _SIZE_PX).convert("RGB"))
        for _ in range(round((end_s - start_s) * _FRAMES_PER_S)):
            yield pixels


def _audio_clip(key: str, title: str, sentence: str) -> dict[str, Any]:
    samples, start_s, end_s = _spoken(sentence, _CLIP_PAUSE_S)
    file = TIMED_MEDIA_DIR / f"{key}.ogg"
    _write_audio(file, samples)
    return _row(file, title, "audio", [], [(sentence, _rounded(start_s), _rounded(end_s))])


def _write_audio(file: Path, samples: Float32) -> None:
    with av.open(str(file), "w", options={"fflags": "+bitexact"}) as container:
        track: Any = container.add_stream("libopus", rate=RATE_HZ, layout="mono")
        track.bit_rate = 24_000
        write_speech(container, track, [samples])


def _row(file: Path, title: str, modality: str, scenes: Sequence[Span], sentences: Sequence[Span]) -> dict[str, Any]:
    return {
        "key": file.stem,
        "title": title,
        "modality": modality,
        "file": file.name,
        "scenes": scenes,
        "sentences": sentences,
    }


def _spoken(sentence: str, pause_s: float) -> tuple[Float32, float, float]:
    """Returns the sentence amid silence, filled up to whole video frames, and its start and end in seconds."""
    speech = SpeechSynthesizer().synthesize(sentence).samples
    frames = -(-(len(speech) + round(pause_s * RATE_HZ)) * _FRAMES_PER_S // RATE_HZ)
    samples = np.zeros(frames * RATE_HZ // _FRAMES_PER_S, np.float32)
    start = round(pause_s / 2 * RATE_HZ)
    samples[start : start + len(speech)] = speech
    return samples, start / RATE_HZ, (start + len(speech)) / RATE_HZ


def _rounded(seconds: float) -> float:
    return round(seconds, 2)


if __name__ == "__main__":
    sys.exit(main())
