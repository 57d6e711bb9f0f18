"""Photographs and recordings that packages of PyPI ship under free licences, for the demo.

They are read from the installed packages and are no part of Penstock. A package that is not installed, or ships other
bytes than those that were looked at, only makes the demo smaller.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from penstock.records import Modality

MEDIA_PATH = Path(__file__).with_name("packaged_media.toml")


@dataclass(frozen=True, slots=True)
class PackagedMedia:
    """A file of a package.

    Attributes:
        key: its identity in the demo.
        package: as `pip install` takes it.
        file: path in the folder of installed packages.
        sha256: of the file, in hexadecimal.
        mime: media type.
        licence, credit: of the file, as the package states them.
    """

    key: str
    package: str
    file: str
    sha256: str
    mime: str
    licence: str
    credit: str

    @property
    def modality(self) -> Modality:
        """Returns the modality, by the media type."""
        return Modality(self.mime.partition("/")[0])

    @property
    def title(self) -> str:
        """Returns a title for display, which does not name the subject: the file is to be found by its content."""
        return f"{PurePosixPath(self.file).name} of {self.package}"

    def path(self) -> Path | None:
        """Returns the file if it is installed and has the known bytes, else None."""
        try:
            path = Path(str(distribution(self.package).locate_file(PurePosixPath(self.file))))
        except PackageNotFoundError:
            return None
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != self.sha256:
            return None
        return path


@cache
def packaged_media() -> tuple[PackagedMedia, ...]:
    """Returns every file that the demo knows, installed or not."""
    rows = tomllib.loads(MEDIA_PATH.read_text(encoding="utf-8"))["media"]
    return tuple(PackagedMedia(**row) for row in rows)


@cache
def installed_media() -> tuple[tuple[PackagedMedia, Path], ...]:
    """Returns the files that are installed here, with their paths."""
    located = ((media, media.path()) for media in packaged_media())
    return tuple((media, path) for media, path in located if path is not None)
