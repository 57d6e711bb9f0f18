"""Reads presentations by python-pptx: a page for each slide, with its tables, notes and images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pptx.enum.shapes import MSO_SHAPE_TYPE
from pptx.opc.package import PartFactory
from pptx.package import Package
from pptx.parts.presentation import PresentationPart

from penstock.errors import first_line
from penstock.media.documents.archive import as_file, open_archive, refuse_entities, refuse_strict
from penstock.media.documents.base import DocumentBytes
from penstock.media.documents.limits import DocumentLimits
from penstock.media.documents.parsed import PageDraft, ParsedDocument
from penstock.media.text.markup import LINE

_MAIN_TYPES = tuple(
    f"application/vnd.ms-powerpoint.{name}.macroEnabled.main+xml" for name in ("presentation", "slideshow", "template")
)
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_CELL_GAP = " | "
_MAX_DEPTH = 20  # of groups within groups


def open_pptx(data: DocumentBytes, limits: DocumentLimits) -> ParsedDocument:
    """Opens a presentation. Its macros are not read.

    Raises:
        BadInputError: as `open_archive`, or CORRUPT if its XML declares entities.
    """
    with open_archive(data, limits) as archive:
        refuse_entities(archive)
        refuse_strict(archive)
        has_macros = any(name.endswith("vbaProject.bin") for name in archive.namelist())
    for content_type in _MAIN_TYPES:
        PartFactory.part_type_for[content_type] = PresentationPart
    package = Package.open(as_file(data))
    presentation = package.main_document_part.presentation
    drafts = [_draft_or_damage(slide) for slide in presentation.slides]
    properties = package.core_properties
    title = properties.title or next((draft.heading for draft in drafts if draft.heading), "")
    notes = ("macros were not read",) if has_macros else ()
    return ParsedDocument(drafts, limits, title=title, author=properties.author, notes=notes)


def _draft_or_damage(slide: Any) -> PageDraft:
    """Reads a slide; one that fails costs its words and not the presentation."""
    try:
        return _draft(slide)
    except (KeyError, ValueError, AttributeError, IndexError, TypeError, NotImplementedError) as exc:
        return PageDraft(damage=f"the slide cannot be read: {first_line(exc)[:300]}")


def _draft(slide: Any) -> PageDraft:
    title = slide.shapes.title
    draft = PageDraft(heading=_frame_text(title.text_frame).replace(LINE, " ") if title is not None else "")
    for shape in _shapes(slide.shapes, 0):
        draft.paragraphs.extend(_texts(shape))
        image = _image(shape)
        if image is not None:
            draft.images.append((image, _alt(shape)))
    if slide.has_notes_slide:
        frame = slide.notes_slide.notes_text_frame
        draft.paragraphs.extend([] if frame is None else [_frame_text(frame)])
    return draft


def _shapes(shapes: Any, depth: int) -> Iterator[Any]:
    for shape in shapes:
        if shape.shape_type == MSO_SHAPE_TYPE.GROUP:
            if depth < _MAX_DEPTH:
                yield from _shapes(shape.shapes, depth + 1)
        else:
            yield shape


def _texts(shape: Any) -> Iterator[str]:
    if shape.has_text_frame:
        yield _frame_text(shape.text_frame)
    elif getattr(shape, "has_table", False):
        for row in shape.table.rows:
            cells = (_frame_text(cell.text_frame).replace(LINE, " ") for cell in row.cells)
            yield _CELL_GAP.join(cell for cell in cells if cell.strip())
    elif getattr(shape, "has_chart", False):
        yield from _chart_texts(shape.chart)
    else:  # a diagram or another object: the words in its own XML
        yield LINE.join(node.text for node in shape._element.iter(f"{_A}t") if node.text)


def _frame_text(frame: Any) -> str:
    """Returns the paragraphs of a shape; python-pptx writes a line break within one as a vertical tab."""
    return LINE.join(paragraph.text.replace("\v", LINE) for paragraph in frame.paragraphs)


def _chart_texts(chart: Any) -> Iterator[str]:
    """Yields the title of a chart, then each series with the values of its categories, if its kind is known."""
    if chart.has_title and chart.chart_title.has_text_frame:
        yield _frame_text(chart.chart_title.text_frame)
    for plot in chart.plots:
        try:
            categories, all_series = [str(category) for category in plot.categories], list(plot.series)
        except (NotImplementedError, ValueError):
            continue  # of a kind that python-pptx does not read, such as areas in three dimensions
        for series in all_series:
            values = [f"{category}: {value:g}" for category, value in zip(categories, series.values, strict=False)
                      if value is not None]  # fmt: skip
            yield f"{series.name} {'; '.join(values)}"


def _image(shape: Any) -> Callable[[], bytes] | None:
    """Returns a function that gives the bytes of an image; None if the shape is none, or names one elsewhere."""
    try:
        image = shape.image
    except (AttributeError, ValueError, KeyError):
        return None
    return lambda: bytes(image.blob)


def _alt(shape: Any) -> str:
    properties = next(shape._element.iter("{*}cNvPr"), None)
    return "" if properties is None else properties.get("descr") or ""
