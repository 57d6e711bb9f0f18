"""Makes the smallest audio and video that every healthy worker accepts: `media/known_good.ogg` and `.mp4`.

    python -m tools.reference_models.known_good

The audio is a few words that espeak-ng speaks, so that they count as speech and reach the transcriber. The video has
the same audio beside two images, so that it uses all workers that a video uses.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import Any

import av
import numpy as np

from penstock.media.known_good import AUDIO, VIDEO
from tools.reference_models.audio_writer import write_speech
from tools.reference_models.speech_synthesis import RATE_HZ, SpeechSynthesizer

_WORDS = "everything is well"
_SIZE = (64, 36)


def main() -> int:
    """Writes both files; returns the exit code."""
    samples = SpeechSynthesizer().synthesize(_WORDS).samples
    with av.open(str(AUDIO), "w", options={"fflags": "+bitexact"}) as container:
        write_speech(container, container.add_stream("libopus", rate=RATE_HZ, layout="mono"), [samples])
    with av.open(str(VIDEO), "w", options={"fflags": "+bitexact"}) as container:
        images: Any = container.add_stream("h264", rate=2)
        images.width, images.height = _SIZE
        images.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        for number, grey in enumerate((60, 60, 200, 200)):
            frame = av.VideoFrame.from_ndarray(np.full((*_SIZE[::-1], 3), grey, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 2)
            container.mux(images.encode(frame))
        container.mux(images.encode(None))
        write_speech(container, audio, [samples])
    print(f"{AUDIO.name}: {AUDIO.stat().st_size} bytes, {VIDEO.name}: {VIDEO.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
