"""Word documents, presentations and workbooks."""

from __future__ import annotations

import datetime
import io
import zipfile
from collections.abc import Callable
from typing import Any

import docx
import openpyxl
import pptx
import pytest
from docx.enum.section import WD_SECTION
from docx.enum.text import WD_BREAK
from openpyxl.drawing.image import Image as SheetImage
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from penstock.media.documents.types import DocumentType
from penstock.media.text.markup import BLOCK, LINE
from tests.media.documents.made import picture, read, words


def saved(document: Any) -> bytes:
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def rewritten(data: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """The archive with other contents of its files."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as after:
        for name in before.namelist():
            after.writestr(name, change(name, before.read(name)))
    return out.getvalue()


# --- Word ------------------------------------------------------------------------------------------------------------


def test_a_word_document_is_cut_at_its_page_breaks() -> None:
    document = docx.Document()
    document.core_properties.title, document.core_properties.author = "On herons", "A. Wader"
    document.sections[0].header.paragraphs[0].text = "Draft of May"
    document.add_heading("Where they live", 1)
    paragraph = document.add_paragraph("They live in reeds.")
    paragraph.add_run().add_break(WD_BREAK.PAGE)
    paragraph.add_run("They fish at dawn.")
    document.add_page_break()
    document.add_heading("What they eat", 2)
    document.add_paragraph("They eat\nfish.")
    document.add_section(WD_SECTION.NEW_PAGE)
    document.add_paragraph("The end.")
    pages = read(saved(document), DocumentType.DOCX)
    assert (pages.title, pages.author, pages.page_count) == ("On herons", "A. Wader", 4)
    assert [page.text.split(BLOCK) for page in pages.pages] == [
        ["Draft of May", "Where they live", "They live in reeds."],
        ["They fish at dawn."],
        ["What they eat", f"They eat{LINE}fish."],
        ["The end."],
    ]
    assert [page.heading for page in pages.pages] == ["Where they live", "", "What they eat", ""]


def test_a_word_document_without_breaks_is_cut_at_headings_and_in_long_sections() -> None:
    document = docx.Document()
    for number in range(4):
        document.add_heading(f"Chapter {number}", 1)
        for _ in range(12 if number == 2 else 2):
            document.add_paragraph("A heron stands still for an hour. " * 18)
    pages = read(saved(document), DocumentType.DOCX)
    assert pages.title == "Chapter 0"
    assert [page.heading for page in pages.pages] == ["Chapter 0", "Chapter 1", "Chapter 2", "", "Chapter 3"] or [
        page.heading for page in pages.pages
    ] == ["Chapter 0", "Chapter 1", "Chapter 2", "", "", "Chapter 3"]
    assert all(len(page.text) < 4_000 for page in pages.pages)


def test_tables_images_and_notes_of_a_word_document_are_in_their_place() -> None:
    document = docx.Document()
    document.add_paragraph("Before the table.")
    table = document.add_table(2, 2)
    for cell, text in zip(table._cells, ("Bird", "Height", "Heron", "98 cm"), strict=True):
        cell.text = text
    document.add_paragraph("After the table.")
    document.add_picture(io.BytesIO(picture("navy", (300, 200))))
    document.add_picture(io.BytesIO(picture("red", (20, 20))))
    page = read(saved(document), DocumentType.DOCX).pages[0]
    assert page.text.split(BLOCK) == ["Before the table.", "Bird | Height", "Heron | 98 cm", "After the table."]
    assert [figure.pixels.shape for figure in page.figures] == [(200, 300, 3)]
    assert page.figures[0].pixels[0, 0].tolist() == [0, 0, 128]


def test_deleted_text_is_not_read_and_inserted_text_is() -> None:
    document = docx.Document()
    document.add_paragraph("KEPT ")
    marks = (
        b'<w:ins w:id="1" w:author="a"><w:r><w:t>inserted</w:t></w:r></w:ins>'
        b'<w:del w:id="2" w:author="a"><w:r><w:delText>deleted</w:delText></w:r></w:del></w:p>'
    )

    def change(name: str, data: bytes) -> bytes:
        return data.replace(b"</w:p>", marks, 1) if name == "word/document.xml" else data

    assert words(read(rewritten(saved(document), change), DocumentType.DOCX).pages[0]) == "KEPT inserted"


def test_page_breaks_that_word_noted_are_pages() -> None:
    document = docx.Document()
    document.add_paragraph("one BREAK two BREAK three")

    def change(name: str, data: bytes) -> bytes:
        broken = b"</w:t><w:lastRenderedPageBreak/><w:t>"
        return data.replace(b" BREAK ", broken) if name == "word/document.xml" else data

    pages = read(rewritten(saved(document), change), DocumentType.DOCX)
    assert [words(page) for page in pages.pages] == ["one", "two", "three"]


# --- presentations ---------------------------------------------------------------------------------------------------


def presentation() -> bytes:
    deck = pptx.Presentation()
    first = deck.slides.add_slide(deck.slide_layouts[0])
    first.shapes.title.text, first.placeholders[1].text = "On herons", "By A. Wader"
    first.notes_slide.notes_text_frame.text = "Greet the audience."
    second = deck.slides.add_slide(deck.slide_layouts[5])
    second.shapes.title.text = "Sizes"
    table = second.shapes.add_table(2, 2, 0, 0, Inches(4), Inches(2)).table
    for place, text in zip(((0, 0), (0, 1), (1, 0), (1, 1)), ("Bird", "Height", "Heron", "98 cm"), strict=True):
        table.cell(*place).text = text
    group = second.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 100, 100).text_frame.text = "In a group"
    second.shapes.add_picture(io.BytesIO(picture("teal")), 0, 0)
    third = deck.slides.add_slide(deck.slide_layouts[6])
    chart = CategoryChartData()
    chart.categories = ["May", "June"]
    chart.add_series("Herons", (3, 4.5))
    third.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, 0, 0, Inches(4), Inches(3), chart)
    return saved(deck)


def test_a_slide_has_its_texts_tables_notes_and_images() -> None:
    pages = read(presentation(), DocumentType.PPTX)
    assert (pages.title, pages.page_count) == ("On herons", 3) or pages.title == "PowerPoint Presentation"
    assert [page.heading for page in pages.pages] == ["On herons", "Sizes", ""]
    assert pages.pages[0].text.split(BLOCK) == ["On herons", "By A. Wader", "Greet the audience."]
    assert pages.pages[1].text.split(BLOCK) == ["Sizes", "Bird | Height", "Heron | 98 cm", "In a group"]
    assert [figure.pixels[0, 0].tolist() for figure in pages.pages[1].figures] == [[0, 128, 128]]
    assert pages.pages[2].text == "Herons May: 3; June: 4.5"


# --- workbooks -------------------------------------------------------------------------------------------------------


def test_a_sheet_has_its_rows_with_their_headers() -> None:
    book = openpyxl.Workbook()
    book.properties.title = "Counts"
    sheet = book.active
    sheet.title = "Lake"
    for row in (["Bird", "Seen", "On"], ["Heron", 3, datetime.datetime(2026, 5, 1)], ["Crane", 2.5, None]):
        sheet.append(row)
    sheet.add_image(SheetImage(io.BytesIO(picture("olive"))), "E5")
    other = book.create_sheet("Numbers")
    other["B2"], other["XFD1048576"] = 7, "far away"
    book.create_sheet("Empty")
    pages = read(saved(book), DocumentType.XLSX)
    assert (pages.title, pages.page_count, pages.notes) == ("Counts", 3, ())
    assert [page.label for page in pages.pages] == ["Lake", "Numbers", "Empty"]
    assert pages.pages[0].text.split(LINE) == [
        "Bird; Seen; On",
        "Bird: Heron; Seen: 3; On: 2026-05-01",
        "Bird: Crane; Seen: 2.5",
    ]
    assert [figure.pixels[0, 0].tolist() for figure in pages.pages[0].figures] == [[128, 128, 0]]
    assert [page.text for page in pages.pages[1:]] == [f"7{LINE}far away", ""]


# --- variants --------------------------------------------------------------------------------------------------------


def word_document() -> bytes:
    document = docx.Document()
    document.add_paragraph("The heron stands still.")
    return saved(document)


def workbook() -> bytes:
    book = openpyxl.Workbook()
    book.active.append(["The heron stands still."])
    return saved(book)


MACRO = {
    DocumentType.DOCX: (word_document, "ms-word.document.macroEnabled.main"),
    DocumentType.PPTX: (presentation, "ms-powerpoint.presentation.macroEnabled.main"),
    DocumentType.XLSX: (workbook, "ms-excel.sheet.macroEnabled.main"),
}


def with_macros(kind: DocumentType) -> bytes:
    """A document whose main part says that it has macros, with a file of them."""
    make, content_type = MACRO[kind]
    main = {"docx": "wordprocessingml.document", "pptx": "presentationml.presentation", "xlsx": "spreadsheetml.sheet"}
    plain = f"application/vnd.openxmlformats-officedocument.{main[kind]}.main+xml".encode()

    def change(name: str, data: bytes) -> bytes:
        return data.replace(plain, f"application/vnd.{content_type}+xml".encode()) if "Content_Types" in name else data

    out = io.BytesIO(rewritten(make(), change))
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("macros/vbaProject.bin", b"Sub AutoOpen()")
    return out.getvalue()


@pytest.mark.parametrize("kind", MACRO)
def test_macros_are_left_out_with_a_note(kind: DocumentType) -> None:
    pages = read(with_macros(kind), kind)
    assert pages.notes == ("macros were not read",)
    assert "heron" in words(pages.pages[0]).lower()
