"""The record of a re-index: which version it fills from which, with what, and how far its steps have come.

It is the note `reindex.json` of the asset store, which every process that ingests or answers reaches. Which version is
served is not in it: that is what the alias `asset` of the store says, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from penstock.assets import AssetStore
from penstock.errors import ConfigError
from penstock.versions.progress import drop_progress

NOTE = "reindex.json"
SCHEMA = 1


class Phase(StrEnum):
    """The phases of a re-index. A rollback goes from `SWITCHED` back to `READY`."""

    FILLING = "filling"  # the new version lacks assets
    READY = "ready"  # it has every asset that is available, and is fed
    SWITCHED = "switched"  # it is served, and the old one is still fed
    DROPPED = "dropped"  # one of the two is being removed; what is left of it goes at the next `drop`


@dataclass(frozen=True, slots=True)
class Reindex:
    """A re-index, from `penstock reindex start` to `penstock reindex drop`.

    Attributes:
        from_version: the version that was served when it began.
        to_version: the version that it fills.
        profile: the models of the new version, with all choices.
        group: the consumer group that feeds the new version; no other re-index has had it.
        started_ms: milliseconds since the epoch.
        phase: how far it has come.
        waived: whether it may be served although assets are missing in it.
        transform: the file of the transform by which vectors of the old version become those of the new one; None: the
            media are encoded again.
        settings: the settings in which the plane of the new version differs, by section.
        dropping: the version that is being removed; None: neither is.
    """

    from_version: int
    to_version: int
    profile: str
    group: str
    started_ms: int
    phase: Phase = Phase.FILLING
    waived: bool = False
    transform: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    dropping: int | None = None


def read_reindex(assets: AssetStore) -> Reindex | None:
    """Returns the re-index that is under way; None if there is none.

    Raises:
        ConfigError: the note is of a newer Penstock, or is damaged.
        UnavailableError: the asset store does not answer.
    """
    data = assets.note(NOTE)
    if data is None:
        return None
    try:
        content = json.loads(data)
        schema = content.pop("schema")
        if schema == SCHEMA:
            known = {name: content[name] for name in (attribute.name for attribute in fields(Reindex))}
            return Reindex(**{**known, "phase": Phase(known["phase"])})
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise ConfigError(
            f"the note {NOTE} of the asset store {assets.url} cannot be read ({exc!r}): restore it from a backup"
        ) from exc
    raise ConfigError(
        f"the note {NOTE} of the asset store {assets.url} has schema {schema}, and this Penstock knows {SCHEMA}: "
        "continue the re-index with the release that began it"
    )


def write_reindex(assets: AssetStore, reindex: Reindex) -> None:
    """Writes the record, in place of an older one.

    Raises:
        UnavailableError: the asset store does not answer.
    """
    content = {"schema": SCHEMA, **asdict(reindex)}
    assets.put_note(NOTE, json.dumps(content, indent=2, sort_keys=True).encode())


def drop_reindex(assets: AssetStore) -> None:
    """Removes the record, after what it counted and named.

    Raises:
        UnavailableError: the asset store does not answer.
    """
    drop_progress(assets)
    assets.drop_note(NOTE)
