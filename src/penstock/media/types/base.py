"""Defines the result of the modules of this package."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.records import Modality


@dataclass(frozen=True, slots=True)
class Sniffed:
    """The detected type of media.

    Attributes:
        mime: the type; `application/octet-stream` if it is unknown.
        modality: the modality of its topic; None if there is no decoder for it.
    """

    mime: str
    modality: Modality | None
