"""Keeps in the asset store when the last backup was made, so that the planes and `status` know its age."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from penstock.assets.store import AssetStore

_NAME = "backup.json"


@dataclass(frozen=True, slots=True)
class BackupNote:
    """The last complete backup of an index.

    Attributes:
        id: of the backup.
        index_version: of the collections that it has.
        began_ms: when its offsets were read, milliseconds since the epoch: what was settled before is in it.
    """

    id: str
    index_version: int
    began_ms: int


def read_backup_note(assets: AssetStore) -> BackupNote | None:
    """Returns the note of the last backup; None if there is none, or it is of another form."""
    data = assets.note(_NAME)
    try:
        return None if data is None else BackupNote(**json.loads(data))
    except (TypeError, ValueError):
        return None


def write_backup_note(assets: AssetStore, note: BackupNote) -> None:
    """Writes the note, in place of the one of an earlier backup."""
    assets.put_note(_NAME, json.dumps(asdict(note)).encode())
