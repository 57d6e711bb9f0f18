"""Reads workbooks by openpyxl: a page for each sheet, its rows as "header: value"."""

from __future__ import annotations

import datetime
import posixpath
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

from defusedxml.ElementTree import fromstring
from openpyxl import load_workbook
from openpyxl.worksheet._reader import WorkSheetParser

from penstock.media.documents.archive import as_file, open_archive, read_entry, refuse_entities, refuse_strict
from penstock.media.documents.base import DocumentBytes
from penstock.media.documents.limits import DocumentLimits
from penstock.media.documents.parsed import PageDraft, ParsedDocument
from penstock.media.text.markup import LINE

_MAX_CELLS = 200_000  # of a workbook: 4 s
_CELL_GAP = "; "
_MAX_HEADER_CHARS = 100
_ROWS_PER_PARAGRAPH = 20  # so that passages end between rows
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"


def open_xlsx(data: DocumentBytes, limits: DocumentLimits) -> ParsedDocument:
    """Opens a workbook. Formulas have the values that were last computed; macros are not read.

    Raises:
        BadInputError: as `open_archive`, or CORRUPT if its XML declares entities.
    """
    archive = open_archive(data, limits)
    refuse_entities(archive)
    refuse_strict(archive)
    workbook: Any = load_workbook(as_file(data), read_only=True, data_only=True, keep_links=False)
    notes = ["macros were not read"] if any(name.endswith("vbaProject.bin") for name in archive.namelist()) else []
    drafts = []
    left = _MAX_CELLS
    for sheet in workbook.worksheets:
        draft = PageDraft(label=sheet.title, heading=sheet.title)
        left -= _read_sheet(workbook, sheet, draft, left)
        draft.images.extend(_images(archive, sheet._worksheet_path.lstrip("/")))
        drafts.append(draft)
    if left <= 0:
        notes.append(f"cells after the first {_MAX_CELLS:,} were not read")
    properties = workbook.properties
    return ParsedDocument(drafts, limits, title=properties.title or "", author=properties.creator or "", notes=notes)


def _read_sheet(workbook: Any, sheet: Any, draft: PageDraft, max_cells: int) -> int:
    """Adds the rows of a sheet to a draft, and returns how many cells that took. The first row of words is a header.

    Only cells that exist are visited: openpyxl's own rows have all cells up to the last, which may be the billionth.
    """
    headers: dict[int, str] | None = None
    rows: list[str] = []
    cells = 0
    for row in _rows(workbook, sheet):
        if cells + len(row) > max_cells:
            cells = max_cells
            break
        cells += len(row)
        values = {column: text for column, value in row if (text := _as_text(value))}
        if not values:
            continue
        if headers is None and len(values) > 1 and all(isinstance(value, str) for _, value in row if value is not None):
            headers = {column: text[:_MAX_HEADER_CHARS] for column, text in values.items()}
            rows.append(_CELL_GAP.join(values.values()))
        else:
            known = headers or {}
            texts = (f"{known[column]}: {text}" if column in known else text for column, text in values.items())
            rows.append(_CELL_GAP.join(texts))
    for start in range(0, len(rows), _ROWS_PER_PARAGRAPH):
        draft.paragraphs.append(LINE.join(rows[start : start + _ROWS_PER_PARAGRAPH]))
    return cells


def _rows(workbook: Any, sheet: Any) -> Iterator[list[tuple[int, Any]]]:
    """Yields the cells of each row as (column, value)."""
    with sheet._get_source() as source:
        parser = WorkSheetParser(
            source, sheet._shared_strings, data_only=True, epoch=workbook.epoch, date_formats=workbook._date_formats,
            timedelta_formats=workbook._timedelta_formats,
        )  # fmt: skip
        for _, row in parser.parse():
            yield [(cell["column"], cell["value"]) for cell in row]


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ", "minutes")
    if isinstance(value, float):
        return f"{value:.12g}"
    return str(value).replace("\n", " ").strip()


def _images(archive: zipfile.ZipFile, sheet: str) -> Iterator[tuple[Callable[[], bytes], str]]:
    """Yields the images that a sheet's drawings show, with their descriptions."""
    for drawing in _targets(archive, sheet, "/drawing").values():
        images = _targets(archive, drawing, "/image")
        data = read_entry(archive, drawing)
        for shown in fromstring(data).findall(".//{*}pic") if data else ():
            blip, properties = shown.find(".//{*}blip"), shown.find(".//{*}cNvPr")
            path = images.get(blip.get(f"{_R}embed") or "") if blip is not None else None
            if path is not None:
                yield _loader(archive, path), "" if properties is None else properties.get("descr") or ""


def _loader(archive: zipfile.ZipFile, path: str) -> Callable[[], bytes]:
    return lambda: read_entry(archive, path)


def _targets(archive: zipfile.ZipFile, part: str, kind: str) -> dict[str, str]:
    """Returns the paths of the parts of a kind that a part refers to, by their identifiers."""
    folder, name = posixpath.split(part)
    data = read_entry(archive, f"{folder}/_rels/{name}.rels")
    return {
        relation.get("Id") or "": posixpath.normpath(posixpath.join("/", folder, relation.get("Target") or ""))[1:]
        for relation in (fromstring(data) if data else ())
        if (relation.get("Type") or "").endswith(kind) and relation.get("TargetMode") != "External"
    }
