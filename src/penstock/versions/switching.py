"""Switches which version of the index is served, so that a crash at any moment leaves one of both, whole.

One value decides: the physical collection behind the alias `asset` of the store. The query plane searches the
collections of the version that it names, and never by another alias; those of the entries are for readers that are not
Penstock's. A switch that was interrupted is completed by a process that starts later (`finish_switch`): towards the
version that the alias `asset` names by then, which is the new one or still the old one.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from penstock.assets import AssetStore
from penstock.errors import ConfigError, PenstockError, UsageError
from penstock.records import Collection
from penstock.store.aliases import VersionedStore
from penstock.store.names import ASSET, PhysicalCollection, asset_collection
from penstock.versions.state import Phase, read_reindex, write_reindex

logger = logging.getLogger(__name__)

NOTE = "switch.json"
SCHEMA = 1
# A switch takes seconds; on a store that is slow, its requests have a timeout.
INTERRUPTED_AFTER_S = 60


@dataclass(frozen=True, slots=True)
class Intention:
    """The intention of one switch, as it is noted.

    Attributes:
        to: the version that is to be served.
        token: hexadecimal digits that distinguish it from another switch.
        noted_ms: milliseconds since the epoch.
    """

    to: int
    token: str
    noted_ms: int


def served_version(store: VersionedStore) -> int | None:
    """Returns the version of the index that is served; None before the first one is.

    Raises:
        ConfigError: the alias is not Penstock's.
        UnavailableError: the store does not answer.
    """
    served = store.aliases.served(ASSET)
    return None if served is None else served.version


def switch(store: VersionedStore, assets: AssetStore, to: int) -> None:
    """Lets a version be served. The same call with the earlier one is the rollback.

    1. note the intention, and refuse while a version is being removed; a removal is noted first too, and then refused
       while a switch is noted, so that never both continue
    2. alter the alias `asset`: from here on the version is served. A version that the store does not have is refused
    3. alter the aliases of the entries, and write the phase of the re-index
    4. remove the note

    Raises:
        ConfigError: the store has no such version.
        UsageError: one of the two versions is being removed.
        UnavailableError: the store or the asset store does not answer. Either version is served then, and
            `finish_switch` completes the rest.
    """
    complete_switch(store, assets, begin_switch(store, assets, to))


def begin_switch(store: VersionedStore, assets: AssetStore, to: int) -> Intention:
    """Takes the steps 1 and 2 of `switch`, after which replicas follow; returns what was noted. Raises as `switch`.

    This is one request to the store. In Milvus Lite it waits until the searches before it are answered.
    """
    intention = Intention(to, secrets.token_hex(8), time.time_ns() // 1_000_000)
    assets.put_note(NOTE, json.dumps({"schema": SCHEMA, **asdict(intention)}).encode())  # 1
    _refuse_removal(assets, intention)
    try:
        store.aliases.redirect(ASSET, asset_collection(to))  # 2
    except ConfigError as exc:  # refused: nothing was altered
        _drop_note(assets, intention)
        raise ConfigError(
            f"version {to} of the index cannot be served, and `penstock reindex start` fills a new one: {exc}"
        ) from exc
    return intention


def complete_switch(store: VersionedStore, assets: AssetStore, intention: Intention) -> None:
    """Takes the steps 3 and 4 of `switch`. Raises as `switch`."""
    _complete(store, assets, intention)


def finish_switch(
    store: VersionedStore, assets: AssetStore, *, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
) -> int | None:
    """Completes a switch that was interrupted, or undoes what it noted; does nothing if there was none.

    A switch that was noted less than a minute ago may be under way in another process, which is left to it.

    Args:
        store: whose aliases are altered.
        assets: keeps the notes.
        wall_ms: milliseconds since the epoch.

    Returns:
        the version that is served since; None: no switch was interrupted, or a minute has not passed since.

    Raises:
        ConfigError: the note is of a newer Penstock, or is damaged.
        UnavailableError: the store or the asset store does not answer.
    """
    intention = _read_note(assets)
    # A moment in the future is that of a clock that is ahead.
    if intention is None or abs(wall_ms() - intention.noted_ms) < INTERRUPTED_AFTER_S * 1000:
        return None
    served = _complete(store, assets, intention)
    logger.warning("a switch to version %d of the index was interrupted: version %s is served", intention.to, served)
    return served


def finish_switch_if_known(store: VersionedStore, assets: AssetStore) -> None:
    """Does what `finish_switch` does where a plane starts, which an unavailable asset store does not hold up."""
    try:
        finish_switch(store, assets)
    except PenstockError as exc:
        logger.warning("whether a switch of the index was interrupted is not known: %s", exc)


def _refuse_removal(assets: AssetStore, intention: Intention) -> None:
    reindex = read_reindex(assets)
    if reindex is not None and reindex.phase is Phase.DROPPED:
        _drop_note(assets, intention)
        raise UsageError("one of the two versions is being removed: `penstock reindex drop` completes that")


def _complete(store: VersionedStore, assets: AssetStore, intention: Intention) -> int | None:
    """Makes everything follow the alias `asset`, again if another switch has altered it, and drops the note."""
    collections = store.aliases.collections()
    served = served_version(store)
    while True:
        if served is not None:
            _align_aliases(store, [name for name in collections if name.version == served])
            _align_phase(assets, served)
        before, served = served, served_version(store)
        if served == before:
            _drop_note(assets, intention)
            return served


def _align_aliases(store: VersionedStore, of_version: Sequence[PhysicalCollection]) -> None:
    """Lets each alias of entries serve its collection of a version; one that has none is removed."""
    for collection in Collection:
        alias = collection.value
        served, targets = store.aliases.served(alias), [name for name in of_version if name.alias == alias]
        if not targets and served is not None:
            store.aliases.drop(alias)
        elif targets and served not in targets:  # two models may have one of this version
            store.aliases.move(alias, served, targets[-1])


def _align_phase(assets: AssetStore, served: int) -> None:
    reindex = read_reindex(assets)
    if reindex is None or reindex.phase is Phase.DROPPED:
        return
    phase = reindex.phase
    if served == reindex.to_version:
        phase = Phase.SWITCHED
    elif phase is Phase.SWITCHED:
        phase = Phase.READY
    if phase is not reindex.phase:
        write_reindex(assets, replace(reindex, phase=phase))


def _drop_note(assets: AssetStore, intention: Intention) -> None:
    """Removes the note of this switch; that of another one, which has begun since, stays."""
    if _read_note(assets) == intention:
        assets.drop_note(NOTE)


def _read_note(assets: AssetStore) -> Intention | None:
    """Returns what the note intends; None if there is no note."""
    data = assets.note(NOTE)
    if data is None:
        return None
    try:
        content = json.loads(data)
        schema = int(content["schema"])
        # A release that noted no more than the version has ended long ago.
        intention = Intention(int(content["to"]), str(content.get("token", "")), int(content.get("noted_ms", 0)))
    except (ValueError, TypeError, KeyError) as exc:
        raise ConfigError(
            f"the note {NOTE} of the asset store {assets.url} cannot be read ({exc!r}): remove it, and switch again"
        ) from exc
    if schema != SCHEMA:
        raise ConfigError(
            f"the note {NOTE} of the asset store {assets.url} has schema {schema}, and this Penstock knows {SCHEMA}: "
            "finish the switch with the release that began it"
        )
    return intention
