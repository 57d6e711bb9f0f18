"""Derives which versions of the index a replica of the query plane holds, and the settings of each."""

from __future__ import annotations

from collections.abc import Set

from penstock.config import Settings
from penstock.errors import ConfigError
from penstock.versions.settings import version_settings
from penstock.versions.state import Phase, Reindex


def held_versions(settings: Settings, reindex: Reindex | None, served: int) -> Set[int]:
    """Returns the versions that a replica holds: the served one, and both of a re-index that may be switched.

    A version whose models the settings no longer have is left out: the settings were moved on to the new one.
    """
    if reindex is None or reindex.phase not in (Phase.READY, Phase.SWITCHED):
        return {served}
    old = {reindex.from_version} if settings.store.version == reindex.from_version else set()
    return {served, reindex.to_version} | old


def plane_settings(settings: Settings, reindex: Reindex | None, version: int) -> Settings:
    """Returns the settings of the query plane of a version.

    Raises:
        ConfigError: neither the settings nor a re-index say what filled this version.
    """
    known = {settings.store.version} | ({reindex.from_version, reindex.to_version} if reindex else set())
    if version not in known:
        raise ConfigError(
            f"the store serves version {version} of the index, and store.version is {settings.store.version}: set "
            f"store.version to {version}, and profile to the one that filled it"
        )
    return version_settings(settings, reindex, version)
