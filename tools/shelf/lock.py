"""Reads a lock file of pip's format package by package."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One package of a lock file.

    Attributes:
        name, version: as pinned.
        requirement: its lines, with the hashes, as a requirements file of its own.
    """

    name: str
    version: str
    requirement: str


def read_lock(text: str) -> tuple[LockedPackage, ...]:
    """Splits a lock file into its packages. Comments are left out.

    Raises:
        ValueError: a requirement is not pinned, or has no hash.
    """
    joined = re.sub(r"\\\n\s*", "", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    return tuple(_package(line.strip()) for line in joined.splitlines() if line.strip())


def _package(line: str) -> LockedPackage:
    match = _PINNED.match(line)
    if match is None or "--hash=sha256:" not in line:
        raise ValueError(f"{line!r} does not pin one version by its hash")
    return LockedPackage(match[1], match[2], re.sub(r"\s*--hash", " --hash", line) + "\n")
