"""The type that documents have by their structure."""

from __future__ import annotations

import io
import zipfile

import pytest

from penstock.errors import BadInputError, Reason
from penstock.media.documents.types import TYPES, DocumentType, document_type
from penstock.media.sniff import sniff
from penstock.media.types.base import Sniffed
from penstock.media.types.documents import DOCUMENT
from tests.media.documents.made import lines, pdf
from tests.media.documents.ole import ole_container
from tests.media.documents.test_books_and_mail import epub, message
from tests.media.documents.test_office import MACRO, presentation, with_macros, word_document, workbook

OFFICE = "application/vnd.openxmlformats-officedocument."
MADE = [
    (lambda: pdf(lines("x")), "application/pdf", DocumentType.PDF),
    (lambda: pdf(lines("x"), compressed=False), "application/pdf", DocumentType.PDF),
    (word_document, f"{OFFICE}wordprocessingml.document", DocumentType.DOCX),
    (presentation, f"{OFFICE}presentationml.presentation", DocumentType.PPTX),
    (workbook, f"{OFFICE}spreadsheetml.sheet", DocumentType.XLSX),
    (epub, "application/epub+zip", DocumentType.EPUB),
    (lambda: message().as_bytes(), "message/rfc822", DocumentType.EMAIL),
]


@pytest.mark.parametrize(("make", "mime", "kind"), MADE)
def test_documents_are_detected_whatever_they_are_declared_as(make, mime, kind) -> None:  # type: ignore[no-untyped-def]
    for declared in (None, "application/octet-stream", mime):
        assert sniff(make(), declared=declared) == Sniffed(mime, DOCUMENT)
    assert document_type(mime) is kind


@pytest.mark.parametrize("kind", MACRO)
def test_documents_with_macros_are_of_their_kind(kind: DocumentType) -> None:
    mime = sniff(with_macros(kind), declared=None).mime
    assert mime.endswith(".macroEnabled.12")
    assert TYPES[mime] is kind


def archive(*files: tuple[str, str], compressed: bool = True) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as written:
        for name, content in files:
            written.writestr(name, content)
    return out.getvalue()


def test_the_list_of_content_types_is_found_wherever_it_stands() -> None:
    types = f'<Types><Override PartName="/word/document.xml" ContentType="{OFFICE}wordprocessingml.document.main+xml"/>'
    last = archive(("padding", "x" * 100_000), ("[Content_Types].xml", types), compressed=False)
    assert sniff(last, declared=None).mime == f"{OFFICE}wordprocessingml.document"
    assert sniff(last[:-100], declared=None).mime != f"{OFFICE}wordprocessingml.document"


def test_a_truncated_document_is_still_one() -> None:
    assert sniff(word_document()[:3_000], declared=None).mime == f"{OFFICE}wordprocessingml.document"


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (archive(("mimetype", "application/vnd.oasis.opendocument.text"), compressed=False),
         "application/vnd.oasis.opendocument.text"),
        (ole_container("WordDocument"), "application/msword"),
        (ole_container("Workbook"), "application/vnd.ms-excel"),
        (ole_container("Something"), "application/x-ole-storage"),
        (archive(("a.txt", "words")), "application/zip"),
        (b"PK\3\4" + bytes(10), None),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\xff" * 2_000, "application/x-ole-storage"),
    ],
)  # fmt: skip
def test_what_is_not_read_has_its_own_name(data: bytes, mime: str | None) -> None:
    sniffed = sniff(data, declared=None)
    assert sniffed.modality is None
    assert mime is None or sniffed.mime == mime


def test_an_office_document_with_a_password_says_so() -> None:
    sniffed = sniff(ole_container("EncryptionInfo", "EncryptedPackage"), declared=None)
    assert sniffed == Sniffed("application/encrypted", DOCUMENT)
    with pytest.raises(BadInputError, match="encrypted: save it without a password") as refused:
        document_type(sniffed.mime)
    assert refused.value.reason is Reason.UNSUPPORTED


def test_a_pdf_may_begin_after_other_bytes() -> None:
    data = pdf(lines("x"))
    assert sniff(b"\0\xff" * 500 + data, declared=None).mime == "application/pdf"
    assert sniff(b"\0\xff" * 600 + data, declared=None).mime != "application/pdf"


@pytest.mark.parametrize(
    "text",
    [
        "From: Ana\nTo: Ben\nSubject: herons\n\nDear Ben,",
        "Note: a text\nOther: lines\n\nwords",
        "Dear Ben,\nFrom: Ana\nDate: today\nMessage-ID: 1\n\n",
    ],
)
def test_letters_are_texts_and_no_messages(text: str) -> None:
    assert sniff(text.encode(), declared=None).mime == "text/plain"
    assert sniff(message().as_bytes(), declared="text/plain").mime == "text/plain"
