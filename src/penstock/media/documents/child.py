"""The process that parses one document, within limits of memory, CPU time and written bytes.

The request comes as JSON in the only argument, the document as standard input; frames go to standard output.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import sys
from functools import partial
from typing import IO, Any

from penstock.errors import BadInputError, Reason, first_line
from penstock.media.documents.base import OpenDocument, Opener
from penstock.media.documents.frames import DocumentFrame, EndFrame, write_frame
from penstock.media.documents.limits import DocumentLimits
from penstock.media.documents.types import DocumentPage, DocumentType
from penstock.processes import bound_this_process, tie_to_parent

_MIB = 1024 * 1024
_PAGE_SHARE = 0.25  # of the CPU time of a call that one page may take
_STOP_SHARE = 0.5  # after which no further page begins, so that each has its share
_STOP_BYTES = 128 * _MIB  # written, after which no further page begins: a page of the default size has 2 MB
_BYTES_PER_PIXEL = 3
_MAX_TEXT_BYTES = 64 * _MIB  # of a page
_MEMORY_ERRORS = ("emory allocation failed", "out of memory", "unknown error (<string>, line 0)")


def main() -> None:
    """Reads the pages that are requested, and writes each as soon as it is read."""
    request = json.loads(sys.argv[1])
    tie_to_parent(request["parent"])
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what else is printed is no frame
    limits = DocumentLimits(**request["limits"])
    opener = _opener(DocumentType(request["kind"]))
    data = mmap.mmap(sys.stdin.fileno(), 0, access=mmap.ACCESS_COPY)
    _bound(limits)
    try:
        document = _open(opener, data, limits, request["kind"])
    except BadInputError as exc:
        write_frame(out, exc)
        out.flush()
        os._exit(0)  # a library that has failed once may fail again when it is cleaned up
    _write_pages(out, document, request, limits)
    os._exit(0)


def _opener(kind: DocumentType) -> Opener:
    """Imports the parser of this kind alone: each takes a tenth of a second."""
    match kind:
        case DocumentType.PDF:
            from penstock.media.documents.pdf import open_pdf

            opener: Opener = open_pdf
        case DocumentType.DOCX:
            from penstock.media.documents.docx import open_docx

            opener = open_docx
        case DocumentType.PPTX:
            from penstock.media.documents.pptx import open_pptx

            opener = open_pptx
        case DocumentType.XLSX:
            from penstock.media.documents.xlsx import open_xlsx

            opener = open_xlsx
        case DocumentType.EPUB:
            from penstock.media.documents.epub import open_epub

            opener = open_epub
        case DocumentType.EMAIL:
            from penstock.media.documents.email import open_email

            opener = partial(open_email, open_attached=_opener)
    return opener


def _bound(limits: DocumentLimits) -> None:
    bound_this_process(memory_bytes=limits.max_memory_mib * _MIB, cpu_s=int(limits.parse_timeout_s))
    page_bytes = limits.page_px**2 * (1 + limits.max_figures) * _BYTES_PER_PIXEL + _MAX_TEXT_BYTES
    written = _STOP_BYTES + page_bytes
    resource.setrlimit(resource.RLIMIT_FSIZE, (written, written))


def _open(opener: Opener, data: mmap.mmap, limits: DocumentLimits, kind: str) -> OpenDocument:
    """Opens the document.

    Raises:
        BadInputError: it cannot be opened.
    """
    try:
        return opener(data, limits)
    except BadInputError:
        raise
    except Exception as exc:
        if _is_out_of_memory(exc):
            detail = (
                f"more than {limits.max_memory_mib:,} MiB of memory are needed to open it (documents.max_memory_mib)"
            )
            raise BadInputError(Reason.TOO_LARGE, detail) from exc
        raise BadInputError(Reason.CORRUPT, f"this {kind.upper()} does not open: {first_line(exc)[:300]}") from exc


def _is_out_of_memory(exc: Exception) -> bool:
    """Returns whether an allocation failed; lxml reports that as an error in the XML, with or without a name."""
    return isinstance(exc, MemoryError) or any(text in str(exc) for text in _MEMORY_ERRORS)


def _write_pages(out: IO[bytes], document: OpenDocument, request: dict[str, Any], limits: DocumentLimits) -> None:
    page_count = min(document.page_count, limits.max_pages)
    write_frame(out, DocumentFrame(document.title, document.author, page_count))
    first = request["first"]
    for number in range(first, min(first + request["count"], page_count + 1)):
        used_s = _used_s()
        if number > first and (used_s > _STOP_SHARE * limits.parse_timeout_s or out.tell() > _STOP_BYTES):
            break
        _limit_cpu(used_s + _PAGE_SHARE * limits.parse_timeout_s)
        write_frame(out, _page(document, number, limits))
    notes = list(document.notes)
    if document.page_count > limits.max_pages:
        notes.append(f"pages after {limits.max_pages:,} of {document.page_count:,} were not read (documents.max_pages)")
    write_frame(out, EndFrame(tuple(notes)))


def _page(document: OpenDocument, number: int, limits: DocumentLimits) -> DocumentPage:
    """Reads a page; one that fails is an empty one that says so."""
    try:
        return document.page(number)
    except Exception as exc:
        if _is_out_of_memory(exc):
            return DocumentPage(number, "", "", damage=f"it needs more than {limits.max_memory_mib:,} MiB of memory")
        return DocumentPage(number, "", "", damage=f"it cannot be read: {first_line(exc)[:300]}")


def _used_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _limit_cpu(at_s: float) -> None:
    """Has the kernel end this process once it has used this much CPU time in all, in seconds, rounded up."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(at_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (min(soft, hard), hard))


if __name__ == "__main__":
    main()
