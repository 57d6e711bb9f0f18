"""Removes the version of the index that is not served, and with it the re-index.

1. note     the version that goes, so that the plane that feeds it ends, none starts for it, and no switch begins
2. wait     until no driver ingests for its consumer group, and no replica answers from it
3. remove   its collections; asset rows last, so that a repetition knows which version goes
4. keep     note the version that stays, with its settings, for planes that start later
5. forget   the record of the re-index, after a note of its end: the plane that fed the new version ends, another one
            may take over, and none begins the same re-index again unasked

It may end anywhere: a repetition continues with the noted version. A switch that began before 1 is found after it, by
its note or by what is served since: then nothing is removed, and the re-index continues.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from penstock.assets import AssetStore
from penstock.errors import ConfigError, UnavailableError, UsageError
from penstock.ingest.reindex.starting import KnownVersions, with_phase
from penstock.records import Collection
from penstock.store.names import ASSET, PhysicalCollection, asset_collection
from penstock.versions import (
    EndedReindex,
    KeptIndex,
    Phase,
    Reindex,
    drop_reindex,
    read_reindex,
    write_ended,
    write_kept_index,
)
from penstock.versions.replicas import read_reports
from penstock.versions.switching import NOTE as SWITCH_NOTE

logger = logging.getLogger(__name__)

_POLL_S = 0.5


class RemovableVersions(KnownVersions, Protocol):
    """Lists physical collections, and removes them; `store.milvus.aliases.Aliases`."""

    def remove(self, physical: PhysicalCollection) -> None:
        """Removes a collection, and its alias if that serves it; no error if there is none."""


def drop_version(
    notes: AssetStore,
    versions: RemovableVersions,
    *,
    owner_of: Callable[[int], str],
    group_of: Callable[[Reindex, int], str],
    members: Callable[[str], int],
    sleep: Callable[[float], None],
    clock: Callable[[], float],
    wall_ms: Callable[[], int],
    wait_s: float,
) -> tuple[int, int]:
    """Removes the version that is not served; returns which went and which stays. See the head of this file.

    Args:
        notes: the asset store, which has the record.
        versions: of the index.
        owner_of: the name by which a version of the index owns the asset store.
        group_of: the consumer group that feeds a version.
        members: how many drivers hold, or wait for, the lease of a group.
        sleep, clock: waits for some seconds, and monotonic seconds.
        wall_ms: milliseconds since the epoch.
        wait_s: the longest wait for the plane of the version that goes, and for replicas.

    Raises:
        ConfigError: no re-index is under way, nothing is served, or what an earlier call began to remove is.
        UsageError: a switch is under way, or a replica answers from the version that is not served.
        UnavailableError: the plane of that version still runs when the time is over, or a service does not answer.
    """
    reindex = read_reindex(notes)
    if reindex is None:
        raise ConfigError("no re-index is under way, so that there is one version of the index, which stays")
    goes, stays = _chosen(reindex, _served(versions, reindex))
    if reindex.phase is not Phase.DROPPED:
        _refuse_answering(notes, goes, wall_ms())
    with_phase(notes, Phase.DROPPED, dropping=goes)  # 1
    _refuse_switch(notes, versions, reindex, goes)

    def obstacle() -> str:
        if members(group := group_of(reindex, goes)):
            return f"a plane still ingests for version {goes} of the index (group {group}): stop it, and run this again"
        return _answering(notes, goes, wall_ms())

    _await_none(obstacle, sleep=sleep, clock=clock, wait_s=wait_s)  # 2
    _refuse_switch(notes, versions, reindex, goes)
    for alias in (*Collection, ASSET):  # 3
        for physical in versions.candidates(alias):
            if physical.version == goes:
                versions.remove(physical)
    if notes.owner() == owner_of(goes):
        notes.set_owner(owner_of(stays))
    if stays == reindex.to_version:  # 4
        write_kept_index(notes, KeptIndex(stays, reindex.settings))
    write_ended(notes, EndedReindex(reindex.profile, removed=goes, kept=stays, ended_ms=wall_ms()))  # 5
    drop_reindex(notes)
    logger.info("version %d of the index is removed, version %d stays", goes, stays)
    return goes, stays


def owner_name(database: str, version: int) -> str:
    """Returns the name by which a version of the index owns the asset store."""
    return f"{database}/{asset_collection(version)}"


def _served(versions: KnownVersions, reindex: Reindex) -> int:
    served = versions.served(ASSET)
    if served is None or served.version not in (reindex.from_version, reindex.to_version):
        raise ConfigError(f"the store serves {served}, which the re-index does not know; check store.database")
    return served.version


def _chosen(reindex: Reindex, served: int) -> tuple[int, int]:
    """Returns which version goes, and which stays: as an earlier call has noted, or as one is served now."""
    both = {reindex.from_version, reindex.to_version}
    noted = reindex.dropping if reindex.phase is Phase.DROPPED else None
    (goes,) = both - {served} if noted is None else {noted}
    (stays,) = both - {goes}
    return goes, stays


def _refuse_switch(notes: AssetStore, versions: KnownVersions, before: Reindex, goes: int) -> None:
    """Raises if a switch is under way or has served the version that goes; the re-index continues if it did before.

    The note of a switch is read first: one that is gone by then has altered what is served.
    """
    switches = notes.note(SWITCH_NOTE) is not None
    served = _served(versions, before)
    if before.phase is Phase.DROPPED:  # an earlier call may have removed some of it
        if served == goes:
            raise ConfigError(
                f"version {goes} of the index is served, and an earlier `penstock reindex drop` began to remove it: "
                f"let the alias `{ASSET}` of the store name the other version, and run this again"
            )
        if switches:
            raise UnavailableError("a switch of the index is under way: run this again once it has ended")
    elif switches or served == goes:
        phase = Phase.SWITCHED if served == before.to_version else Phase.READY
        with_phase(notes, Phase.FILLING if before.phase is Phase.FILLING else phase)
        raise UsageError(
            f"a switch of the index is under way, version {served} is served, and nothing was removed: run this again "
            "if the other version is to go"
        )
    present = read_reindex(notes)
    if present is None or (present.phase, present.dropping) != (Phase.DROPPED, goes):
        raise UnavailableError("another process has changed the record of the re-index, nothing was removed: try again")


def _refuse_answering(notes: AssetStore, version: int, now_ms: int) -> None:
    if answering := _answering(notes, version, now_ms):
        raise UsageError(answering)


def _answering(notes: AssetStore, version: int, now_ms: int) -> str:
    """Returns a line that names the replicas that answer from a version; empty if none does."""
    replicas = [report.replica for report in read_reports(notes, now_ms=now_ms) if report.serves == version]
    if not replicas:
        return ""
    return f"version {version} of the index still answers in replica {', '.join(replicas)}: see its log, and try again"


def _await_none(
    obstacle: Callable[[], str], *, sleep: Callable[[float], None], clock: Callable[[], float], wait_s: float
) -> None:
    """Waits until nothing is in the way any more; raises with what is when the time is over."""
    deadline_s = clock() + wait_s
    while line := obstacle():
        if clock() >= deadline_s:
            raise UnavailableError(line)
        sleep(_POLL_S)
