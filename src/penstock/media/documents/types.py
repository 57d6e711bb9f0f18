"""The types of documents that are read, and their pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from penstock.errors import BadInputError, Reason
from penstock.records import UInt8


class DocumentType(StrEnum):
    """A kind of document, each with a parser of its own."""

    PDF = "pdf"
    DOCX = "docx"
    PPTX = "pptx"
    XLSX = "xlsx"
    EPUB = "epub"
    EMAIL = "email"


ENCRYPTED = "application/encrypted"  # an Office document in a container that only its password opens

TYPES: Mapping[str, DocumentType] = {
    "application/pdf": DocumentType.PDF,
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": DocumentType.DOCX,
    "application/vnd.openxmlformats-officedocument.wordprocessingml.template": DocumentType.DOCX,
    "application/vnd.ms-word.document.macroEnabled.12": DocumentType.DOCX,
    "application/vnd.ms-word.template.macroEnabled.12": DocumentType.DOCX,
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": DocumentType.PPTX,
    "application/vnd.openxmlformats-officedocument.presentationml.slideshow": DocumentType.PPTX,
    "application/vnd.openxmlformats-officedocument.presentationml.template": DocumentType.PPTX,
    "application/vnd.ms-powerpoint.presentation.macroEnabled.12": DocumentType.PPTX,
    "application/vnd.ms-powerpoint.slideshow.macroEnabled.12": DocumentType.PPTX,
    "application/vnd.ms-powerpoint.template.macroEnabled.12": DocumentType.PPTX,
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": DocumentType.XLSX,
    "application/vnd.openxmlformats-officedocument.spreadsheetml.template": DocumentType.XLSX,
    "application/vnd.ms-excel.sheet.macroEnabled.12": DocumentType.XLSX,
    "application/vnd.ms-excel.template.macroEnabled.12": DocumentType.XLSX,
    "application/epub+zip": DocumentType.EPUB,
    "message/rfc822": DocumentType.EMAIL,
}


def document_type(mime: str) -> DocumentType:
    """Returns the kind of document of a detected type.

    Raises:
        BadInputError: UNSUPPORTED: it is encrypted, or no document that is read.
    """
    if mime == ENCRYPTED:
        raise BadInputError(
            Reason.UNSUPPORTED, "an Office document that is encrypted: save it without a password and send it again"
        )
    kind = TYPES.get(mime)
    if kind is None:
        raise BadInputError(
            Reason.UNSUPPORTED, f"no reader of documents for {mime}; send PDF, DOCX, PPTX, XLSX or EPUB"
        )
    return kind


@dataclass(frozen=True, slots=True)
class Figure:
    """An image that is embedded in a page, at least 64 pixels wide and high.

    Attributes:
        number: its place on the page, from 1.
        pixels: uint8[height, width, 3], RGB, the longer side at most `page_px`.
        alt: its description for readers who do not see it; "" if it has none.
    """

    number: int
    pixels: UInt8
    alt: str = ""


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """A page, slide, sheet, chapter or part of a message.

    Attributes:
        number: its place in the document, from 1.
        label: the name that it has there: "iv", the name of a sheet; "" if none, or if that is the number.
        text: its words in reading order, with the marks `BLOCK` and `LINE` of `media.text.markup`.
        heading: the heading under which it stands; "" if none is known.
        image: the page as it looks, uint8[height, width, 3], the longer side `page_px`; None unless it is of a PDF.
        figures: the images on it, each once, however often it is shown there.
        damage: what of the page could not be read, in words; "" if all was.
    """

    number: int
    label: str
    text: str
    heading: str = ""
    image: UInt8 | None = None
    figures: tuple[Figure, ...] = ()
    damage: str = ""


Page = DocumentPage


@dataclass(frozen=True, slots=True)
class DocumentPages:
    """Consecutive pages of a document.

    Attributes:
        title: the title of the document; "" if it has none.
        author: its author; "" if none is named.
        type: its kind.
        page_count: the pages that it has, at most `max_pages`.
        first: the number of the first of `pages`.
        pages: at least one; fewer than were requested where they take long.
        is_last: whether the last page of the document is among them.
        notes: what is left out of the document, in words.
    """

    title: str
    author: str
    type: DocumentType
    page_count: int
    first: int
    pages: tuple[DocumentPage, ...]
    is_last: bool
    notes: tuple[str, ...] = ()

    @property
    def next_page(self) -> int:
        """The page to continue at, if this was not the last."""
        return self.first + len(self.pages)
