"""Names the types that are detected but not read, with what to send instead."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.media.types.documents import ENCRYPTED

_ODF = "application/vnd.oasis.opendocument."
_KNOWN: Mapping[str, tuple[str, str]] = {
    ENCRYPTED: ("an Office document with a password", "save it without one"),
    "application/msword": ("Word before 2007, DOC", "save it as DOCX"),
    "application/vnd.ms-excel": ("Excel before 2007, XLS", "save it as XLSX"),
    "application/vnd.ms-powerpoint": ("PowerPoint before 2007, PPT", "save it as PPTX"),
    "application/vnd.ms-excel.sheet.binary.macroEnabled.12": ("binary Excel, XLSB", "save it as XLSX"),
    "application/vnd.ms-outlook": ("a message of Outlook, MSG", "save it as EML"),
    "application/vnd.visio": ("Visio, VSD", "save it as PDF"),
    "application/x-ole-storage": (
        "Office before 2007, or with a password",
        "save it as DOCX, XLSX or PPTX without one",
    ),
    f"{_ODF}text": ("OpenDocument text, ODT", "save it as DOCX or PDF"),
    f"{_ODF}spreadsheet": ("OpenDocument spreadsheet, ODS", "save it as XLSX"),
    f"{_ODF}presentation": ("OpenDocument presentation, ODP", "save it as PPTX or PDF"),
    f"{_ODF}graphics": ("OpenDocument drawing, ODG", "save it as PDF"),
    "application/rtf": ("Rich Text Format, RTF", "save it as DOCX"),
    "application/postscript": ("PostScript", "convert it to PDF"),
    "application/x-mobipocket-ebook": ("Mobipocket", "convert it to EPUB"),
    "image/vnd.djvu": ("DjVu", "convert it to PDF"),
    "image/vnd.djvu+multipage": ("DjVu", "convert it to PDF"),
    "application/zip": ("an archive", "send the files in it"),
}


def unsupported_detail(mime: str) -> str:
    """Returns a type that no decoder supports, with its usual name and what to send instead, where known."""
    if mime not in _KNOWN:
        return f"{mime}, which no decoder supports"
    name, advice = _KNOWN[mime]
    return f"{mime} ({name}), which no decoder supports: {advice}"
