"""Remembers with what models the last re-index was made and when it ended, so that none begins again unasked.

A supervisor, such as Kubernetes, starts the command that began a re-index again once its plane ends.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from penstock.assets import AssetStore
from penstock.errors import ConfigError

NOTE = "reindex-ended.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class EndedReindex:
    """The end of a re-index.

    Attributes:
        profile: the models of its new version, with all choices.
        removed, kept: the version that was removed, and the one that stayed.
        ended_ms: milliseconds since the epoch.
    """

    profile: str
    removed: int
    kept: int
    ended_ms: int


def read_ended(assets: AssetStore) -> EndedReindex | None:
    """Returns the end of the last re-index; None if none has ended.

    Raises:
        ConfigError: the note is of a newer Penstock, or is damaged.
        UnavailableError: the asset store does not answer.
    """
    data = assets.note(NOTE)
    if data is None:
        return None
    try:
        content = json.loads(data)
        if content.pop("schema") == SCHEMA:
            return EndedReindex(**content)
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise ConfigError(f"the note {NOTE} of the asset store {assets.url} cannot be read: {exc!r}") from exc
    raise ConfigError(f"the note {NOTE} of the asset store {assets.url} is of a newer release: start that one")


def write_ended(assets: AssetStore, ended: EndedReindex) -> None:
    """Writes the note, in place of that of an earlier re-index. Raises `UnavailableError`."""
    assets.put_note(NOTE, json.dumps({"schema": SCHEMA, **asdict(ended)}, indent=2, sort_keys=True).encode())
