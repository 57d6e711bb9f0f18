"""A document whose pages are all known once it is open, as those of Office formats, EPUB and e-mail are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from penstock.media.documents.base import blocks, clean, clean_name, decode_figure
from penstock.media.documents.limits import DocumentLimits
from penstock.media.documents.types import DocumentPage, Figure


@dataclass(slots=True)
class PageDraft:
    """A page before its images are decoded.

    Attributes:
        paragraphs: its text, with the mark for lines, without that for blocks.
        images: functions that return the bytes of an image, each with its description.
    """

    label: str = ""
    heading: str = ""
    paragraphs: list[str] = field(default_factory=list)
    images: list[tuple[Callable[[], bytes], str]] = field(default_factory=list)
    damage: str = ""

    @property
    def chars(self) -> int:
        """The number of its characters."""
        return sum(map(len, self.paragraphs))

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be on the page."""
        return not self.images and not any(paragraph.strip() for paragraph in self.paragraphs)


class ParsedDocument:
    """A document of drafts. The fields are those of `OpenDocument`."""

    def __init__(
        self, drafts: Sequence[PageDraft], limits: DocumentLimits, *, title: str = "", author: str = "",
        notes: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._drafts = list(drafts) or [PageDraft()]
        self._limits = limits
        self.title = clean_name(title)
        self.author = clean_name(author)
        self.page_count = len(self._drafts)
        self.notes = list(notes)

    def page(self, number: int) -> DocumentPage:
        """Returns a page with its images."""
        draft = self._drafts[number - 1]
        text = blocks([clean_marked(paragraph) for paragraph in draft.paragraphs])
        label, heading = clean_name(draft.label), clean_name(draft.heading)
        return DocumentPage(number, label, text, heading, None, self._figures(draft), draft.damage)

    def _figures(self, draft: PageDraft) -> tuple[Figure, ...]:
        figures: list[Figure] = []
        seen: set[bytes] = set()
        for load, alt in draft.images:
            data = load()
            digest = hashlib.sha256(data).digest()
            if not data or digest in seen:
                continue
            seen.add(digest)
            if len(figures) == self._limits.max_figures:
                note = f"images after the first {len(figures)} of a page were not read (documents.max_figures)"
                self.notes.extend([] if note in self.notes else [note])
                break
            pixels = decode_figure(data, self._limits.page_px)
            if pixels is not None:
                figures.append(Figure(len(figures) + 1, pixels, clean_name(alt)))
        return tuple(figures)


def clean_marked(text: str) -> str:
    """Removes control characters, but not the mark for lines, which parsers of these formats set themselves."""
    return "\x1f".join(clean(line) for line in text.split("\x1f"))
