"""Makes the sample documents that ship with the package, and their manifest.

    python -m tools.sample_documents

A PDF of three pages, one with an image; a Word document of two pages; a workbook of two sheets. Times in the files are
fixed, so that the same text gives the same files.
"""

from __future__ import annotations

import datetime
import io
import json
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docx
import openpyxl
from docx.enum.text import WD_BREAK
from openpyxl.writer.excel import ExcelWriter
from reportlab.lib.pagesizes import A5
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Image, PageBreak, Paragraph, SimpleDocTemplate, Spacer

from penstock.samples.documents import DOCUMENTS_DIR, MANIFEST
from penstock.samples.images import compose, load_concepts

_MADE = datetime.datetime(2026, 1, 1)
_ZIP_TIME = (2026, 1, 1, 0, 0, 0)
_IMAGE_PX = 256
_SEED = 73  # of the background of images; no image of the demo has it
_AUTHOR = "Penstock"
_OFFICE = "application/vnd.openxmlformats-officedocument"


@dataclass(frozen=True, slots=True)
class Page:
    """A heading, sentences under it, and the id of a concept that an image shows; "" for none."""

    heading: str
    sentences: Sequence[str]
    concept: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table: the names of its columns, and its rows."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]] = field(default_factory=tuple)


HANDBOOK_TITLE = "Handbook of the bicycle workshop"
HANDBOOK = (
    Page(
        "Opening hours and tools",
        (
            "The workshop in the old fire station opens on Tuesday and Saturday, from two until six in the afternoon.",
            "A torque wrench is lent against a signature at the counter, and comes back on the same day.",
            "Parts that are left over go into the green crates, sorted by the size of their thread.",
        ),
    ),
    Page(
        "A bicycle in winter",
        (
            "Salt eats a chain faster than rain does: in winter, wipe it dry and oil it every hundred kilometres.",
            "Tyres grip better on cold ground with half a bar less pressure than in summer.",
            "Carry the battery of the lamp in an inside pocket, because it loses a third of its charge in frost.",
        ),
        "bicycle",
    ),
    Page(
        "Brakes",
        (
            "A brake pad is worn out when less than one millimetre of it is left above the metal.",
            "After new pads, brake gently thirty times on a quiet road before you trust them downhill.",
            "If the lever reaches the handlebar, there is air in the line and the brake has to be bled.",
        ),
    ),
)
MINUTES_TITLE = "Minutes of the garden association"
MINUTES = (
    Page(
        "Water",
        (
            "The well behind the greenhouse was measured in May and stood two metres lower than a year before.",
            "The members agreed to water their plots only before eight in the morning and after seven in the evening.",
        ),
    ),
    Page(
        "Summer party",
        (
            "The party takes place on the second Saturday of July beside the pear trees.",
            "Tables and benches are lent by the rowing club, which gets a cake in return.",
        ),
    ),
)
SEEDS_TITLE = "Seed list of the greenhouse"
SEEDS = (
    Sheet(
        "Vegetables",
        ("Plant", "Sown", "Days to germinate", "Note"),
        (
            ("Chili pepper", "February", "21", "needs a heated mat of 26 degrees"),
            ("Leek", "March", "14", "is planted out as thick as a pencil"),
            ("Pumpkin", "April", "8", "soak the seeds over night"),
        ),
    ),
    Sheet(
        "Flowers",
        ("Plant", "Sown", "Days to germinate", "Note"),
        (
            ("Sunflower", "April", "10", "grows up to three metres tall"),
            ("Sweet pea", "October", "17", "climbs along strings"),
        ),
    ),
)


def main() -> int:
    """Writes all files; returns the exit code."""
    DOCUMENTS_DIR.mkdir(exist_ok=True)
    for old in DOCUMENTS_DIR.iterdir():
        old.unlink()
    files = {
        "bicycle-handbook.pdf": make_pdf(HANDBOOK_TITLE, HANDBOOK),
        "garden-minutes.docx": make_docx(MINUTES_TITLE, MINUTES),
        "seed-list.xlsx": make_xlsx(SEEDS_TITLE, SEEDS),
    }
    for name, data in files.items():
        (DOCUMENTS_DIR / name).write_bytes(data)
    rows = [
        _row("bicycle-handbook.pdf", HANDBOOK_TITLE, "application/pdf", HANDBOOK),
        _row("garden-minutes.docx", MINUTES_TITLE, f"{_OFFICE}.wordprocessingml.document", MINUTES),
        _row("seed-list.xlsx", SEEDS_TITLE, f"{_OFFICE}.spreadsheetml.sheet", [_page(sheet) for sheet in SEEDS]),
    ]
    MANIFEST.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for file in sorted(DOCUMENTS_DIR.iterdir()):
        print(f"{file.name}: {file.stat().st_size:,} bytes")
    return 0


def make_pdf(title: str, pages: Sequence[Page]) -> bytes:
    """Returns a PDF with a page of paper for each page."""
    styles, out = getSampleStyleSheet(), io.BytesIO()
    body = ParagraphStyle("body", parent=styles["BodyText"], fontSize=12, leading=17, spaceAfter=8)
    flow: list[Flowable] = []
    for page in pages:
        flow += [Paragraph(page.heading, styles["Heading1"]), *(Paragraph(text, body) for text in page.sentences)]
        if page.concept:
            flow += [Spacer(1, 6 * mm), Image(io.BytesIO(_jpeg(page.concept)), 60 * mm, 60 * mm)]
        flow.append(PageBreak())
    template = SimpleDocTemplate(out, pagesize=A5, title=title, author=_AUTHOR, invariant=1)
    template.build(flow)
    return out.getvalue()


def make_docx(title: str, pages: Sequence[Page]) -> bytes:
    """Returns a Word document with an explicit break after each page but the last."""
    document = docx.Document()
    _state(document.core_properties, title)
    for number, page in enumerate(pages, start=1):
        document.add_heading(page.heading, level=1)
        for text in page.sentences:
            paragraph = document.add_paragraph(text)
        if number < len(pages):
            paragraph.add_run().add_break(WD_BREAK.PAGE)
    out = io.BytesIO()
    document.save(out)
    return _with_fixed_times(out.getvalue())


def make_xlsx(title: str, sheets: Sequence[Sheet]) -> bytes:
    """Returns a workbook."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for sheet in sheets:
        table = book.create_sheet(sheet.name)
        for row in (sheet.columns, *sheet.rows):
            table.append(list(row))
    _state(book.properties, title)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:  # `Workbook.save` would set the time of the last change
        ExcelWriter(book, archive).save()
    return _with_fixed_times(out.getvalue())


def _state(properties: Any, title: str) -> None:
    properties.title, properties.author, properties.creator, properties.comments = title, _AUTHOR, _AUTHOR, ""
    properties.created = properties.modified = _MADE


def _with_fixed_times(data: bytes) -> bytes:
    """Returns an archive whose files have one time."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as written:
        for name in source.namelist():
            written.writestr(zipfile.ZipInfo(name, _ZIP_TIME), source.read(name), zipfile.ZIP_DEFLATED, 9)
    return out.getvalue()


def _jpeg(concept: str) -> bytes:
    concepts, out = {known.id: known for known in load_concepts()}, io.BytesIO()
    compose(concepts[concept], _SEED, _IMAGE_PX).convert("RGB").save(out, "JPEG", quality=85)
    return out.getvalue()


def _page(sheet: Sheet) -> Page:
    return Page(sheet.name, [cell for row in sheet.rows for cell in row])


def _row(file: str, title: str, mime: str, pages: Sequence[Page]) -> dict[str, Any]:
    return {
        "key": Path(file).stem,
        "title": title,
        "mime": mime,
        "file": file,
        "pages": [list(page.sentences) for page in pages],
        "figures": {str(number): page.concept for number, page in enumerate(pages, start=1) if page.concept},
    }


if __name__ == "__main__":
    sys.exit(main())
