"""Files and folders that this user alone can read: secrets, and the data folder with everything below it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)

_OTHERS = 0o077


def write_private(file: Path, text: str) -> None:
    """Replaces a file atomically by one of mode 0600, so that no other user reads it at any moment.

    Raises:
        OSError: it cannot be written.
    """
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as sink:
        sink.write(text)
    temporary.replace(file)


def make_private(folder: Path) -> None:
    """Creates the data folder, or takes its rights away from other users: the mode is 0700 afterwards.

    A folder that belongs to another user (a volume of a pod), and the home and working folder, keep their mode.

    Raises:
        OSError: it cannot be created.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    is_shared = folder.resolve() in (Path.home().resolve(), Path.cwd().resolve())
    if status.st_mode & _OTHERS and status.st_uid == os.geteuid() and not is_shared:
        logger.info("the data folder %s is closed to other users", folder)
        folder.chmod(0o700)
