"""Reads PDFs by PDFium: text in its order, pages as images, and the images on them.

PDFium repairs a broken table of references where it can, and contains no engine for scripts.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
from collections.abc import Iterator

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from penstock.errors import BadInputError, Reason
from penstock.media.documents.base import MAX_FIGURE_PIXELS, MIN_FIGURE_PX, DocumentBytes, clean_name, reduce_image
from penstock.media.documents.limits import DocumentLimits
from penstock.media.documents.pdf_text import page_text
from penstock.media.documents.types import DocumentPage, Figure
from penstock.records import UInt8

_MAX_OUTLINE = 5_000  # entries that are read
_MAX_FORM_DEPTH = 4  # of images within forms within forms…; a form may contain itself
_PAGE_COVER = 0.8  # of the page: an image that covers more is the page itself, as in a scan
_MAX_OBJECTS = 20_000  # images of a page that are looked at: some are drawn in stripes of one row


class PdfReader:
    """A PDF that is open. The fields are those of `OpenDocument`."""

    def __init__(self, document: pdfium.PdfDocument, limits: DocumentLimits) -> None:
        self._document = document
        self._limits = limits
        self.title = clean_name(document.get_metadata_value("Title"))
        self.author = clean_name(document.get_metadata_value("Author"))
        self.page_count = len(document)
        self.notes: list[str] = []
        if attached := document.count_attachments():
            self.notes.append(f"attached files were not read: {attached}")
        self._headings = _outline(document)

    def page(self, number: int) -> DocumentPage:
        """Reads a page: first its text, so that one whose pixels fail keeps its words."""
        page = self._document[number - 1]
        try:
            page = self._with_form_fields(page, number)
            text, damages = page_text(page), []
            image: UInt8 | None = None
            figures: tuple[Figure, ...] = ()
            try:
                image = _render(page, self._limits.page_px)
                figures = tuple(self._figures(page))
            except (pdfium.PdfiumError, MemoryError, ValueError) as exc:
                damages.append(f"its pixels cannot be read: {exc}")
            label = clean_name(self._document.get_page_label(number - 1))
            label = "" if label == str(number) else label
            return DocumentPage(number, label, text, self._heading(number), image, figures, "; ".join(damages))
        finally:
            page.close()

    def _with_form_fields(self, page: pdfium.PdfPage, number: int) -> pdfium.PdfPage:
        """Draws what is filled into the fields of forms on the page, so that it is text of the page too."""
        if self._document.formenv is None or not pdfium_c.FPDFPage_GetAnnotCount(page):
            return page
        if page.flatten() != pdfium_c.FLATTEN_SUCCESS:
            return page
        page.close()
        return self._document[number - 1]

    def _heading(self, number: int) -> str:
        """Returns the last entry of the outline that begins on this page or before."""
        return next((title for first, title in reversed(self._headings) if first <= number), "")

    def _figures(self, page: pdfium.PdfPage) -> Iterator[Figure]:
        cover = _PAGE_COVER * page.get_width() * page.get_height()
        images = page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_IMAGE], max_depth=_MAX_FORM_DEPTH)
        number, seen = 0, set[bytes]()
        for image in itertools.islice(images, _MAX_OBJECTS):
            width, height = image.get_px_size()
            if min(width, height) < MIN_FIGURE_PX or width * height > MAX_FIGURE_PIXELS or _area(image) > cover:
                continue
            pixels = self._pixels_once(image, seen)
            if pixels is None:
                continue
            if number == self._limits.max_figures:
                self._note(f"images after the first {number} of a page were not read (documents.max_figures)")
                return
            number += 1
            yield Figure(number, pixels)

    def _pixels_once(self, image: pdfium.PdfImage, seen: set[bytes]) -> UInt8 | None:
        """Returns the pixels of an image, reduced; None if the page has had them, or they do not decode."""
        try:
            drawn = image.get_bitmap(render=False).to_pil().convert("RGB")
        except (pdfium.PdfiumError, ValueError, RuntimeError, KeyError):
            return None
        pixels = reduce_image(drawn, self._limits.page_px)
        digest = hashlib.sha256(pixels.tobytes()).digest()
        if digest in seen:
            return None
        seen.add(digest)
        return pixels

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def open_pdf(data: DocumentBytes, limits: DocumentLimits) -> PdfReader:
    """Opens a PDF.

    Raises:
        BadInputError: UNSUPPORTED if it is encrypted, CORRUPT if PDFium cannot repair it.
    """
    buffer = (ctypes.c_char * len(data)).from_buffer(data)
    try:
        document = pdfium.PdfDocument(buffer)
    except pdfium.PdfiumError as exc:
        if exc.err_code in (pdfium_c.FPDF_ERR_PASSWORD, pdfium_c.FPDF_ERR_SECURITY):
            detail = "a PDF that is encrypted: save it without a password and send it again"
            raise BadInputError(Reason.UNSUPPORTED, detail) from exc
        raise BadInputError(Reason.CORRUPT, "a PDF that is damaged, and cannot be repaired") from exc
    document.init_forms()
    return PdfReader(document, limits)


def _render(page: pdfium.PdfPage, longest_px: int) -> UInt8:
    """Returns uint8[height, width, 3] of the page, its longer side `longest_px`, however large the page is."""
    scale = longest_px / max(page.get_width(), page.get_height(), 1e-3)
    bitmap = page.render(scale=scale, rev_byteorder=True, draw_annots=True)
    pixels = bitmap.to_numpy()[:longest_px, :longest_px]
    rgb = np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels[:, :, :3]
    copied: UInt8 = np.array(rgb, dtype=np.uint8)
    bitmap.close()
    return copied


def _area(image: pdfium.PdfImage) -> float:
    """Returns the area of an image on the page; within a form, whose scale is not known, 0."""
    if image.level:
        return 0.0
    left, bottom, right, top = image.get_bounds()
    area: float = (right - left) * (top - bottom)
    return area


def _outline(document: pdfium.PdfDocument) -> list[tuple[int, str]]:
    """Returns the entries of the outline as (page, title), by page."""
    entries = []
    for bookmark in itertools.islice(document.get_toc(max_depth=6), _MAX_OUTLINE):
        destination = bookmark.get_dest()
        index = None if destination is None else destination.get_index()
        title = clean_name(bookmark.get_title())
        if index is not None and title:
            entries.append((index + 1, title))
    return sorted(entries, key=lambda entry: entry[0])
