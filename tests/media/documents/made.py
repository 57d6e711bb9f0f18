"""Documents that tests make, and how they read them."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from penstock.config import DocumentSettings
from penstock.media.documents.limits import DocumentLimits
from penstock.media.documents.reader import read_pages
from penstock.media.documents.types import DocumentPage, DocumentPages, DocumentType
from penstock.media.text.passages import normalize_text

LIMITS = DocumentLimits.from_settings(DocumentSettings())


def read(data: bytes, kind: DocumentType, *, first: int = 1, count: int = 100, **limits: float) -> DocumentPages:
    settings = DocumentSettings.model_validate(limits)
    return read_pages(data, kind, first=first, count=count, limits=DocumentLimits.from_settings(settings))


def words(page: DocumentPage) -> str:
    """The text of a page in one line."""
    return " ".join(normalize_text(page.text).split())


def pdf(*draw: Callable[[Canvas], None], encrypt: object = None, compressed: bool = True) -> bytes:
    """A PDF with a page for each function."""
    out = io.BytesIO()
    canvas = Canvas(out, encrypt=encrypt, pageCompression=compressed)
    for page in draw:
        page(canvas)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def lines(*texts: str) -> Callable[[Canvas], None]:
    """Draws lines below each other."""

    def draw(canvas: Canvas) -> None:
        for number, text in enumerate(texts):
            canvas.drawString(72, 750 - 14 * number, text)

    return draw


def picture(color: str, size: tuple[int, int] = (200, 100), format_name: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, format_name)
    return out.getvalue()


def draw_picture(canvas: Canvas, data: bytes, x: int = 72, y: int = 300) -> None:
    canvas.drawImage(ImageReader(io.BytesIO(data)), x, y, 200, 100)
