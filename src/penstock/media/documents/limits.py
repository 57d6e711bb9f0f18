"""The limits within which a document is read; those of the settings, for a process that does not load settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.config import DocumentSettings


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """The limits of one document. The fields are those of the settings `documents`."""

    max_pages: int
    page_px: int
    max_figures: int
    parse_timeout_s: float
    max_memory_mib: int
    max_unpacked_mib: int

    @classmethod
    def from_settings(cls, settings: DocumentSettings) -> DocumentLimits:
        """Returns the limits that the settings contain."""
        return cls(
            max_pages=settings.max_pages,
            page_px=settings.page_px,
            max_figures=settings.max_figures,
            parse_timeout_s=settings.parse_timeout_s,
            max_memory_mib=settings.max_memory_mib,
            max_unpacked_mib=settings.max_unpacked_mib,
        )
