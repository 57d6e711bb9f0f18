"""Prepares a process of either plane to log and to count."""

from __future__ import annotations

from penstock.config import Settings
from penstock.observability.exposition import connect
from penstock.observability.logs import configure


def prepare_process(settings: Settings, process: str) -> None:
    """Makes this process log as the settings say, and count in the files of its node. Call it first in an actor.

    Args:
        settings: of the plane.
        process: the name of this process, without a number: `decode`.
    """
    configure(settings.log, process)
    connect(settings, process)
