"""Orders the characters of a PDF's page into lines and paragraphs.

PDFium gives the characters in the order in which they are drawn, with line ends of its own where the next one stands
elsewhere. Lines become paragraphs by the space between them and by the size of their letters.
"""

from __future__ import annotations

import ctypes
import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from penstock.media.documents.base import blocks, clean
from penstock.media.text.markup import LINE

_MAX_CHARS = 500_000  # of a page; a dense page of a newspaper has 20,000
_HYPHEN = 0x02  # a hyphen at the end of a line, as PDFium marks it
_PARAGRAPH_GAP = 0.6  # of a line's height between two lines: a new paragraph
_OTHER_SIZE = 1.25  # times as high as the line before: a heading, or what follows it
_FULL_LINE = 0.8  # of the paragraph's width: a shorter line ends where its writer ended it
_ITEM = re.compile(r"[•‣◦▪·–—*-] |\(?\d{1,3}[.)] |\(?[a-zA-Z][.)] ")  # what the first line of an item begins with


@dataclass(frozen=True, slots=True)
class _Line:
    """A line, or several that a word connects, with its edges in units of the page.

    `height` is that of its first character; `joins` means that it ends within a word.
    """

    text: str
    joins: bool
    left: float
    bottom: float
    right: float
    top: float
    height: float


def page_text(page: pdfium.PdfPage) -> str:
    """Returns the text of a page in its own order, with the marks of blocks and lines."""
    textpage = page.get_textpage()
    try:
        return blocks([_joined(paragraph) for paragraph in _paragraphs(list(_lines(textpage)))])
    finally:
        textpage.close()


def _lines(textpage: pdfium.PdfTextPage) -> Iterator[_Line]:
    chars: list[str] = []
    places: list[int] = []  # of the characters that are visible
    joins = False
    for index in range(min(textpage.count_chars(), _MAX_CHARS)):
        code = pdfium_c.FPDFText_GetUnicode(textpage, index)
        if code in (0x0A, 0x0D):
            if places:
                yield _line(textpage, chars, places, joins)
            chars, places, joins = [], [], False
        elif code == _HYPHEN:
            joins = True
        elif code and not 0xD800 <= code < 0xE000 and code <= 0x10FFFF:
            char = chr(code)
            chars.append(char)
            if not char.isspace():
                places.append(index)
                joins = False
    if places:
        yield _line(textpage, chars, places, joins)


def _line(textpage: pdfium.PdfTextPage, chars: Sequence[str], places: Sequence[int], joins: bool) -> _Line:
    left, begin_bottom, _, top = _box(textpage, places[0])
    _, bottom, right, _ = _box(textpage, places[-1])
    return _Line(" ".join(clean("".join(chars)).split()), joins, left, bottom, right, top, top - begin_bottom)


def _box(textpage: pdfium.PdfTextPage, index: int) -> tuple[float, float, float, float]:
    """Returns left, bottom, right and top of the place that the font has for a character."""
    rect = pdfium_c.FS_RECTF()
    if not pdfium_c.FPDFText_GetLooseCharBox(textpage, index, ctypes.byref(rect)):
        return 0.0, 0.0, 0.0, 0.0
    return rect.left, rect.bottom, rect.right, rect.top


def _paragraphs(lines: Sequence[_Line]) -> Iterator[list[_Line]]:
    paragraph: list[_Line] = []
    for line in lines:
        if paragraph and _begins_paragraph(paragraph[-1], line):
            yield paragraph
            paragraph = []
        paragraph.append(line)
    if paragraph:
        yield paragraph


def _begins_paragraph(before: _Line, line: _Line) -> bool:
    """Returns whether a line stands further below, higher up (another column), or has letters of another size."""
    if before.joins:
        return False
    heights = before.height, line.height
    if min(heights) <= 0:
        return False
    gap = before.bottom - line.top
    is_beside = gap < -0.5 * min(heights) and line.left > before.right  # a cell of the same row
    if is_beside:
        return False
    return gap > _PARAGRAPH_GAP * min(heights) or gap < -1.5 * max(heights) or max(heights) > _OTHER_SIZE * min(heights)


def _joined(paragraph: Sequence[_Line]) -> str:
    """Joins the lines: those that were broken for their length by a space, others by the mark for lines."""
    left = min(line.left for line in paragraph)
    width = max(line.right for line in paragraph) - left
    parts = [paragraph[0].text]
    for before, line in itertools.pairwise(paragraph):
        if before.joins:
            parts.append("")
        elif before.right - left < _FULL_LINE * width or _ITEM.match(line.text):
            parts.append(LINE)
        else:
            parts.append("" if _is_wide(before.text[-1:]) and _is_wide(line.text[:1]) else " ")
        parts.append(line.text)
    return "".join(parts)


def _is_wide(char: str) -> bool:
    """Returns whether a character is one of East Asia, between which no spaces stand."""
    return bool(char) and unicodedata.east_asian_width(char) in "WF"
