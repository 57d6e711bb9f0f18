"""Removes media from the asset store that nothing refers to any more, so that a tombstone really deletes."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterable, Iterator

from penstock.assembly import open_assets, open_store
from penstock.assets import SweepReport, sha256_of
from penstock.broker.base import DeadLetter
from penstock.broker.deadletters import scan_dead_letters
from penstock.config import Settings
from penstock.errors import PenstockError, UnavailableError
from penstock.store.base import EntryScan

logger = logging.getLogger(__name__)


def referenced_media(store: EntryScan, dead_letters: Iterable[DeadLetter]) -> Iterator[str]:
    """Returns the SHA-256 of all media that the store or a dead letter refers to, in any order, some repeatedly."""
    kept = itertools.chain.from_iterable(store.scan_media())
    uris = itertools.chain(kept, (letter.offloaded_uri or "" for letter in dead_letters))
    return (sha256 for uri in uris if (sha256 := sha256_of(uri)) is not None)


def sweep_assets(settings: Settings, *, now_s: float) -> SweepReport:
    """Sweeps the asset store.

    Args:
        settings: with the addresses of broker and store.
        now_s: seconds since the epoch.

    Raises:
        UnavailableError: broker, store or asset store does not answer, or two versions of the index exist: only the
            rows of the served one are read. In no case are media removed that a row or a dead letter refers to.
    """
    store = open_store(settings.store)
    try:
        if len(versions := store.aliases.candidates("asset")) > 1:
            raise UnavailableError(f"{len(versions)} versions of the index exist, and each may refer to media")
        referred = referenced_media(store, scan_dead_letters(settings.kafka))
        return open_assets(settings).sweep(referred, grace_s=settings.assets.grace_s, now_s=now_s)
    finally:
        store.close()


def sweep_until(stop: threading.Event, settings: Settings) -> None:
    """Sweeps at every interval until `stop` is set; a sweep that fails is repeated at the next one."""
    while not stop.wait(settings.assets.sweep_interval_s):
        try:
            sweep_assets(settings, now_s=time.time())
        except PenstockError as exc:
            logger.warning("sweep of the asset store failed and will be repeated: %s", exc)
        except Exception:  # whatever it is, deleted media must not stay
            logger.exception("sweep of the asset store: unexpected error; it will be repeated")
