"""Owns the readers of timed media that stay open between two segments, and their temporary files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from penstock.errors import UnavailableError
from penstock.media.av.reader import AVReader
from penstock.media.av.sound import SoundOptions
from penstock.media.av.vad import VadOptions
from penstock.media.av.video import ShotOptions
from penstock.records import ClaimCheck, Event, FetchedMedia, MediaPosition, Modality

_MAX_IN_MEMORY_BYTES = 1024 * 1024  # larger media are kept in a file while they are open


@dataclass(slots=True)
class OpenMedia:
    """Media of one event, opened to be read.

    Attributes:
        name: of the event's media; see `_name`.
        reader: reads them.
        file: their temporary file; None if they are in memory.
        mime, uri, sha256: as in `FetchedMedia`.
    """

    name: str
    reader: AVReader
    file: Path | None
    mime: str
    uri: str
    sha256: str

    def indexed_event(self, event: Event) -> Event:
        """Returns the event as it is indexed: without its bytes, and with a title if its file has one."""
        own = event if event.title else replace(event, title=self.reader.title, has_media_title=True)
        return replace(own, payload=ClaimCheck(self.uri))

    def close(self) -> None:
        """Closes the reader and removes the temporary file."""
        self.reader.close()
        if self.file is not None:
            with suppress(OSError):  # the folder is removed with the process
                self.file.unlink()


class OpenReaders:
    """Opens media, and keeps those that are not finished open for their next segments. Not thread-safe.

    Args:
        vad: which audio counts as speech.
        shots: where shots begin and end.
        folder: for temporary files. They are removed with the process, or by the next process if it was killed. None:
            the system's.
        sound: how audio is cut for an audio encoder; None: it is not.
    """

    def __init__(
        self, vad: VadOptions, shots: ShotOptions, folder: Path | None = None, sound: SoundOptions | None = None
    ) -> None:
        self._vad = vad
        self._sound = sound
        self._shots = shots
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(folder)
        self._folder = tempfile.TemporaryDirectory(prefix=f"{os.getpid()}-", dir=folder, ignore_cleanup_errors=True)
        self._kept: dict[str, OpenMedia] = {}  # by name, the least recently used first

    def take(self, event: Event, position: MediaPosition) -> OpenMedia | None:
        """Returns the event's media if they are still open at this position. Media open at another one are closed."""
        media = self._kept.pop(_name(event), None)
        if media is not None and media.reader.position != position:
            media.close()
            return None
        return media

    def open(self, fetched: FetchedMedia, position: MediaPosition) -> OpenMedia:
        """Opens fetched media at a position.

        Raises:
            BadInputError: as `AVReader` does.
            UnavailableError: the media cannot be written to their temporary file.
        """
        name = _name(fetched.event)
        shots = self._shots if fetched.event.modality is Modality.VIDEO else None
        file = None
        try:
            if len(fetched.data) > _MAX_IN_MEMORY_BYTES:
                file = Path(self._folder.name) / f"{name}.media"
                _write(file, fetched.data)
            reader = AVReader(file or fetched.data, self._vad, shots, position=position, sound=self._sound)
        except BaseException:
            if file is not None:
                file.unlink(missing_ok=True)
            raise
        return OpenMedia(name, reader, file, fetched.mime, fetched.uri, fetched.sha256)

    @contextmanager
    def borrow(self, media: OpenMedia) -> Iterator[AVReader]:
        """Lends the reader to the block. Keeps the media open after it, unless they have ended or the block failed."""
        try:
            yield media.reader
        except BaseException:
            media.close()
            raise
        if media.reader.ended:
            media.close()
        else:
            self._kept[media.name] = media

    def close_all_but(self, max_open: int) -> None:
        """Closes the least recently used media, until at most `max_open` are open."""
        while len(self._kept) > max_open:
            self._kept.pop(next(iter(self._kept))).close()

    def close(self) -> None:
        """Closes all media and removes their temporary files."""
        self.close_all_but(0)
        self._folder.cleanup()


def _name(event: Event) -> str:
    """Names the media of one version of an asset, for lookup and for their temporary file."""
    return f"{event.asset.id}-{event.version.partition}-{event.version.offset}"


def _write(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
    except OSError as exc:
        raise UnavailableError(f"{len(data):,} bytes of media cannot be written to {file}: {exc}") from exc


def _remove_leftovers(folder: Path) -> None:
    """Removes the folders of processes of this machine that were killed."""
    for leftover in folder.iterdir():
        owner = leftover.name.partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(leftover, ignore_errors=True)
