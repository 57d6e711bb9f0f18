"""The types of containers of audio and video, of which many hold either.

What a container holds is read from its list of tracks, never from letters that stand somewhere in its bytes: a title
may hold any. Each reader follows the sizes that the container states, and stops at the first that makes no sense; then
the container counts as video, which every audio track of a video is read from too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from penstock.media.types.base import Sniffed
from penstock.records import Modality


class Bytes(Protocol):
    """The bytes of a whole file: `bytes`, or a file mapped to memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, span: slice, /) -> bytes: ...


_RIFF: Mapping[bytes, tuple[str, Modality]] = {
    b"RIFFWAVE": ("audio/wav", Modality.AUDIO),
    b"RF64WAVE": ("audio/wav", Modality.AUDIO),
    b"BW64WAVE": ("audio/wav", Modality.AUDIO),
    b"RIFFAVI ": ("video/x-msvideo", Modality.VIDEO),
    b"FORMAIFF": ("audio/aiff", Modality.AUDIO),
    b"FORMAIFC": ("audio/aiff", Modality.AUDIO),
}
_MAX_ELEMENTS = 10_000  # of one level: a file that is crafted to have more would only take time


def container_type(data: Bytes, head: bytes) -> Sniffed | None:
    """Returns the type of a container; None if it is none of those known here.

    Args:
        data: the whole media: a list of tracks may stand at their end.
        head: the first 64 KiB.
    """
    if chunked := _RIFF.get(head[:4] + head[8:12]):
        return Sniffed(*chunked)
    if head[4:8] == b"ftyp" or head[4:8] in _WITHOUT_FTYP:
        return _iso_base_media(data, head)
    if head[:4] == _EBML_HEADER:
        return _matroska(data)
    return next((read(head) for signature, read in _BY_HEAD if head.startswith(signature)), None)


# --- MP4 and QuickTime (ISO/IEC 14496-12) -----------------------------------------------------------------------------

_IMAGE_BRANDS: tuple[tuple[frozenset[bytes], Sniffed], ...] = (
    (frozenset((b"avif", b"avis")), Sniffed("image/avif", Modality.IMAGE)),
    (frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis")), Sniffed("image/heic", None)),
    (frozenset((b"mif1", b"msf1", b"heif")), Sniffed("image/heif", None)),
    (frozenset((b"crx ",)), Sniffed("image/x-canon-cr3", None)),
)
_AUDIO_BRANDS = (b"M4A ", b"M4B ", b"M4P ")
_WITHOUT_FTYP = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # how old QuickTime files begin
_MAX_BRANDS = 64


def _iso_base_media(data: Bytes, head: bytes) -> Sniffed | None:
    """Reads the brands, of which an image may have several, and then the handlers of the tracks."""
    has_brand = head[4:8] == b"ftyp"
    brand = head[8:12] if has_brand else b"qt  "
    image = _image_of_brands(head) if has_brand else None
    if image is not None:
        return image
    handlers = _handlers(data)
    if handlers is None and not has_brand:
        return None
    mime = "quicktime" if brand == b"qt  " else "mp4"
    if brand in _AUDIO_BRANDS or (handlers and b"soun" in handlers and b"vide" not in handlers):
        return Sniffed("audio/mp4", Modality.AUDIO)
    return Sniffed(f"video/{mime}", Modality.VIDEO)


def _image_of_brands(head: bytes) -> Sniffed | None:
    """Returns the image that the major brand names, or a compatible one where the major says only `an image`."""
    major = head[8:12]
    size = int.from_bytes(head[:4], "big")
    end = min(size, 16 + 4 * _MAX_BRANDS)
    compatible = {head[at : at + 4] for at in range(16, end - 3, 4)}
    named = next((image for brands, image in _IMAGE_BRANDS if major in brands), None)
    if named is None or named.mime != "image/heif":
        return named
    return next(image for brands, image in _IMAGE_BRANDS if brands & (compatible | {major}))


def _handlers(data: Bytes) -> set[bytes] | None:
    """Returns the kinds of tracks, `soun`, `vide` and others; None if there is no box `moov`."""
    for name, start, end in _boxes(data, 0, len(data)):
        if name == b"moov":
            return {
                data[at + 8 : at + 12]
                for track, track_start, track_end in _boxes(data, start, end)
                if track == b"trak"
                for media, media_start, media_end in _boxes(data, track_start, track_end)
                if media == b"mdia"
                for handler, at, _ in _boxes(data, media_start, media_end)
                if handler == b"hdlr"
            }
    return None


def _boxes(data: Bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields the name of each box of one level, and where its content starts and ends."""
    for _ in range(_MAX_ELEMENTS):
        if start + 8 > end:
            return
        size, header = int.from_bytes(data[start : start + 4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        if size == 0:  # up to the end
            size = end - start
        if size < header:
            return
        yield data[start + 4 : start + 8], start + header, min(start + size, end)
        start += size


# --- Matroska and WebM (RFC 8794, RFC 9559) ---------------------------------------------------------------------------

_SEGMENT, _SEEK_HEAD, _SEEK, _SEEK_ID, _SEEK_POSITION = 0x18538067, 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC
_EBML_HEADER = b"\x1a\x45\xdf\xa3"
_TRACKS, _TRACK_ENTRY, _TRACK_TYPE, _DOC_TYPE = 0x1654AE6B, 0xAE, 0x83, 0x4282
_VIDEO_TRACK, _AUDIO_TRACK = 1, 2


def _matroska(data: Bytes) -> Sniffed:
    document, kinds = b"", set[int]()
    for name, start, end in _elements(data, 0, len(data)):
        if name == _SEGMENT:
            kinds = _track_kinds(data, start, end)
            break
        document = next((data[at:to] for part, at, to in _elements(data, start, end) if part == _DOC_TYPE), document)
    kind = "webm" if document.rstrip(b"\0") == b"webm" else "x-matroska"
    if _AUDIO_TRACK in kinds and _VIDEO_TRACK not in kinds:
        return Sniffed(f"audio/{kind}", Modality.AUDIO)
    return Sniffed(f"video/{kind}", Modality.VIDEO)


def _track_kinds(data: Bytes, start: int, end: int) -> set[int]:
    """Reads the list of tracks of a segment, which stands before the media, or where the index says."""
    elsewhere = None
    for name, at, to in _elements(data, start, end):
        if name == _TRACKS:
            return set(_types(data, at, to))
        if name == _SEEK_HEAD:
            elsewhere = _tracks_position(data, at, to)
    if elsewhere is not None:
        for name, at, to in _elements(data, start + elsewhere, end):
            return set(_types(data, at, to)) if name == _TRACKS else set()
    return set()


def _types(data: Bytes, start: int, end: int) -> Iterator[int]:
    for name, at, to in _elements(data, start, end):
        if name == _TRACK_ENTRY:
            yield from (
                int.from_bytes(data[value:last], "big")
                for part, value, last in _elements(data, at, to)
                if part == _TRACK_TYPE
            )


def _tracks_position(data: Bytes, start: int, end: int) -> int | None:
    """Returns where the list of tracks starts, from the start of the segment."""
    for name, at, to in _elements(data, start, end):
        if name == _SEEK:
            fields = {
                part: int.from_bytes(data[value : min(last, value + 8)], "big")
                for part, value, last in _elements(data, at, to)
            }
            if fields.get(_SEEK_ID) == _TRACKS:
                return fields.get(_SEEK_POSITION)
    return None


def _elements(data: Bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields the id of each element of one level, and where its content starts and ends.

    The last one may be of unknown size, as in live recordings: it reaches to the end.
    """
    for _ in range(_MAX_ELEMENTS):
        name, start = _variable_integer(data, start, keep_length=True)
        size, start = _variable_integer(data, start, keep_length=False)
        if name is None or start > end:
            return
        yield name, start, end if size is None else min(start + size, end)
        if size is None:
            return
        start += size


def _variable_integer(data: Bytes, start: int, *, keep_length: bool) -> tuple[int | None, int]:
    """Returns the number, None if it is unknown or absent, and where the next one starts.

    The leading zeros of its first byte are the number of bytes that follow; `keep_length` leaves that in the number.
    """
    first = data[start : start + 1]
    if not first or first[0] == 0:
        return None, start + 1
    length = 9 - first[0].bit_length()
    number = int.from_bytes(data[start : start + length], "big")
    ones = (1 << 7 * length) - 1
    if not keep_length:
        number = number & ones
    return None if not keep_length and number == ones else number, start + length


# --- Ogg (RFC 3533) ---------------------------------------------------------------------------------------------------

_VIDEO_CODECS_IN_OGG = (b"\x80theora", b"\1video", b"BBCD\0", b"OVP80")
_FIRST_PAGE = 2


def _ogg(head: bytes) -> Sniffed:
    """Reads the first page of each track, which all precede the others and begin with the name of the codec."""
    at = 0
    while head[at : at + 4] == b"OggS" and head[at + 5 : at + 6] and head[at + 5] & _FIRST_PAGE:
        segments = head[at + 26] if len(head) > at + 26 else 0
        content = at + 27 + segments
        if head.startswith(_VIDEO_CODECS_IN_OGG, content):
            return Sniffed("video/ogg", Modality.VIDEO)
        at = content + sum(head[at + 27 : content])
    return Sniffed("audio/ogg", Modality.AUDIO)


# --- ASF, of which WMA and WMV are names ------------------------------------------------------------------------------

_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_STREAM = bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")
_ASF_AUDIO = bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b")
_ASF_VIDEO = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")


def _asf(head: bytes) -> Sniffed:
    """Reads the properties of the streams, which are objects of the header."""
    kinds = set()
    at, end = 30, min(int.from_bytes(head[16:24], "little"), len(head))
    while at + 24 <= end:
        size = int.from_bytes(head[at + 16 : at + 24], "little")
        if head[at : at + 16] == _ASF_STREAM:
            kinds.add(head[at + 24 : at + 40])
        if size < 24:
            break
        at += size
    if _ASF_AUDIO in kinds and _ASF_VIDEO not in kinds:
        return Sniffed("audio/x-ms-wma", Modality.AUDIO)
    return Sniffed("video/x-ms-asf", Modality.VIDEO)


# --- Flash Video ------------------------------------------------------------------------------------------------------


def _flash(head: bytes) -> Sniffed:
    """Reads the flags of the header: 4 for audio, 1 for video."""
    if head[4:5] == b"\4":
        return Sniffed("audio/x-flv", Modality.AUDIO)
    return Sniffed("video/x-flv", Modality.VIDEO)


_BY_HEAD: tuple[tuple[bytes, Callable[[bytes], Sniffed]], ...] = (
    (b"OggS", _ogg),
    (_ASF_HEADER, _asf),
    (b"FLV\1", _flash),
)
