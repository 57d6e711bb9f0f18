"""Reads the tables of an MPEG transport stream (ISO/IEC 13818-1), which say what its streams hold.

programme association, packet id 0  ──►  packet ids of the programme maps  ──►  the type of each stream
"""

from __future__ import annotations

from collections.abc import Iterator

from penstock.media.types.base import Sniffed
from penstock.records import Modality

_SYNC = 0x47
_PACKET_BYTES = 188
# Bytes from packet to packet, and of what stands before each: plain; with a time before each, as AVCHD and Blu-ray have
# it; with a check after each.
_SPACINGS = ((188, 0), (192, 4), (204, 0))
_TABLE_OF_PROGRAMMES, _TABLE_OF_STREAMS = 0x00, 0x02

_AUDIO = frozenset((0x03, 0x04, 0x0F, 0x11, 0x1C, 0x81, 0x82, 0x83, 0x84, 0x85, 0x87, 0xA1, 0xA2, 0xC1, 0xC2))
_PRIVATE = 0x06
_DISC_AUDIO = 0x80  # of Blu-ray, where the programme is registered so; elsewhere it is video
_DATA = frozenset((0x05, 0x08, 0x0B, 0x0C, 0x0D, 0x13, 0x14, 0x15, 0x16, 0x17, 0x86, 0x90, 0x91, 0x92))

_REGISTRATION = 0x05
_AUDIO_DESCRIPTORS = frozenset((0x6A, 0x7A, 0x7B, 0x7C))  # AC-3, E-AC-3, DTS, AAC (ETSI EN 300 468)
_REGISTERED_AUDIO = frozenset((b"AC-3", b"EAC3", b"DTS1", b"DTS2", b"DTS3", b"Opus", b"BSSD"))
_REGISTERED_VIDEO = frozenset((b"HEVC", b"AV01", b"VC-1", b"drac", b"VVC "))


def transport_stream_type(head: bytes) -> Sniffed | None:
    """Returns the type of a transport stream; None if it is none.

    It is audio if a table of its streams names audio, and none names anything that is, or may be, video.

    Args:
        head: the first 64 KiB.
    """
    spacing = next((spacing for spacing in _SPACINGS if _is_spaced(head, *spacing)), None)
    if spacing is None:
        return None
    kinds = _kinds(head, *spacing)
    if Modality.AUDIO in kinds and Modality.VIDEO not in kinds:
        return Sniffed("audio/mp2t", Modality.AUDIO)
    return Sniffed("video/mp2t", Modality.VIDEO)


def _is_spaced(head: bytes, size: int, first: int) -> bool:
    return len(head) > first + 2 * size and all(head[first + number * size] == _SYNC for number in range(3))


def _kinds(head: bytes, size: int, first: int) -> set[Modality | None]:
    """Returns what the streams of all programmes hold; empty without a readable table."""
    maps: set[int] = set()
    kinds: set[Modality | None] = set()
    for at in range(first, len(head) - _PACKET_BYTES + 1, size):
        packet = head[at : at + _PACKET_BYTES]
        packet_id = (packet[1] & 0x1F) << 8 | packet[2]
        if packet[0] != _SYNC or (packet_id != 0 and packet_id not in maps):
            continue
        section = _section(packet)
        if packet_id == 0 and section[:1] == bytes([_TABLE_OF_PROGRAMMES]):
            maps.update(_programme_maps(section))
        elif packet_id in maps and section[:1] == bytes([_TABLE_OF_STREAMS]):
            kinds.update(_streams(section))
    return kinds


def _section(packet: bytes) -> bytes:
    """Returns the section that begins in a packet, without its check; empty unless one begins and ends there."""
    begins, has_payload = packet[1] & 0x40, packet[3] & 0x10
    if not begins or not has_payload:
        return b""
    at = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
    at += 1 + packet[at] if at < len(packet) else 0
    length = (packet[at + 1] & 0x0F) << 8 | packet[at + 2] if at + 3 <= len(packet) else 0
    section = packet[at : at + 3 + length]
    return section[:-4] if length > 4 and len(section) == 3 + length else b""


def _programme_maps(section: bytes) -> Iterator[int]:
    """Yields the packet id of each programme's table; programme 0 is no programme."""
    for at in range(8, len(section) - 3, 4):
        if section[at : at + 2] != b"\0\0":
            yield (section[at + 2] & 0x1F) << 8 | section[at + 3]


def _streams(section: bytes) -> Iterator[Modality | None]:
    """Yields what each stream of a programme holds; None for data."""
    if len(section) < 12:
        return
    at = 12 + ((section[10] & 0x0F) << 8 | section[11])
    is_disc = (_REGISTRATION, b"HDMV") in _descriptors(section[12:at])
    while at + 5 <= len(section):
        end = at + 5 + ((section[at + 3] & 0x0F) << 8 | section[at + 4])
        yield _kind(section[at], section[at + 5 : end], is_disc=is_disc)
        at = end


def _kind(stream_type: int, described: bytes, *, is_disc: bool) -> Modality | None:
    if stream_type in _AUDIO or (stream_type == _DISC_AUDIO and is_disc):
        return Modality.AUDIO
    if stream_type in _DATA:
        return None
    if stream_type != _PRIVATE:
        return Modality.VIDEO  # or a type that is not known: then it counts as video, as everything did
    for tag, value in _descriptors(described):
        if tag in _AUDIO_DESCRIPTORS or (tag == _REGISTRATION and value in _REGISTERED_AUDIO):
            return Modality.AUDIO
        if tag == _REGISTRATION and value in _REGISTERED_VIDEO:
            return Modality.VIDEO
    return None


def _descriptors(described: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the tag of each descriptor, and the first four bytes of its value."""
    at = 0
    while at + 2 <= len(described):
        yield described[at], described[at + 2 : at + 2 + min(4, described[at + 1])]
        at += 2 + described[at + 1]
