"""Removes media from the asset store that nothing refers to any more, so that a tombstone really deletes."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing

from penstock.assembly import open_assets, open_store, open_version
from penstock.assets import SweepLimits, SweepReport, sha256_of, sweep
from penstock.broker.base import DeadLetter
from penstock.broker.deadletters import scan_dead_letters
from penstock.config import Settings
from penstock.errors import ConfigError, PenstockError
from penstock.observability import metrics
from penstock.store.base import EntryScan
from penstock.store.names import ASSET, asset_collection

logger = logging.getLogger(__name__)


def referenced_media(versions: Iterable[EntryScan], dead_letters: Iterable[DeadLetter]) -> Iterator[str]:
    """Returns the SHA-256 of all media that are referred to, in any order, some repeatedly.

    Args:
        versions: the store, once for each version of the index.
        dead_letters: all that there are.
    """
    kept = itertools.chain.from_iterable(page for store in versions for page in store.scan_media())
    uris = itertools.chain(kept, (letter.offloaded_uri or "" for letter in dead_letters))
    return (sha256 for uri in uris if (sha256 := sha256_of(uri)) is not None)


def sweep_assets(settings: Settings, *, now_s: float, force: bool = False, dry_run: bool = False) -> SweepReport:
    """Sweeps the asset store.

    Args:
        settings: with the addresses of broker and store.
        now_s: seconds since the epoch.
        force: whether the brake is off.
        dry_run: whether it only reports.

    Raises:
        ConfigError: the store has no index.
        UnavailableError: broker, store or asset store does not answer. In no case are media removed that a row of any
            version of the index or a dead letter refers to.
    """
    with ExitStack() as opened:
        store = opened.enter_context(closing(open_store(settings.store)))
        versions = sorted({name.version for name in store.aliases.candidates(ASSET)})
        if not versions:
            raise ConfigError("the store has no index, whose rows would say which media are in use; check store.uri")
        assets = open_assets(settings)
        limits = SweepLimits(
            settings.assets.grace_s, settings.assets.rest_s, settings.assets.max_swept, force=force, dry_run=dry_run
        )
        stores = [opened.enter_context(closing(open_version(settings.store, version))) for version in versions]
        referred = referenced_media(stores, scan_dead_letters(settings.kafka))
        owners = [f"{settings.store.database}/{asset_collection(version)}" for version in versions]
        known = assets.owner()  # either version may be: their rows are read together
        owner = known if known is not None and known in owners else owners[0]
        return sweep(assets, referred, limits, owner=owner, now_s=now_s)


def sweep_until(stop: threading.Event, settings: Settings) -> None:
    """Sweeps at every interval until `stop` is set; a sweep that fails is repeated at the next one."""
    while not stop.wait(settings.assets.sweep_interval_s):
        try:
            report = sweep_assets(settings, now_s=time.time())
            metrics.ASSET_SWEEPS.labels("done" if report.held is None else "held").inc()
            if report.held is not None:
                logger.warning(
                    "sweep of the asset store: nothing was removed, as %s. `penstock sweep --dry-run` shows more, "
                    "`penstock sweep --force` removes them",
                    report.held,
                )
        except PenstockError as exc:
            metrics.ASSET_SWEEPS.labels("failed").inc()
            logger.warning("sweep of the asset store failed and will be repeated: %s", exc)
        except Exception:  # whatever it is, deleted media must not stay
            metrics.ASSET_SWEEPS.labels("failed").inc()
            logger.exception("sweep of the asset store: unexpected error; it will be repeated")
