"""Text, pages and images of PDFs."""

from __future__ import annotations

import numpy as np
from reportlab.pdfgen.canvas import Canvas

from penstock.media.documents.types import DocumentType
from penstock.media.text.markup import BLOCK
from tests.media.documents.made import draw_picture, lines, pdf, picture, read, words


def draw_chapter(canvas: Canvas, number: int) -> None:
    canvas.setTitle("On herons")
    canvas.setAuthor("A. Wader")
    if number != 2:
        canvas.bookmarkPage(f"p{number}")
        canvas.addOutlineEntry(f"Part {number}", f"p{number}")
    canvas.setFont("Helvetica-Bold", 18)
    canvas.drawString(72, 750, f"Heading {number}")
    canvas.setFont("Helvetica", 11)
    paragraph = (
        "The first line of a long paragraph goes on until it is cut within an exam-",
        "ple, and the second line is as long as the first one, so that they are joined.",
        "It ends.",
    )
    for row, line in enumerate(paragraph):
        canvas.drawString(72, 720 - 14 * row, line)
    canvas.drawString(72, 640, "Another paragraph.")
    draw_picture(canvas, picture("green" if number == 3 else "red"))


def book() -> bytes:
    return pdf(*(lambda canvas, number=number: draw_chapter(canvas, number) for number in (1, 2, 3)))


def test_a_page_has_its_paragraphs_its_heading_and_its_image() -> None:
    document = read(book(), DocumentType.PDF)
    assert (document.title, document.author, document.page_count) == ("On herons", "A. Wader", 3)
    assert (document.is_last, document.notes) == (True, ())
    page = document.pages[1]
    assert page.text.split(BLOCK) == [
        "Heading 2",
        "The first line of a long paragraph goes on until it is cut within an example, and the second line is as long "
        "as the first one, so that they are joined. It ends.",
        "Another paragraph.",
    ]
    assert [page.heading for page in document.pages] == ["Part 1", "Part 1", "Part 3"]
    assert page.image is not None
    assert max(page.image.shape) == 1_024
    assert page.image[0, 0].tolist() == [255, 255, 255]


def test_an_image_is_on_each_of_its_pages_upright_in_its_colours() -> None:
    document = read(book(), DocumentType.PDF)
    assert [len(page.figures) for page in document.pages] == [1, 1, 1]
    first, second, _ = (page.figures[0].pixels for page in document.pages)
    assert np.array_equal(first, second)
    figure = document.pages[2].figures[0]
    assert (figure.number, figure.pixels.shape) == (1, (100, 200, 3))
    assert np.abs(figure.pixels[50, 100].astype(int) - (0, 128, 0)).max() < 3


def test_an_image_that_a_page_shows_twice_is_one_figure() -> None:
    def draw(canvas: Canvas) -> None:
        draw_picture(canvas, picture("red"))
        draw_picture(canvas, picture("green"), 72, 450)
        draw_picture(canvas, picture("red"), 72, 600)

    (page,) = read(pdf(draw), DocumentType.PDF).pages
    assert [figure.number for figure in page.figures] == [1, 2]


def test_pages_are_read_from_any_page_on() -> None:
    document = read(book(), DocumentType.PDF, first=2, count=1)
    assert ([page.number for page in document.pages], document.is_last, document.next_page) == ([2], False, 3)
    assert words(document.pages[0]).startswith("Heading 2")
    assert read(book(), DocumentType.PDF, first=3, count=5).is_last


def test_a_page_that_is_one_image_has_no_figure() -> None:
    def scan(canvas: Canvas) -> None:
        canvas.setPageSize((200, 100))
        draw_picture(canvas, picture("blue"), 0, 0)

    page = read(pdf(scan), DocumentType.PDF).pages[0]
    assert (page.text, page.figures) == ("", ())
    assert page.image is not None
    assert page.image[300, 500].tolist() == [0, 0, 255]


def test_what_is_filled_into_a_form_is_text_of_its_page() -> None:
    def form(canvas: Canvas) -> None:
        canvas.drawString(72, 750, "Name of the bird:")
        canvas.acroForm.textfield(name="bird", value="Heron", x=72, y=700, width=200, height=30)

    assert words(read(pdf(form), DocumentType.PDF).pages[0]) == "Name of the bird: Heron"


def test_pages_have_the_labels_of_the_document() -> None:
    def front(canvas: Canvas) -> None:
        lines("Preface")(canvas)
        canvas.addPageLabel(0, style="ROMAN_LOWER")
        canvas.addPageLabel(1, style="ARABIC")

    document = read(pdf(front, lines("Body")), DocumentType.PDF)
    assert [page.label for page in document.pages] == ["i", "1"]
