"""Reads which version of the index is served and which ones a replica holds, and reports what this replica holds."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from penstock.assets import AssetStore
from penstock.config import Settings
from penstock.errors import PenstockError
from penstock.store.aliases import VersionedStore
from penstock.versions import Reindex, read_reindex, with_kept_index
from penstock.versions.replicas import ReplicaReport, drop_dead_reports, drop_report, write_report
from penstock.versions.serving import held_versions, plane_settings
from penstock.versions.switching import served_version

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServedVersions:
    """Names the versions that are to be held and served.

    Attributes:
        served: the version that answers.
        held: the versions whose planes are to be ready.
        reindex: the re-index that is under way; None: there is none.
    """

    served: int
    held: Set[int]
    reindex: Reindex | None


class VersionSource:
    """The versions as store and asset store name them. Its methods wait for both: call them in a thread.

    Args:
        settings: of the deployment.
        store: whose aliases are read.
        assets: keeps the notes.
        wall_ms: milliseconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        store: VersionedStore,
        assets: AssetStore,
        *,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._settings = settings
        self._store = store
        self._assets = assets
        self._wall_ms = wall_ms
        self._replica = secrets.token_hex(8)
        self._reported = False
        self._reindex: Reindex | None = None
        self._seen_error = ""

    def read(self) -> ServedVersions:
        """Reads both. Raises ConfigError or UnavailableError of the store."""
        served = self.served()
        return self.versions(served, self.read_reindex(served))

    def served(self) -> int:
        """Reads which version is served, from the store alone. Raises as `read`."""
        served = served_version(self._store)
        return self._settings.store.version if served is None else served

    def versions(self, served: int, reindex: Reindex | None) -> ServedVersions:
        """Returns what follows from both. Reads nothing."""
        return ServedVersions(served, held_versions(self._settings, reindex, served), reindex)

    def read_reindex(self, served: int) -> Reindex | None:
        """Returns the re-index, the last known one while the note cannot be read.

        Takes the settings of the version that stayed after a re-index, if those of the deployment are older.
        """
        try:
            self._reindex = read_reindex(self._assets)
            present = served if self._reindex is None else self._reindex.from_version
            if self._settings.store.version < present:
                self._settings = with_kept_index(self._settings, self._assets)
        except PenstockError as exc:
            if str(exc) != self._seen_error:
                logger.warning("whether a re-index is under way, and with which settings, is not known: %s", exc)
            self._seen_error = str(exc)
        else:
            self._seen_error = ""
        return self._reindex

    def settings_of(self, versions: ServedVersions, version: int) -> Settings:
        """Returns the settings of the plane of a version. Raises ConfigError."""
        return plane_settings(self._settings, versions.reindex, version)

    def report(
        self,
        versions: ServedVersions,
        *,
        holds: Sequence[int] = (),
        serves: int | None = None,
        failures: Mapping[int, str] | None = None,
    ) -> None:
        """Reports what this replica holds while a re-index is under way. A report that fails is logged."""
        if versions.reindex is None:
            self.withdraw()
            return
        report = ReplicaReport(self._replica, tuple(holds), serves, self._wall_ms(), failures or {})
        try:
            write_report(self._assets, report)
            if not self._reported:
                drop_dead_reports(self._assets, now_ms=self._wall_ms())
            self._reported = True
        except PenstockError as exc:
            logger.warning("`penstock reindex switch` will not know of this replica: %s", exc)

    def withdraw(self) -> None:
        """Removes the report of this replica, if it made one."""
        if not self._reported:
            return
        self._reported = False
        try:
            drop_report(self._assets, self._replica)
        except PenstockError as exc:
            logger.info("the report of this replica stays until it is outdated: %s", exc)
