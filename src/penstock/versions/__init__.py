"""The versions of the index, their settings, and the progress of a re-index from one to the next."""

from penstock.versions.ended import EndedReindex, read_ended, write_ended
from penstock.versions.kept import KeptIndex, read_kept_index, with_kept_index, write_kept_index
from penstock.versions.progress import (
    MAX_NAMED,
    OFFSETS_NOTE,
    MissingAsset,
    Progress,
    read_missing,
    read_progress,
    write_missing,
    write_progress,
)
from penstock.versions.settings import version_settings, with_changes
from penstock.versions.state import Phase, Reindex, drop_reindex, read_reindex, write_reindex

__all__ = [
    "EndedReindex",
    "KeptIndex",
    "MAX_NAMED",
    "MissingAsset",
    "OFFSETS_NOTE",
    "Phase",
    "Progress",
    "Reindex",
    "drop_reindex",
    "read_ended",
    "read_kept_index",
    "read_missing",
    "read_progress",
    "read_reindex",
    "version_settings",
    "with_changes",
    "with_kept_index",
    "write_ended",
    "write_kept_index",
    "write_missing",
    "write_progress",
    "write_reindex",
]
