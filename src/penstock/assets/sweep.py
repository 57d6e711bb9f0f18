"""Removes media that no asset row and no dead letter refers to any more, with a brake.

    1 the references are read to their end
    2 media in the trash that are referred to are put back
    3 what nothing refers to, and is older than the grace period, is counted
    4 the brake: nothing is removed for an index that is empty, that is not the owner of the store, or where it is too
      large a part of the media. Such an index has more likely been lost, mistyped or restored than emptied
    5 they are moved to the trash
    6 what has rested in the trash long enough is removed

New media are put before the row that refers to them is written, so that only their age protects them; a `put` of old
media resets their age. The grace period must exceed the time of an event from fetch to write, with any outage of the
store in between.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from penstock.assets.store import REFRESH_AFTER_S, AssetStore, StoredMedia

logger = logging.getLogger(__name__)

# The brake is for large mistakes: a small store whose user deletes half of it is swept.
MIN_BRAKED = 20


@dataclass(frozen=True, slots=True)
class SweepLimits:
    """Bounds what a sweep may remove.

    Attributes:
        grace_s: age under which nothing is removed, seconds.
        rest_s: time in the trash, seconds; 0: media are removed immediately.
        max_share: the largest part of all media that is removed without `force`, 0 to 1.
        force: whether the brake is off, and the index becomes the owner of the store.
        dry_run: whether it only reports.
    """

    grace_s: float
    rest_s: float = 0.0
    max_share: float = 1.0
    force: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class SweepReport:
    """The result of a sweep.

    Attributes:
        checked: media in the store, without the trash.
        removed: those that were moved to the trash, or would have been.
        removed_bytes: of these.
        too_young: media that nothing refers to, kept because of their age alone.
        restored: media put back from the trash.
        purged: media removed from the trash.
        held: why nothing was removed; None if it was, or there was nothing to remove.
    """

    checked: int
    removed: int
    removed_bytes: int
    too_young: int
    restored: int = 0
    purged: int = 0
    held: str | None = None


def sweep(
    store: AssetStore, referenced: Iterable[str], limits: SweepLimits, *, owner: str, now_s: float
) -> SweepReport:
    """Sweeps a store, as the head of this file says.

    Args:
        store: the media.
        referenced: hashes that asset rows and dead letters refer to, in any order and with repeats. 16 bytes of each
            are kept, so that ten million take about 1 GB.
        limits: what may be removed.
        owner: the name of the index whose rows these are.
        now_s: the current time, seconds since the epoch, by the clock that dates the files of the store.

    Raises:
        UnavailableError: the store does not answer.
    """
    kept = {_short(sha256) for sha256 in referenced}  # 1
    restored = _restore(store, kept, limits)  # 2
    youngest_s = now_s - limits.grace_s - (0.0 if store.is_local else REFRESH_AFTER_S)
    unreferenced: list[StoredMedia] = []
    checked = too_young = 0
    for stored in store.list():  # 3
        checked += 1
        if _short(stored.sha256) in kept:
            continue
        if stored.modified_s > youngest_s:
            too_young += 1
        else:
            unreferenced.append(stored)
    held = None if limits.force or not unreferenced else _brake(store, owner, len(kept))  # 4
    if not limits.force and len(unreferenced) > max(MIN_BRAKED, limits.max_share * checked):
        share = len(unreferenced) / checked
        held = held or (
            f"{len(unreferenced):,} of {checked:,} media ({share:.0%}) would go, more than assets.max_swept "
            f"({limits.max_share:.0%})"
        )
    if held is not None or limits.dry_run:
        removable = len(unreferenced), sum(stored.size for stored in unreferenced)
        return SweepReport(checked, *removable, too_young, restored, 0, held)
    if kept or limits.force:
        store.set_owner(owner)
    removed = [stored for stored in unreferenced if _removed(store, stored, youngest_s, limits.rest_s)]  # 5
    store.remove_leftovers(youngest_s)
    purged = sum(_purged(store, now_s - limits.rest_s))  # 6
    report = SweepReport(checked, len(removed), sum(stored.size for stored in removed), too_young, restored, purged)
    logger.info(
        "swept %s: %d of %d media removed, %d bytes; %d put back, %d removed permanently",
        store.url,
        report.removed,
        checked,
        report.removed_bytes,
        restored,
        purged,
    )
    return report


def _short(sha256: str) -> bytes:
    return bytes.fromhex(sha256)[:16]


def _restore(store: AssetStore, kept: set[bytes], limits: SweepLimits) -> int:
    resting = [stored.sha256 for stored in store.list_trash() if _short(stored.sha256) in kept]
    if limits.dry_run:
        return len(resting)
    return sum(store.restore(sha256) for sha256 in resting)


def _brake(store: AssetStore, owner: str, referenced: int) -> str | None:
    """Returns why this index must not have any media removed; None if it may."""
    if not referenced:
        return f"the index {owner} refers to no media at all"
    known = store.owner()
    if known is not None and known != owner:
        return f"the store belongs to the index {known}, and this is {owner}"
    return None


def _removed(store: AssetStore, stored: StoredMedia, youngest_s: float, rest_s: float) -> bool:
    if not store.move_to_trash(stored.sha256, youngest_s):
        return False
    if not rest_s:
        store.purge(stored.sha256)
    return True


def _purged(store: AssetStore, before_s: float) -> Iterator[bool]:
    for stored in store.list_trash():
        if stored.modified_s <= before_s:
            store.purge(stored.sha256)
            yield True
