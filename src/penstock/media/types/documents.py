"""Detects documents by their structure: PDF, zip archives, OLE containers and messages.

An Office document of today is a zip archive whose list of content types names its main part; an EPUB or OpenDocument
names itself in its first file. Those from before 2007, and all with a password, are OLE containers of named streams.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator

import olefile

from penstock.media.types.base import Sniffed
from penstock.media.types.containers import Bytes
from penstock.records import Modality

# The modality of documents; None in a version without a topic for them.
DOCUMENT: Modality | None = next((modality for modality in Modality if modality == "document"), None)

PDF, ENCRYPTED, EMAIL = "application/pdf", "application/encrypted", "message/rfc822"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
EPUB = "application/epub+zip"

_PDF_WITHIN_BYTES = 1_024  # as readers of PDF accept
_PDF_HEADER = re.compile(rb"%PDF-\d\.\d")


def document_type_of(data: Bytes, head: bytes) -> Sniffed | None:
    """Returns the type of a document that is no text; None if it is none.

    Args:
        data: the whole document: the directory of an archive stands at its end.
        head: the first 64 KiB.
    """
    if head[:4] in (b"PK\3\4", b"PK\5\6"):
        return _zip_type(data, head)
    if head[:8] == olefile.MAGIC:
        return _ole_type(data)
    if _PDF_HEADER.search(head, 0, _PDF_WITHIN_BYTES):
        return Sniffed(PDF, DOCUMENT)
    return None


# --- archives --------------------------------------------------------------------------------------------------------

_LOCAL, _CENTRAL, _END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_MAX_ENTRIES = 10_000  # that are looked through for the list of content types
_MAX_TYPES_BYTES = 1 << 20  # of that list, unpacked; that of a thousand slides has 200 kB
_END_BYTES = 65_536 + 22
_CONTENT_TYPES = b"[Content_Types].xml"
_MIMETYPE = b"mimetype"
_MAIN_TYPE = re.compile(
    r"""ContentType\s*=\s*["'](application/vnd\.(?:openxmlformats-officedocument|ms-(?:word|excel|powerpoint))\.[\w.]+?)"""
    r"""\.main(?:\+xml)?["']"""
)
_MACRO_SUFFIX = re.compile(r"\.macroEnabled(?:Template|SlideShow)?$", re.IGNORECASE)
_BY_FOLDER = ((b"word/", DOCX), (b"ppt/", PPTX), (b"xl/", XLSX))  # where the list of content types is lost


def _zip_type(data: Bytes, head: bytes) -> Sniffed:
    """Returns the type that an archive names, else that of archives."""
    first = _local_entry(head, 0)
    if first is not None and first[0] == _MIMETYPE:
        mime = _unpacked(data, 0, 256).decode("ascii", "replace").strip()
        if re.fullmatch(r"[\w.+-]+/[\w.+-]+", mime):
            return Sniffed(mime, DOCUMENT if mime == EPUB else None)
    offset = _offset_of(data, head, _CONTENT_TYPES)
    if offset is not None:
        main = _MAIN_TYPE.search(_unpacked(data, offset, _MAX_TYPES_BYTES).decode("utf-8", "replace"))
        if main is not None:
            return _office_type(main[1])
    if _offset_of(data, head, b"META-INF/container.xml") is not None:
        return Sniffed(EPUB, DOCUMENT)
    names = [name for name, _ in _local_names(head)]
    for folder, mime in _BY_FOLDER:
        if any(name.startswith(folder) for name in names):
            return Sniffed(mime, DOCUMENT)
    return Sniffed("application/zip", None)


def _office_type(main: str) -> Sniffed:
    """Returns the type of a document by the content type of its main part: that with macros ends in a version."""
    if "binary" in main:
        return Sniffed("application/vnd.ms-excel.sheet.binary.macroEnabled.12", None)
    if _MACRO_SUFFIX.search(main):
        return Sniffed(_MACRO_SUFFIX.sub(".macroEnabled.12", main), DOCUMENT)
    return Sniffed(main, DOCUMENT)


def _offset_of(data: Bytes, head: bytes, name: bytes) -> int | None:
    """Returns where an entry of an archive begins: by the entries that follow each other, else by its directory."""
    for entry, at in _local_names(head):
        if entry == name:
            return at
    return next((at for entry, at in _central_names(data) if entry == name), None)


def _local_names(head: bytes) -> Iterator[tuple[bytes, int]]:
    """Yields the names of the first entries and where they begin, as long as these state their sizes."""
    at = 0
    while (entry := _local_entry(head, at)) is not None:
        name, end = entry
        yield name, at
        if end <= at or head[at + 6] & 8:  # the size stands behind the entry
            return
        at = end


def _local_entry(head: bytes, at: int) -> tuple[bytes, int] | None:
    """Returns the name of the entry there, and where it ends."""
    if head[at : at + 4] != _LOCAL or len(head) < at + 30:
        return None
    packed, name_bytes, extra_bytes = _int(head, at + 18, 4), _int(head, at + 26, 2), _int(head, at + 28, 2)
    begin = at + 30
    return head[begin : begin + name_bytes], begin + name_bytes + extra_bytes + packed


def _central_names(data: Bytes) -> Iterator[tuple[bytes, int]]:
    """Yields the names of the directory and where the entries begin."""
    size = len(data)
    tail = data[max(0, size - _END_BYTES) : size]
    end = tail.rfind(_END)
    if end < 0 or len(tail) < end + 22:
        return
    directory_bytes, stated = _int(tail, end + 12, 4), _int(tail, end + 16, 4)
    # Bytes before the archive move its entries, but not the offsets in it.
    at = max(0, size - len(tail) + end - directory_bytes)
    moved = max(0, at - stated)
    for _ in range(_MAX_ENTRIES):
        header = data[at : at + 46]
        if header[:4] != _CENTRAL or len(header) < 46:
            return
        name_bytes, extra_bytes, comment_bytes = _int(header, 28, 2), _int(header, 30, 2), _int(header, 32, 2)
        yield data[at + 46 : at + 46 + name_bytes], moved + _int(header, 42, 4)
        at += 46 + name_bytes + extra_bytes + comment_bytes


def _unpacked(data: Bytes, offset: int, max_bytes: int) -> bytes:
    """Returns the beginning of an entry's contents; empty if they are damaged."""
    header = data[offset : offset + 30]
    if header[:4] != _LOCAL or len(header) < 30:
        return b""
    begin = offset + 30 + _int(header, 26, 2) + _int(header, 28, 2)
    method, packed = _int(header, 8, 2), _int(header, 18, 4)
    if method == 0:
        return data[begin : begin + min(packed, max_bytes)]
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return unpacking.decompress(data[begin : begin + max_bytes], max_bytes)
    except zlib.error:
        return b""


def _int(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


# --- OLE -------------------------------------------------------------------------------------------------------------

_MAX_OLE_BYTES = 256 * 1024 * 1024
_STREAMS = (
    ("EncryptedPackage", ENCRYPTED),
    ("WordDocument", "application/msword"),
    ("Workbook", "application/vnd.ms-excel"),
    ("Book", "application/vnd.ms-excel"),
    ("PowerPoint Document", "application/vnd.ms-powerpoint"),
    ("__properties_version1.0", "application/vnd.ms-outlook"),
    ("VisioDocument", "application/vnd.visio"),
)


def _ole_type(data: Bytes) -> Sniffed:
    """Returns the type of an OLE container by the names of its streams. Only an encrypted document has a modality."""
    unknown = Sniffed("application/x-ole-storage", None)
    if len(data) > _MAX_OLE_BYTES:
        return unknown
    try:
        with olefile.OleFileIO(io.BytesIO(data[0 : len(data)])) as container:
            names = {path[0] for path in container.listdir()}
    except (OSError, ValueError, IndexError, TypeError, AttributeError, RecursionError):
        return unknown
    mime = next((mime for stream, mime in _STREAMS if stream in names), None)
    return unknown if mime is None else Sniffed(mime, DOCUMENT if mime == ENCRYPTED else None)


# --- messages --------------------------------------------------------------------------------------------------------

_HEADERS = re.compile(r"(?:[!-9;-~]{1,60}:[^\n]*+\n(?:[ \t][^\n]*+\n)*+){2,}+(?:\n|\Z)")
_HEADER_NAME = re.compile(r"^([!-9;-~]{1,60}):", re.MULTILINE)
_ENVELOPE = re.compile(r"From \S+ [^\n]*\n")
_OF_MESSAGES = frozenset(("received", "return-path", "delivered-to", "message-id", "mime-version", "dkim-signature"))


def is_message(text: str, declared: str | None) -> bool:
    """Returns whether a text begins with the headers of a message (RFC 5322).

    Undeclared, it has to have some that only programs write: a letter may begin with "From:" and "To:" as well.
    """
    kind = (declared or "").partition(";")[0].strip().lower()
    if kind.startswith("text/"):
        return False
    headers = _HEADERS.match(text, _envelope_end(text))
    if headers is None:
        return False
    names = {name.lower() for name in _HEADER_NAME.findall(headers[0])}
    if kind == EMAIL:
        return bool(names & {"from", "date", "subject", *_OF_MESSAGES})
    return "from" in names and "date" in names and bool(names & _OF_MESSAGES)


def _envelope_end(text: str) -> int:
    """Returns where the headers begin: some programs write a line of their own before them."""
    envelope = _ENVELOPE.match(text)
    return 0 if envelope is None else envelope.end()
