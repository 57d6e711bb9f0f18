"""Makes the images and recordings of the worked examples.

    python -m tools.examples.media

Images show reference concepts on backgrounds that the reference tower has not seen. Recordings are sentences of the
reference speech model, spoken by espeak. The files are kept beside the examples, so this need not run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import av
import numpy as np

from penstock.samples.images import compose, load_concepts
from tools.examples.readme import EXAMPLES
from tools.reference_models.audio_writer import write_speech
from tools.reference_models.speech_synthesis import RATE_HZ, SpeechSynthesizer

IMAGE_PX = 160
# By file: the concept, and the seed of its background.
IMAGES: Mapping[str, tuple[str, int]] = {
    **{f"products/{name}.jpg": (name, 11) for name in (
        "teapot", "umbrella", "guitar", "violin", "bicycle", "telescope", "backpack", "camera", "candle", "kite",
    )},
    "products/customer-teapot.jpg": ("teapot", 23),
    "products/customer-guitar.jpg": ("guitar", 24),
    "cases/customer-teapot.jpg": ("teapot", 31),
    "cases/customer-umbrella.jpg": ("umbrella", 32),
    **{f"cases/{name}.jpg": (name, 33) for name in ("teapot", "umbrella", "bicycle", "guitar")},
    "service/customer-umbrella.jpg": ("umbrella", 41),
    **{f"service/{name}.jpg": (name, 42) for name in ("umbrella", "bicycle", "teapot", "telescope")},
    "voice/anchor.jpg": ("anchor", 51),
    "voice/wolf.jpg": ("wolf", 52),
}  # fmt: skip
RECORDINGS: Mapping[str, str] = {
    "service/call-umbrella.ogg": "there is a broken umbrella behind the red basket",
    "service/call-bicycle.ogg": "the teacher repairs a yellow bicycle",
    "service/call-teapot.ogg": "my sister carries the teapot and the mirror",
    "service/call-telescope.ogg": "tomorrow my brother finds a telescope at the mountain",
    "service/question.ogg": "my sister finds a broken umbrella",
}


def main() -> None:
    """Writes all files."""
    concepts = {concept.id: concept for concept in load_concepts()}
    for name, (concept, seed) in IMAGES.items():
        compose(concepts[concept], seed, IMAGE_PX).save(EXAMPLES / name, "JPEG", quality=82)
    for name, sentence in RECORDINGS.items():
        _write_recording(EXAMPLES / name, sentence)


def _write_recording(file: Path, sentence: str) -> None:
    pause = np.zeros(RATE_HZ // 2, np.float32)
    spoken = SpeechSynthesizer().synthesize(sentence).samples
    with av.open(str(file), "w", format="ogg") as container:
        track = container.add_stream("libopus", rate=RATE_HZ, layout="mono")
        track.bit_rate = 24_000
        write_speech(container, track, [pause, spoken, pause])


if __name__ == "__main__":
    main()
