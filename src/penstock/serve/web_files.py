"""Reads the files of the page once, compresses them, and names them by the hash of all of them."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).with_name("web")
INDEX: Final = "index.html"

_MEDIA_TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_VERSION_MARK: Final = b"{{version}}"


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file of the page.

    Attributes:
        content: its bytes.
        compressed: the same by gzip.
        media_type: of the content.
        etag: of the content, quoted as HTTP writes it.
    """

    content: bytes
    compressed: bytes
    media_type: str
    etag: str


@dataclass(frozen=True, slots=True)
class WebFiles:
    """All files of the page.

    Attributes:
        version: hash of all contents; the folder in whose name browsers cache the files.
        files: by name.
    """

    version: str
    files: Mapping[str, WebFile]


@cache
def web_files() -> WebFiles:
    """Returns the files of the page, with the version in the addresses of its index."""
    contents = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in _MEDIA_TYPES}
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(b"%b\0%d\0%b" % (name.encode(), len(content), content))
    version = digest.hexdigest()[:16]
    contents[INDEX] = contents[INDEX].replace(_VERSION_MARK, version.encode())
    return WebFiles(version, {name: _web_file(name, content) for name, content in contents.items()})


def _web_file(name: str, content: bytes) -> WebFile:
    return WebFile(
        content=content,
        compressed=gzip.compress(content, mtime=0),
        media_type=_MEDIA_TYPES[Path(name).suffix],
        etag=f'"{hashlib.sha256(content).hexdigest()[:32]}"',
    )
