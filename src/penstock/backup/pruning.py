"""Removes old backups, and the media that none of the remaining ones refers to."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from penstock.backup.folder import BackupFolder
from penstock.backup.making import backup_id
from penstock.backup.manifest import MEDIA, DamagedBackupError
from penstock.backup.media import short
from penstock.backup.parts import read_tables

logger = logging.getLogger(__name__)

# A backup that is being made has no manifest, and media that no manifest names: both are younger.
UNFINISHED_S = 86_400.0


@dataclass(frozen=True, slots=True)
class PruneReport:
    """The result of a prune.

    Attributes:
        backups, unfinished: the numbers of those that were removed.
        media, media_bytes: that were removed.
        damaged: backups that cannot be read, and are not counted. They stay, and all media with them.
    """

    backups: int
    unfinished: int
    media: int
    media_bytes: int
    damaged: Sequence[str] = ()


def prune(folder: BackupFolder, keep: int, *, now_s: float) -> PruneReport:
    """Keeps the newest backups of a place.

    1. read the manifests and the names of media of those that stay: a damaged one does not count as one of them
    2. remove older ones, their manifest first, and what is unfinished
    3. remove media that no backup refers to, unless one that stays is damaged and does not name its media

    Args:
        folder: the place.
        keep: how many complete backups stay, at least 1.
        now_s: seconds since the epoch. What is unfinished stays for a day.

    Raises:
        UnavailableError: the place does not answer.
        NewerBackupError: a newer Penstock made one of those that would stay; nothing is removed.
    """
    complete = folder.ids()
    unfinished = [id_ for id_ in folder.folders() if id_ not in complete and id_ < backup_id(now_s - UNFINISHED_S)]
    if len(complete) <= keep and not unfinished:
        return PruneReport(0, 0, 0, 0)
    kept, damaged = _readable(folder, complete, keep)  # 1
    old = [id_ for id_ in complete if len(kept) == keep and id_ < min(kept)]
    for id_ in (*old, *unfinished):  # 2
        folder.remove(id_)
    if damaged:
        return PruneReport(len(old), len(unfinished), 0, 0, damaged)
    referenced = {name for names in kept.values() for name in names}
    removed = removed_bytes = 0
    for stored in folder.media.list():  # 3
        if short(stored.sha256) not in referenced and stored.modified_s < now_s - UNFINISHED_S:
            folder.media.delete(stored.sha256)
            removed += 1
            removed_bytes += stored.size
    return PruneReport(len(old), len(unfinished), removed, removed_bytes)


def _readable(folder: BackupFolder, ids: Sequence[str], keep: int) -> tuple[Mapping[str, Set[bytes]], Sequence[str]]:
    """Returns the newest backups that can be read, with the short hashes of their media, and damaged ones among them.

    What a restore would verify beyond that, the hashes of all parts, is not.
    """
    kept: dict[str, Set[bytes]] = {}
    damaged: list[str] = []
    for id_ in reversed(ids):
        if len(kept) == keep:
            break
        try:
            kept[id_] = _media_of(folder, id_)
        except DamagedBackupError as exc:
            logger.warning("a backup is not counted: %s", exc)
            damaged.append(id_)
    return kept, damaged


def _media_of(folder: BackupFolder, id_: str) -> Set[bytes]:
    return frozenset(
        short(sha256)
        for table in read_tables(folder, folder.manifest(id_), MEDIA)
        for sha256 in table.column("sha256").to_pylist()
    )
