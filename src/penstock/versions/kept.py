"""Remembers which version of the index stayed after a re-index, for planes whose settings still name the old one.

The note `index.json` of the asset store has the settings in which the planes of that version differ. A plane whose
`store.version` is lower takes them, so that it does not begin to fill the version that was dropped again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.assets import AssetStore
from penstock.config import Settings
from penstock.errors import ConfigError
from penstock.versions.settings import with_changes

logger = logging.getLogger(__name__)

NOTE = "index.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class KeptIndex:
    """The version that stayed, and the settings in which its planes differ, by section."""

    version: int
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_kept_index(assets: AssetStore) -> KeptIndex | None:
    """Returns the version that stayed after the last re-index; None if there was none.

    Raises:
        ConfigError: the note is of a newer Penstock, or is damaged.
        UnavailableError: the asset store does not answer.
    """
    data = assets.note(NOTE)
    if data is None:
        return None
    try:
        content = json.loads(data)
        if content["schema"] == SCHEMA:
            return KeptIndex(int(content["version"]), dict(content["settings"]))
    except (ValueError, TypeError, KeyError) as exc:
        raise ConfigError(f"the note {NOTE} of the asset store {assets.url} cannot be read: {exc!r}") from exc
    raise ConfigError(
        f"the note {NOTE} of the asset store {assets.url} has schema {content['schema']}, and this Penstock knows "
        f"{SCHEMA}: start a newer release"
    )


def write_kept_index(assets: AssetStore, kept: KeptIndex) -> None:
    """Writes the note, in place of an older one. Raises `UnavailableError`."""
    content = {"schema": SCHEMA, "version": kept.version, "settings": kept.settings}
    assets.put_note(NOTE, json.dumps(content, indent=2, sort_keys=True).encode())


def with_kept_index(settings: Settings, assets: AssetStore) -> Settings:
    """Returns the settings with those of the version that stayed, if `store.version` is a lower one.

    Raises:
        ConfigError, UnavailableError: as `read_kept_index`.
    """
    kept = read_kept_index(assets)
    if kept is None or settings.store.version >= kept.version:
        return settings
    changed = with_changes(settings, kept.settings)
    logger.warning(
        "a re-index has replaced version %d of the index: version %d is used, with profile %s and group %s. Set "
        "store.version, profile and kafka.group accordingly",
        settings.store.version,
        kept.version,
        changed.profile,
        changed.kafka.group,
    )
    return changed
