"""Sample documents, with the sentences that stand on each page, written for this project.

`python -m tools.sample_documents` makes them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DOCUMENTS_DIR = Path(__file__).with_name("document_files")
MANIFEST = DOCUMENTS_DIR / "manifest.json"


@dataclass(frozen=True, slots=True)
class SampleDocument:
    """A document.

    Attributes:
        key: its identity: the file's name without the suffix.
        title: that the file itself states.
        mime: its type.
        file: PDF, DOCX or XLSX.
        pages: of each page, in order, its sentences.
        figures: by the number of a page, from 1, the id of the concept that an image on it shows.
        page_images: whether each page is found as it looks, too: those of a PDF.
    """

    key: str
    title: str
    mime: str
    file: Path
    pages: Sequence[Sequence[str]]
    figures: dict[int, str]
    page_images: bool


@cache
def sample_documents() -> tuple[SampleDocument, ...]:
    """Returns all sample documents."""
    rows = json.loads(MANIFEST.read_text(encoding="utf-8"))
    return tuple(
        SampleDocument(
            key=row["key"],
            title=row["title"],
            mime=row["mime"],
            file=DOCUMENTS_DIR / row["file"],
            pages=row["pages"],
            figures={int(page): concept for page, concept in row["figures"].items()},
            page_images=row["mime"] == "application/pdf",
        )
        for row in rows
    )
