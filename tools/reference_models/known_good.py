"""Makes the smallest sound and film that every healthy worker takes: `media/known_good.ogg` and `.mp4`.

    python -m tools.reference_models.known_good

A word that espeak-ng speaks, so that it is found to be speech and reaches the transcriber; and the same beside two
pictures, so that a film asks all workers that films ask.
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

_WORD = "everything is well"
_SIZE = (64, 36)


def main() -> int:
    samples = SpeechSynthesizer().synthesize(_WORD).samples
    with av.open(str(AUDIO), "w", options={"fflags": "+bitexact"}) as container:
        write_speech(container, container.add_stream("libopus", rate=RATE_HZ, layout="mono"), [samples])
    with av.open(str(VIDEO), "w", options={"fflags": "+bitexact"}) as container:
        pictures: Any = container.add_stream("h264", rate=2)
        pictures.width, pictures.height = _SIZE
        pictures.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        for number, grey in enumerate((60, 60, 200, 200)):
            frame = av.VideoFrame.from_ndarray(np.full((*_SIZE[::-1], 3), grey, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 2)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        write_speech(container, sound, [samples])
    print(f"{AUDIO.name}: {AUDIO.stat().st_size} bytes, {VIDEO.name}: {VIDEO.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
