"""Names what a plane fills, and by what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from penstock.config import Settings
from penstock.versions import Progress, Reindex


@dataclass(frozen=True, slots=True)
class FillJob:
    """Names what is filled, and by what.

    Attributes:
        settings: of the deployment: those of the version that is served.
        reindex: the re-index.
        new: the settings of the new version.
        show: called with each count.
    """

    settings: Settings
    reindex: Reindex
    new: Settings
    show: Callable[[Progress], None] = lambda _: None
