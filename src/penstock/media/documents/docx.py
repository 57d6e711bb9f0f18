"""Reads Word documents by python-docx: paragraphs, tables, notes and images in the order of the text.

A Word document has no pages until it is laid out. Where Word has noted its page breaks, they are used; else explicit
breaks, and headings where a section grows long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from docx.opc.constants import RELATIONSHIP_TYPE
from docx.opc.part import PartFactory
from docx.oxml.parser import parse_xml
from docx.package import Package
from docx.parts.document import DocumentPart

from penstock.media.documents.archive import as_file, open_archive, refuse_entities, refuse_strict
from penstock.media.documents.base import DocumentBytes, clean_name
from penstock.media.documents.limits import DocumentLimits
from penstock.media.documents.parsed import PageDraft, ParsedDocument
from penstock.media.text.markup import LINE

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_WP = "{http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_V = "{urn:schemas-microsoft-com:vml}"

_SKIPPED = frozenset(
    (f"{_W}del", f"{_W}moveFrom", f"{_W}instrText", f"{_W}delText", f"{_W}pPr", f"{_W}rPr", f"{_MC}Fallback")
)
_MAIN_TYPES = tuple(
    f"application/vnd.{name}.main+xml"
    for name in (
        "openxmlformats-officedocument.wordprocessingml.template",
        "ms-word.document.macroEnabled",
        "ms-word.template.macroEnabledTemplate",
    )
)
_MIN_SECTION_CHARS = 1_000  # before a heading begins another section
_SECTION_CHARS = 3_000
_PAGE_BREAK = "\f"  # within the text of a paragraph
_CELL_GAP = " | "
_HEADING_STYLE = re.compile(r"(?:heading|title)\b", re.IGNORECASE)


def open_docx(data: DocumentBytes, limits: DocumentLimits) -> ParsedDocument:
    """Opens a Word document. Its macros are not read.

    Raises:
        BadInputError: as `open_archive`, or CORRUPT if its XML declares entities.
    """
    with open_archive(data, limits) as archive:
        refuse_entities(archive)
        refuse_strict(archive)
        has_macros = any(name.endswith("vbaProject.bin") for name in archive.namelist())
    for content_type in _MAIN_TYPES:
        PartFactory.part_type_for[content_type] = DocumentPart
    part = Package.open(as_file(data)).main_document_part
    properties = part.core_properties
    sections = _Sections(part)
    drafts = sections.read()
    title = properties.title or sections.title
    notes = ("macros were not read",) if has_macros else ()
    return ParsedDocument(drafts, limits, title=title, author=properties.author, notes=notes)


class _Sections:
    """Collects the paragraphs of a document into pages or sections."""

    def __init__(self, part: Any) -> None:
        self._part = part
        self._body = part.element.body
        self._has_laid_out_pages = self._body.find(f".//{_W}lastRenderedPageBreak") is not None
        self._levels = _heading_styles(part)
        self._notes = {kind: _notes(part, kind) for kind in ("footnote", "endnote")}
        self._drafts = [PageDraft()]
        self._pending_notes: list[str] = []
        self.title = ""

    def read(self) -> list[PageDraft]:
        headers, footers = _running_texts(self._part, "header"), _running_texts(self._part, "footer")
        self._drafts[0].paragraphs.extend(headers)
        for block in _blocks(self._body):
            if block.tag == f"{_W}tbl":
                for row in block.iter(f"{_W}tr"):
                    self._add(self._row_text(row))
            else:
                self._add_paragraph(block)
        self._flush_notes()
        if len(self._drafts) > 1 and self._drafts[-1].is_empty:
            self._drafts.pop()
        self._drafts[0].paragraphs.extend(footers)
        return self._drafts

    def _add_paragraph(self, paragraph: Any) -> None:
        is_heading = self._is_heading(paragraph)
        if self._breaks_before(paragraph, is_heading):
            self._cut()
        text = self._text(paragraph)
        if is_heading and (name := clean_name(text)):
            self.title = self.title or name
            self._drafts[-1].heading = self._drafts[-1].heading or name
        self._add(text)
        section_type = paragraph.find(f"{_W}pPr/{_W}sectPr")
        if section_type is not None and not self._has_laid_out_pages:
            kind = section_type.find(f"{_W}type")
            if kind is None or kind.get(f"{_W}val") not in ("continuous", "nextColumn"):
                self._cut()

    def _breaks_before(self, paragraph: Any, is_heading: bool) -> bool:
        if self._has_laid_out_pages:
            return False
        if paragraph.find(f"{_W}pPr/{_W}pageBreakBefore") is not None:
            return True
        chars = self._drafts[-1].chars
        return chars >= (_MIN_SECTION_CHARS if is_heading else _SECTION_CHARS)

    def _add(self, text: str) -> None:
        first, *others = text.split(_PAGE_BREAK)
        self._drafts[-1].paragraphs.append(first)
        for part in others:
            self._cut()
            self._drafts[-1].paragraphs.append(part)

    def _cut(self) -> None:
        """Begins a page, unless the last one is empty: Word notes a break that was explicit a second time."""
        if self._drafts[-1].is_empty and not self._pending_notes:
            return
        self._flush_notes()
        self._drafts.append(PageDraft())

    def _flush_notes(self) -> None:
        self._drafts[-1].paragraphs.extend(self._pending_notes)
        self._pending_notes = []

    def _is_heading(self, paragraph: Any) -> bool:
        style = paragraph.find(f"{_W}pPr/{_W}pStyle")
        has_level = paragraph.find(f"{_W}pPr/{_W}outlineLvl") is not None
        return has_level or (style is not None and style.get(f"{_W}val") in self._levels)

    def _row_text(self, row: Any) -> str:
        cells = ("".join(self._texts(cell)).strip(LINE) for cell in row.iterchildren(f"{_W}tc"))
        return _CELL_GAP.join(cell for cell in cells if cell.strip())

    def _text(self, paragraph: Any) -> str:
        return "".join(self._texts(paragraph)).strip(LINE)

    def _texts(self, node: Any) -> Iterator[str]:
        """Yields the text below a node, and notes images and foot notes on the way."""
        for child in node.iterchildren():
            tag = child.tag
            if tag in _SKIPPED or not isinstance(tag, str):
                continue
            if tag in (f"{_W}t", f"{_M}t"):
                yield child.text or ""
            elif tag == f"{_W}tab":
                yield "\t"
            elif tag == f"{_W}cr" or (tag == f"{_W}br" and child.get(f"{_W}type") not in ("page", "column")):
                yield LINE
            elif tag == f"{_W}lastRenderedPageBreak" or (tag == f"{_W}br" and child.get(f"{_W}type") == "page"):
                yield _PAGE_BREAK
            elif tag == f"{_W}noBreakHyphen":
                yield "-"
            elif tag in (f"{_W}footnoteReference", f"{_W}endnoteReference"):
                self._refer(child)
            elif tag in (f"{_W}drawing", f"{_W}pict"):
                self._draw(child)
                yield from self._texts(child)
            else:
                is_paragraph = tag == f"{_W}p"
                yield LINE if is_paragraph else ""
                yield from self._texts(child)
                yield LINE if is_paragraph else ""

    def _refer(self, reference: Any) -> None:
        kind = "footnote" if "footnote" in reference.tag else "endnote"
        note = self._notes[kind].get(reference.get(f"{_W}id") or "")
        if note:
            self._pending_notes.append(note)

    def _draw(self, drawing: Any) -> None:
        properties = drawing.find(f".//{_WP}docPr")
        alt = "" if properties is None else properties.get("descr") or ""
        references = [blip.get(f"{_R}embed") for blip in drawing.iter(f"{_A}blip")]
        references += [image.get(f"{_R}id") for image in drawing.iter(f"{_V}imagedata")]
        for reference in references:
            image = self._part.related_parts.get(reference) if reference else None
            if image is not None:
                self._drafts[-1].images.append((_blob_of(image), alt))


def _blob_of(part: Any) -> Callable[[], bytes]:
    return lambda: bytes(part.blob)


def _blocks(node: Any) -> Iterator[Any]:
    """Yields the paragraphs and tables of a body, also those within content controls."""
    for child in node.iterchildren():
        if child.tag in (f"{_W}p", f"{_W}tbl"):
            yield child
        elif child.tag in (f"{_W}sdt", f"{_W}sdtContent", f"{_W}ins", f"{_W}customXml", f"{_W}smartTag"):
            yield from _blocks(child)


def _heading_styles(part: Any) -> frozenset[str]:
    """Returns the ids of the styles of headings and titles."""
    try:
        styles = part.styles.element
    except KeyError:
        return frozenset()
    identifiers = set()
    for style in styles.iterchildren(f"{_W}style"):
        name = style.find(f"{_W}name")
        is_named = name is not None and _HEADING_STYLE.match(name.get(f"{_W}val") or "")
        if is_named or style.find(f"{_W}pPr/{_W}outlineLvl") is not None:
            identifiers.add(style.get(f"{_W}styleId") or "")
    return frozenset(identifiers)


def _notes(part: Any, kind: str) -> Mapping[str, str]:
    """Returns the foot or end notes by their numbers."""
    related = _related(part, RELATIONSHIP_TYPE.FOOTNOTES if kind == "footnote" else RELATIONSHIP_TYPE.ENDNOTES)
    return {
        note.get(f"{_W}id") or "": _plain(note)
        for notes in related
        for note in parse_xml(notes.blob).iterchildren(f"{_W}{kind}")
        if note.get(f"{_W}type") is None
    }


def _running_texts(part: Any, kind: str) -> list[str]:
    """Returns the texts of headers or footers, each once."""
    reltype = RELATIONSHIP_TYPE.HEADER if kind == "header" else RELATIONSHIP_TYPE.FOOTER
    texts = (_plain(running.element) for running in _related(part, reltype))
    return list(dict.fromkeys(text for text in texts if text.strip()))


def _related(part: Any, reltype: str) -> list[Any]:
    return [rel.target_part for rel in part.rels.values() if rel.reltype == reltype and not rel.is_external]


def _plain(node: Any) -> str:
    paragraphs = ("".join(text.text or "" for text in paragraph.iter(f"{_W}t")) for paragraph in node.iter(f"{_W}p"))
    return LINE.join(paragraph for paragraph in paragraphs if paragraph.strip())
