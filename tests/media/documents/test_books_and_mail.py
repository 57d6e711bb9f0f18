"""EPUBs and messages."""

from __future__ import annotations

import io
import zipfile
from email.message import EmailMessage

from penstock.media.documents.types import DocumentType
from penstock.media.text.markup import BLOCK, LINE
from tests.media.documents.made import lines, pdf, picture, read, words

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
    '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
PACKAGE = """<package xmlns="http://www.idpf.org/2007/opf" version="3.0">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>On herons</dc:title><dc:creator>A. Wader</dc:creator>
</metadata><manifest>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="b" href="text/second%20one.xhtml" media-type="application/xhtml+xml"/>
<item id="a" href="text/first.xhtml" media-type="application/xhtml+xml"/>
<item id="i" href="heron.png" media-type="image/png"/></manifest>
<spine><itemref idref="a"/><itemref idref="b"/></spine></package>"""
NAV = (
    '<html><body><nav><ol><li><a href="text/first.xhtml">Reeds</a></li>'
    '<li><a href="text/second%20one.xhtml#x">Fish</a></li></ol></nav></body></html>'
)


def epub(**files: str | bytes) -> bytes:
    """A book of two chapters; `files` are others, by their paths."""
    contents: dict[str, str | bytes] = {
        "META-INF/container.xml": CONTAINER,
        "OEBPS/book.opf": PACKAGE,
        "OEBPS/nav.xhtml": NAV,
        "OEBPS/text/first.xhtml": "<html><body><h1>In the reeds</h1><p>Herons live &amp; nest here.</p></body></html>",
        "OEBPS/text/second one.xhtml": "<html>"
        '<body><p>They eat fish.</p><img src="../heron.png" alt="A heron"/></body></html>',
        "OEBPS/heron.png": picture("purple"),
    } | files
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        for name, content in contents.items():
            archive.writestr(name, content)
    return out.getvalue()


def test_a_book_is_read_in_the_order_of_its_spine() -> None:
    pages = read(epub(), DocumentType.EPUB)
    assert (pages.title, pages.author, pages.page_count) == ("On herons", "A. Wader", 2)
    assert [page.heading for page in pages.pages] == ["Reeds", "Fish"]
    assert pages.pages[0].text.split(BLOCK) == ["In the reeds", "Herons live & nest here."]
    assert words(pages.pages[1]) == "They eat fish."
    figure = pages.pages[1].figures[0]
    assert (figure.alt, figure.pixels[0, 0].tolist()) == ("A heron", [128, 0, 128])


def test_a_chapter_that_is_missing_is_a_damaged_page() -> None:
    pages = read(epub(**{"OEBPS/text/first.xhtml": b""}), DocumentType.EPUB)
    assert pages.pages[0].damage == "OEBPS/text/first.xhtml is missing from the book, or damaged"
    assert words(pages.pages[1]) == "They eat fish."


def message() -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "Ana Wader <ana@example.org>"
    mail["To"] = "ben@example.org"
    mail["Subject"] = "Reiher über dem See"
    mail["Date"] = "Fri, 01 May 2026 10:00:00 +0200"
    mail["Message-ID"] = "<1@example.org>"
    mail.set_content("Dear Ben,\n\nthe herons are back.\n")
    return mail


def test_a_message_has_its_headers_and_its_plain_text() -> None:
    mail = message()
    mail.add_alternative("<p>Dear Ben, <b>the herons</b> are back (in HTML).</p>", subtype="html")
    pages = read(mail.as_bytes(), DocumentType.EMAIL)
    assert (pages.title, pages.author, pages.page_count) == (
        "Reiher über dem See", "Ana Wader <ana@example.org>", 1,
    )  # fmt: skip
    headers, *paragraphs = pages.pages[0].text.split(BLOCK)
    assert headers.split(LINE) == [
        "From: Ana Wader <ana@example.org>",
        "To: ben@example.org",
        "Date: Fri, 01 May 2026 10:00:00 +0200",
        "Subject: Reiher über dem See",
    ]
    assert [paragraph.strip() for paragraph in paragraphs] == ["Dear Ben,", "the herons are back."]


def test_a_message_in_html_alone_has_its_words() -> None:
    mail = message()
    mail.set_content("<p>The herons <b>are</b> back.</p><script>x()</script>", subtype="html")
    assert words(read(mail.as_bytes(), DocumentType.EMAIL).pages[0]).endswith("The herons are back.")


def test_attached_documents_are_further_pages() -> None:
    mail = message()
    mail.add_attachment(
        pdf(lines("Page one"), lines("Page two")), maintype="application", subtype="pdf", filename="a.pdf"
    )
    mail.add_attachment(b"Notes of May", maintype="text", subtype="plain", filename="notes.txt")
    mail.add_attachment(picture("maroon"), maintype="image", subtype="png", filename="heron.png")
    mail.add_attachment(b"\x7fELF" + bytes(60), maintype="application", subtype="x-elf", filename="tool")
    inner = message()
    inner.replace_header("Subject", "Earlier")
    mail.add_attachment(inner)
    pages = read(mail.as_bytes(), DocumentType.EMAIL)
    assert [page.label for page in pages.pages] == ["", "a.pdf 1", "a.pdf 2", "notes.txt", "Earlier"]
    assert words(pages.pages[0]).endswith("the herons are back. Attachment: tool (application/x-elf)")
    assert [words(page) for page in pages.pages[1:4]] == ["Page one", "Page two", "Notes of May"]
    assert "the herons are back" in words(pages.pages[4])
    assert [(figure.alt, figure.pixels[0, 0].tolist()) for figure in pages.pages[0].figures] == [
        ("heron.png", [128, 0, 0])
    ]
    assert pages.pages[1].image is not None


def test_an_attachment_that_cannot_be_read_is_named_with_the_reason() -> None:
    mail = message()
    mail.add_attachment(pdf(lines("x"), encrypt="secret"), maintype="application", subtype="pdf", filename="a.pdf")
    pages = read(mail.as_bytes(), DocumentType.EMAIL)
    assert pages.notes == (
        "the attachment a.pdf was not read: a PDF that is encrypted: save it without a password and send it again",
    )
    assert words(pages.pages[0]).endswith("Attachment: a.pdf (application/pdf)")
