"""Tests which type a transport stream has by its tables."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from typing import Any

import av
import numpy as np
import pytest

from penstock.media.sniff import sniff
from penstock.media.types.transport_streams import transport_stream_type
from penstock.records import Modality


def transport_stream(*codecs: str, m2ts: bool = False) -> bytes:
    """Writes half a second of each codec."""
    out = io.BytesIO()
    options = {"mpegts_m2ts_mode": "1"} if m2ts else {}
    with av.open(out, "w", format="mpegts", options=options) as container:
        streams: list[Any] = [container.add_stream(codec, rate=25 if codec in _VIDEO else 48_000) for codec in codecs]
        for stream in streams:
            if stream.type == "video":
                stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            else:
                stream.layout = "stereo"
        for stream in streams:
            for packet in _packets(stream):
                container.mux(packet)
    return out.getvalue()


_VIDEO = ("mpeg2video", "libx264", "libx265")


def _packets(stream: Any) -> Sequence[Any]:
    packets: list[Any] = []
    if stream.type == "video":
        for _ in range(12):
            packets += stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24"))
        return [*packets, *stream.encode(None)]
    size = stream.codec_context.frame_size or 960
    for _ in range(24):
        frame = av.AudioFrame.from_ndarray(
            np.zeros((2, size), np.int16 if stream.format.name.startswith("s16") else np.float32),
            format=f"{stream.format.name.removesuffix('p')}p",
            layout="stereo",
        )
        frame.sample_rate = 48_000
        packets += stream.encode(frame)
    return [*packets, *stream.encode(None)]


@pytest.mark.parametrize(
    ("codecs", "modality", "m2ts"),
    [
        (("ac3",), Modality.AUDIO, True),
        (("libx264", "ac3"), Modality.VIDEO, True),
        (("aac",), Modality.AUDIO, False),
        (("mp2",), Modality.AUDIO, False),
        (("ac3",), Modality.AUDIO, False),
        (("libopus",), Modality.AUDIO, False),
        (("aac", "mp2"), Modality.AUDIO, False),
        (("mpeg2video",), Modality.VIDEO, False),
        (("libx264", "aac"), Modality.VIDEO, False),
        (("libx265", "libopus"), Modality.VIDEO, False),
    ],
)
def test_a_stream_is_audio_if_it_names_audio_and_no_video(
    codecs: Sequence[str], modality: Modality, m2ts: bool
) -> None:
    sniffed = sniff(transport_stream(*codecs, m2ts=m2ts), declared=None)
    assert sniffed.mime == f"{modality.value}/mp2t"
    assert sniffed.modality is modality


def test_what_is_not_known_stays_video() -> None:
    written = transport_stream("mp2")
    at = written.index(b"\x02\xb0") + 12  # the table of streams, its first stream type
    assert written[at] in (3, 4)
    unknown = written.replace(written[at - 12 : at + 1], written[at - 12 : at] + b"\xd5")
    assert unknown != written
    assert sniff(unknown, declared=None).modality is Modality.VIDEO


def test_damaged_tables_are_read_without_an_error() -> None:
    rng = random.Random(1)
    written = transport_stream("aac")[: 188 * 40]
    for _ in range(300):
        damaged = bytearray(written)
        for _ in range(60):
            at = rng.randrange(len(damaged))
            if at % 188:
                damaged[at] = rng.randrange(256)
        assert transport_stream_type(bytes(damaged)) is not None
