"""Detects audio and video that are no containers: a sequence of packets or frames."""

from __future__ import annotations

from collections.abc import Callable

from penstock.media.types.base import Sniffed
from penstock.media.types.transport_streams import transport_stream_type
from penstock.records import Modality


def stream_type(head: bytes) -> Sniffed | None:
    """Returns the type of a stream that begins with its first header or frame; None if it is none.

    Args:
        head: the first 64 KiB.
    """
    if head[:4] in (b"\0\0\1\xba", b"\0\0\1\xb3"):
        return Sniffed("video/mpeg", Modality.VIDEO)
    if (sniffed := transport_stream_type(head)) is not None:
        return sniffed
    mime = next((mime for matches, mime in _AUDIO if matches(head)), None)
    return None if mime is None else Sniffed(mime, Modality.AUDIO)


def frames_within(head: bytes) -> Sniffed | None:
    """Returns the type of MP3 that begins with other bytes, such as zeros, or in the middle of a frame.

    Three frames of one kind have to follow each other: in random bytes that happens once in 10⁸ files.
    """
    at = head.find(b"\xff")
    while at >= 0:
        if _frames_follow(head, at):
            return Sniffed("audio/mpeg", Modality.AUDIO)
        at = head.find(b"\xff", at + 1)
    return None


def _is_tagged_mp3(head: bytes) -> bool:
    """Checks the version. What is wrong behind it makes a damaged recording, not one of another type."""
    return head[:3] == b"ID3" and head[3:4] in (b"\2", b"\3", b"\4")


def _is_flac(head: bytes) -> bool:
    """Checks that the first block describes the stream."""
    return head[:4] == b"fLaC" and head[4:5] in (b"\0", b"\x80")


def _is_au(head: bytes) -> bool:
    """Checks where the samples begin, and their encoding."""
    return head[:4] == b".snd" and 24 <= int.from_bytes(head[4:8], "big") < 1 << 20 and head[12:15] == bytes(3)


def _is_caf(head: bytes) -> bool:
    return head[:8] == b"caff\0\1\0\0"


def _is_amr(head: bytes) -> bool:
    return head.startswith((b"#!AMR\n", b"#!AMR-WB\n"))


def _is_wavpack(head: bytes) -> bool:
    """Checks the version."""
    return head[:4] == b"wvpk" and 0x402 <= int.from_bytes(head[8:10], "little") <= 0x410


def _is_aac(head: bytes) -> bool:
    """Checks an ADTS header by a field with forbidden values."""
    return head[:2] in (b"\xff\xf0", b"\xff\xf1", b"\xff\xf8", b"\xff\xf9") and len(head) > 3 and head[2] >> 2 & 15 < 13


def _is_mp3(head: bytes) -> bool:
    return _frame_bytes(head, 0) is not None


_AUDIO: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (_is_tagged_mp3, "audio/mpeg"),
    (_is_flac, "audio/flac"),
    (_is_au, "audio/basic"),
    (_is_caf, "audio/x-caf"),
    (_is_amr, "audio/amr"),
    (_is_wavpack, "audio/x-wavpack"),
    (_is_aac, "audio/aac"),
    (_is_mp3, "audio/mpeg"),
)

# --- frames of MPEG audio, layers 2 and 3 (ISO/IEC 11172-3 and 13818-3) -----------------------------------------------

# kbit/s by the index in the header, for MPEG-1 and for its half-rate successor
_BITRATES = {
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_FRAMES_IN_A_ROW = 3


def _frame_bytes(data: bytes, at: int) -> int | None:
    """Returns the length of the frame whose header stands there; None if none does."""
    if len(data) < at + 4 or data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[at + 1] >> 3 & 3, 4 - (data[at + 1] >> 1 & 3)
    bitrate, rate = data[at + 2] >> 4, data[at + 2] >> 2 & 3
    if version == 1 or layer not in (2, 3) or bitrate in (0, 15) or rate == 3:
        return None
    generation = 1 if version == 3 else 2
    bits = 1_000 * _BITRATES[generation, layer][bitrate - 1]
    samples = 576 if generation == 2 and layer == 3 else 1_152
    return samples // 8 * bits // _RATES_HZ[version][rate] + (data[at + 2] >> 1 & 1)


def _frames_follow(data: bytes, at: int) -> bool:
    """Returns whether frames of one version, layer and rate follow each other from here."""
    kind = data[at + 1 : at + 2], data[at + 2 : at + 3]
    for _ in range(_FRAMES_IN_A_ROW):
        length = _frame_bytes(data, at)
        same = data[at + 1 : at + 2] == kind[0] and (data[at + 2] ^ kind[1][0]) & 0x0C == 0 if length else False
        if length is None or not same:
            return False
        at += length
    return True
