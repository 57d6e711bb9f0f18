"""Audio and video files with known contents, written by PyAV."""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from penstock.media.av.audio import RATE_HZ
from penstock.records import Float32
from tools.reference_models.audio_writer import write_speech

AUDIO_FORMATS = {
    "wav": "pcm_s16le",
    "mp3": "libmp3lame",
    "flac": "flac",
    "ogg": "libopus",
    "m4a": "aac",
    "mp4": "aac",
    "webm": "libopus",
    "mkv": "aac",
}
RARE_AUDIO_FORMATS = {
    "aac": "aac",
    "aiff": "pcm_s16be",
    "avi": "pcm_s16le",
    "au": "pcm_s16be",
    "caf": "pcm_s16le",
    "mp2": "mp2",
    "oga": "flac",
    "ts": "aac",
    "wv": "wavpack",
}
_FRAME = 1_024


def beeps(seconds: float, rate_hz: int = RATE_HZ) -> Float32:
    """Returns a tone of 440 Hz in each first half of a second, and silence in each second half."""
    times_s = np.arange(round(seconds * rate_hz)) / rate_hz
    tone = 0.5 * np.sin(2 * np.pi * 440 * times_s) * (times_s % 1 < 0.5)
    return tone.astype(np.float32)


def edges_s(samples: Float32) -> list[float]:
    """Returns the times at which the tone begins and ends, seconds."""
    loud = np.convolve(np.abs(samples), np.ones(160) / 160, "same") > 0.1
    return [float(edge) / RATE_HZ for edge in np.flatnonzero(np.diff(loud.astype(int)))]


def write_audio(
    path: Path,
    samples: Float32,
    *,
    rate_hz: int = RATE_HZ,
    layout: str = "mono",
    frame: int = _FRAME,
    starts_s: Sequence[tuple[float, float]] = ((0.0, 0.0),),
    video_s: float = 0.0,
    broken: str = "",
) -> Path:
    """Writes audio in the container and with the codec that belong to the suffix, and returns the path.

    Args:
        path: its suffix is one of `AUDIO_FORMATS` or `RARE_AUDIO_FORMATS`.
        samples: float32[n] at `rate_hz`, for every channel.
        rate_hz, layout: of the track; Opus takes 48,000 Hz among others, not 44,100.
        frame: samples a frame, which PCM and WavPack keep together.
        starts_s: pairs of seconds in the samples, and the timestamps that start there, seconds.
        video_s: seconds of black video beside it, from 0 on.
        broken: tracks whose packets hold nothing that decodes: "audio", "video" or "both".
    """
    with av.open(str(path), "w") as container:
        track: Any = container.add_stream(
            (AUDIO_FORMATS | RARE_AUDIO_FORMATS)[path.suffix[1:]], rate=rate_hz, layout=layout
        )
        video = _black(container) if video_s else None
        if video is not None:
            _write_black(container, video, video_s, broken=broken in ("video", "both"))
        for number, part in enumerate(_frames(samples, rate_hz, layout, frame)):
            at_s = number * frame / rate_hz
            begin_s, clock_s = max(start for start in starts_s if start[0] <= at_s + 1e-9)
            part.pts = round((clock_s + at_s - begin_s) * rate_hz)
            container.mux(_packets(track, part, broken=broken in ("audio", "both")))
        container.mux(_packets(track, None, broken=broken in ("audio", "both")))
    return path


def write_channels(path: Path, channels: int) -> Path:
    """Writes a second of silence as WAV, in a number of channels without a layout."""
    with wave.open(str(path), "wb") as written:
        written.setnchannels(channels)
        written.setsampwidth(2)
        written.setframerate(RATE_HZ)
        written.writeframes(bytes(2 * channels * RATE_HZ))
    return path


VIDEO_FORMATS = {"mp4": "h264", "mkv": "h264", "webm": "vp9"}
RARE_VIDEO_FORMATS = {
    "avi": "h264",
    "flv": "h264",
    "m1v": "mpeg1video",
    "m2v": "mpeg2video",
    "mov": "h264",
    "mpg": "mpeg2video",
    "ts": "h264",
    "wmv": "wmv2",
}


# Options of encoders. With them they reorder frames too, as libx264 does anyway.
_NO_OTHER_IFRAMES = {
    "libx264": {"sc_threshold": "0", "x264-params": "scenecut=0"},
    "mpeg2video": {"sc_threshold": "1000000000", "bf": "2"},
}


def scene_image(seed: int, size: tuple[int, int] = (160, 90)) -> Image.Image:
    """Returns an image of coloured blotches that differs for every seed."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def write_video(
    path: Path,
    scenes: Sequence[tuple[float, Image.Image]],
    *,
    frames_per_s: int = 10,
    iframe_interval: int | None = None,
    start_s: float = 0.0,
    skip_frame: Callable[[int], bool] = lambda number: False,
    pixel_ratio: Fraction | None = None,
    audio: Float32 | None = None,
    audio_first: bool = False,
    first_id: int = 0x100,
) -> Path:
    """Writes a video in the container and with the codecs that belong to the suffix, and returns the path.

    Args:
        path: its suffix is one of `VIDEO_FORMATS` or `RARE_VIDEO_FORMATS`.
        scenes: pairs of seconds and the image shown, with a little noise.
        frames_per_s: MPEG-1 and MPEG-2 take 25 among others, not 10.
        iframe_interval: frames from one I-frame to the next, with no others; None: the encoder decides.
        start_s: the first timestamp.
        skip_frame: returns whether a frame of this number is left out, for a variable frame rate.
        pixel_ratio: width of a pixel over its height.
        audio: float32[n] at `RATE_HZ`, from 0 on; None: no audio track.
        audio_first: its track is the first one of the file.
        first_id: of the track in a transport stream.
    """
    noise, number = np.random.default_rng(0), 0
    options = {"mpegts_start_pid": str(first_id)} if path.suffix == ".ts" else {}
    with av.open(str(path), "w", options=options) as container:
        audio_track: Any = None
        if audio is not None and audio_first:
            audio_track = container.add_stream(AUDIO_FORMATS[path.suffix[1:]], rate=RATE_HZ, layout="mono")
        track: Any = container.add_stream((VIDEO_FORMATS | RARE_VIDEO_FORMATS)[path.suffix[1:]], rate=frames_per_s)
        if audio is not None and not audio_first:
            audio_track = container.add_stream(AUDIO_FORMATS[path.suffix[1:]], rate=RATE_HZ, layout="mono")
        track.width, track.height = scenes[0][1].size
        track.pix_fmt = "yuv420p"
        if track.name not in ("mpeg1video", "mpeg2video"):
            track.time_base = track.codec_context.time_base = Fraction(1, 1000)
        if pixel_ratio is not None:
            track.codec_context.sample_aspect_ratio = pixel_ratio
        if iframe_interval is not None:
            track.codec_context.gop_size = iframe_interval
            track.options = _NO_OTHER_IFRAMES.get(track.name, {})
        for seconds, image in scenes:
            pixels = np.asarray(image.convert("RGB"), np.int16)
            for _ in range(round(seconds * frames_per_s)):
                grainy = np.clip(pixels + noise.integers(-6, 7, pixels.shape), 0, 255).astype(np.uint8)
                frame = av.VideoFrame.from_ndarray(grainy, format="rgb24")
                frame.pts, frame.time_base = round(1000 * (start_s + number / frames_per_s)), Fraction(1, 1000)
                if not skip_frame(number):
                    container.mux(track.encode(frame))
                number += 1
        container.mux(track.encode(None))
        if audio is not None:
            write_speech(container, audio_track, [audio])
    return path


def trimmed(path: Path, source: Path, *, begin_s: float) -> Path:
    """Writes a video from a time on, with unchanged packets: an edit list hides those before (`-c copy`)."""
    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        track: Any = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(read.streams.video[0]):
            if packet.pts is None or packet.dts is None or packet.time_base is None:
                continue
            before = round(begin_s / packet.time_base)
            packet.pts, packet.dts, packet.stream = packet.pts - before, packet.dts - before, track
            written.mux(packet)
    return path


def _frames(samples: Float32, rate_hz: int, layout: str, size: int) -> Iterator[Any]:
    channels = len(av.AudioLayout(layout).channels)
    for start in range(0, len(samples), size):
        frame = av.AudioFrame.from_ndarray(
            np.tile(samples[start : start + size], (channels, 1)), format="fltp", layout=layout
        )
        frame.sample_rate = rate_hz
        yield frame


def _black(container: Any) -> Any:
    track = container.add_stream("h264", rate=10)
    track.width = track.height = 64
    track.pix_fmt = "yuv420p"
    return track


def _write_black(container: Any, track: Any, seconds: float, *, broken: bool) -> None:
    for _ in range(round(10 * seconds)):
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(_packets(track, frame, broken=broken))
    container.mux(_packets(track, None, broken=broken))


def _packets(track: Any, frame: Any, *, broken: bool) -> list[Any]:
    """Returns the encoded packets of a frame. Broken packets have its times and its size."""
    packets = track.encode(frame)
    if broken:
        for packet in packets:
            packet.update(b"\x5a" * packet.size)
    return list(packets)
