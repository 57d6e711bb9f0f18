"""Opens the zip archive of a document, after its directory shows what it unpacks to.

Python's `zipfile` never unpacks more of an entry than the directory states, so the check of the directory is one of
the contents.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from penstock.errors import BadInputError, Reason
from penstock.media.documents.base import DocumentBytes
from penstock.media.documents.limits import DocumentLimits

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer  # collections.abc has it from Python 3.12 on

_MIB = 1024 * 1024
_MAX_ENTRIES = 20_000
# Sheets of 100,000 equal rows unpack to 60 times their size, deflated zeros to 1,000 times.
_MAX_RATIO = 200
_SMALL_BYTES = 16 * _MIB  # what may be unpacked at any ratio
_PROLOG_BYTES = 4_096
_XML_SUFFIXES = (".xml", ".rels", ".opf", ".ncx")


class _View(io.RawIOBase):
    """Reads bytes in memory as a file, without a copy of them."""

    def __init__(self, data: DocumentBytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        target = memoryview(buffer)
        part = self._data[self._at : self._at + len(target)]
        target[: len(part)] = part
        self._at += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        self._at = max(0, base + offset)
        return self._at


def open_archive(data: DocumentBytes, limits: DocumentLimits) -> zipfile.ZipFile:
    """Opens an archive.

    Raises:
        BadInputError: CORRUPT if it is truncated; TOO_LARGE if it unpacks to too much; UNSUPPORTED if it is encrypted.
    """
    try:
        archive = zipfile.ZipFile(as_file(data))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as exc:
        raise BadInputError(Reason.CORRUPT, f"its container is truncated or damaged: {exc}") from exc
    entries = archive.infolist()
    if len(entries) > _MAX_ENTRIES:
        raise BadInputError(Reason.TOO_LARGE, f"{len(entries):,} files in one document; {_MAX_ENTRIES:,} are allowed")
    if any(entry.flag_bits & 1 for entry in entries):
        raise BadInputError(Reason.UNSUPPORTED, "it is encrypted: save it without a password and send it again")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > limits.max_unpacked_mib * _MIB:
        detail = f"unpacks to {unpacked:,} bytes; documents.max_unpacked_mib is {limits.max_unpacked_mib:,}"
        raise BadInputError(Reason.TOO_LARGE, detail)
    if unpacked > max(_SMALL_BYTES, _MAX_RATIO * len(data)):
        detail = f"a zip bomb: {len(data):,} bytes unpack to {unpacked:,}, more than {_MAX_RATIO} times as much"
        raise BadInputError(Reason.TOO_LARGE, detail)
    return archive


def as_file(data: DocumentBytes) -> io.BufferedReader:
    """Returns the bytes as a file, without a copy of them."""
    return io.BufferedReader(_View(data))


def refuse_entities(archive: zipfile.ZipFile) -> None:
    """Refuses XML that declares a document type: Office formats forbid it, and only entities need it.

    Raises:
        BadInputError: CORRUPT.
    """
    for name, prolog in _prologs(archive):
        if b"<!DOCTYPE" in prolog or b"<!ENTITY" in prolog:
            detail = f"{name} declares a document type, as XML with expanding or external entities does"
            raise BadInputError(Reason.CORRUPT, detail)


def refuse_strict(archive: zipfile.ZipFile) -> None:
    """Refuses the strict variant of the Office formats, whose names the libraries do not know.

    Raises:
        BadInputError: UNSUPPORTED.
    """
    if b"purl.oclc.org/ooxml" in read_entry(archive, "_rels/.rels"):
        detail = "it is saved as strict Office Open XML: save it in the default variant and send it again"
        raise BadInputError(Reason.UNSUPPORTED, detail)


def read_entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """Returns an entry; empty if there is none of that name, or it is damaged."""
    try:
        return archive.read(name)
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError):
        return b""


def _prologs(archive: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    """Yields the beginning of each XML file, without the zeros that UTF-16 has between ASCII letters."""
    for entry in archive.infolist():
        if entry.filename.lower().endswith(_XML_SUFFIXES):
            try:
                with archive.open(entry) as file:
                    yield entry.filename, file.read(_PROLOG_BYTES).replace(b"\0", b"")
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as exc:
                raise BadInputError(Reason.CORRUPT, f"{entry.filename} in it is damaged: {exc}") from exc
