"""Removes named media from the asset store immediately, unless something else refers to them or they are in use."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from penstock.assets.store import REFRESH_AFTER_S, AssetStore, MissingAssetError


@dataclass(frozen=True, slots=True)
class MediaPurge:
    """The result of a removal.

    Attributes:
        removed, removed_bytes: media that are gone now.
        shared: media that something else refers to, which stay.
        young: media that were put again since, which stay until a sweep.
    """

    removed: int = 0
    removed_bytes: int = 0
    shared: int = 0
    young: int = 0


def purge_media(
    store: AssetStore, candidates: Set[str], referenced: Iterable[str], *, youngest_s: float, dry_run: bool = False
) -> MediaPurge:
    """Removes media permanently, from the trash as well.

    Args:
        store: the media.
        candidates: hashes of those to remove.
        referenced: hashes that rows and dead letters still refer to, in any order and with repeats.
        youngest_s: media that were put later stay: an event in flight, whose row does not exist yet, may have put them.
        dry_run: whether it only counts.
    """
    shared = {sha256 for sha256 in referenced if sha256 in candidates}
    # An object store does not date a repeated `put` within this time.
    youngest_s -= 0.0 if store.is_local else REFRESH_AFTER_S
    removed = removed_bytes = young = 0
    for sha256 in sorted(candidates - shared):
        try:
            size = store.size(sha256)
        except MissingAssetError:
            store.purge(sha256)
            continue
        if not dry_run and not store.move_to_trash(sha256, youngest_s):
            young += 1
            continue
        if not dry_run:
            store.purge(sha256)
        removed += 1
        removed_bytes += size
    return MediaPurge(removed, removed_bytes, len(shared), young)
