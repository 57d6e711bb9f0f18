"""Backups: an index with its offsets, dead letters and media at any fsspec URL, its way back, and an export."""

from penstock.backup.folder import BackupFolder
from penstock.backup.making import BackupReport, BackupSource, make_backup
from penstock.backup.manifest import DamagedBackupError, Manifest, NewerBackupError
from penstock.backup.restoring import RestoreReport, RestoreTarget, restore

__all__ = [
    "BackupFolder",
    "BackupReport",
    "BackupSource",
    "DamagedBackupError",
    "Manifest",
    "NewerBackupError",
    "RestoreReport",
    "RestoreTarget",
    "make_backup",
    "restore",
]
