"""Exports the age of the last backup, which the asset store keeps."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from penstock.assembly import open_assets
from penstock.assets import AssetStore
from penstock.assets.backup_note import read_backup_note
from penstock.config import Settings
from penstock.errors import PenstockError
from penstock.observability import metrics

logger = logging.getLogger(__name__)

INTERVAL_S = 60.0  # one small read of the asset store


class BackupAge:
    """Exports the age of the last backup; none while there is no backup or the asset store does not answer.

    Args:
        assets: keeps the note of the last backup.
        wall_s: seconds since the epoch.
    """

    def __init__(self, assets: AssetStore, wall_s: Callable[[], float] = time.time) -> None:
        self._assets = assets
        self._wall_s = wall_s
        self._exported: set[int] = set()

    def export(self) -> None:
        """Exports the present age.

        Raises:
            UnavailableError: the asset store does not answer; no age is exported.
        """
        try:
            note = read_backup_note(self._assets)
        except PenstockError:
            self._forget(None)
            raise
        self._forget(None if note is None else note.index_version)
        if note is not None:
            age_s = max(0.0, self._wall_s() - note.began_ms / 1000)
            metrics.BACKUP_AGE.labels(note.index_version).set(age_s)
            self._exported.add(note.index_version)

    def _forget(self, present: int | None) -> None:
        for version in self._exported - {present}:
            metrics.BACKUP_AGE.labels(version).set(metrics.UNKNOWN)
            self._exported.discard(version)


def export_backup_age_until(stop: threading.Event, settings: Settings) -> None:
    """Exports the age of the last backup at every interval until `stop` is set."""
    age = BackupAge(open_assets(settings))
    while True:
        try:
            age.export()
        except PenstockError as exc:
            logger.info("the age of the last backup is not known for now: %s", exc)
        except Exception:  # whatever it is, the next attempt may succeed
            logger.exception("age of the last backup: unexpected error; continuing")
        if stop.wait(INTERVAL_S):
            return
