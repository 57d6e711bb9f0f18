"""Ends a plane once the version of the index that it feeds is being removed."""

from __future__ import annotations

import logging
from collections.abc import Callable

from penstock.assets import AssetStore
from penstock.errors import PenstockError, UnavailableError
from penstock.versions import Phase, read_reindex

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 5.0


class DropWatch:
    """Looks at the record of the re-index every few seconds. For one thread.

    Args:
        notes: the asset store, which has the record.
        version: that the plane feeds.
        fills: whether the plane feeds the new version, which another plane takes over once the record is gone.
        clock: monotonic seconds.
    """

    def __init__(self, notes: AssetStore, version: int, *, fills: bool, clock: Callable[[], float]) -> None:
        self._notes = notes
        self._version = version
        self._fills = fills
        self._clock = clock
        self._looked_s: float | None = None

    def check_start(self) -> None:
        """Returns if the plane may start; also while the asset store does not answer.

        Raises:
            UnavailableError: its version is being removed.
            ConfigError: the record is damaged, or of a newer Penstock.
        """
        try:
            reindex = read_reindex(self._notes)
        except UnavailableError as exc:
            logger.warning("whether version %d of the index is being removed is not known yet: %s", self._version, exc)
            return
        if reindex is not None and reindex.phase is Phase.DROPPED and reindex.dropping == self._version:
            raise UnavailableError(
                f"version {self._version} of the index is being removed: start again once `penstock reindex drop` has "
                "ended"
            )

    def must_end(self) -> bool:
        """Returns whether the plane has to end by now; False while the record cannot be read."""
        now_s = self._clock()
        if self._looked_s is not None and now_s - self._looked_s < _LOOK_EVERY_S:
            return False
        self._looked_s = now_s
        try:
            reindex = read_reindex(self._notes)
        except PenstockError as exc:
            logger.warning("the record of the re-index cannot be read, and is read again: %s", exc)
            return False
        if reindex is None:
            return self._fills
        return reindex.phase is Phase.DROPPED and reindex.dropping == self._version
