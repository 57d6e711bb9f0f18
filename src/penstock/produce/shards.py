"""Reads WebDataset: shards of tar whose consecutive files of one name are a sample (webdataset/webdataset, README).

000012.jpg   the media of the sample, with the key `<shard>/000012`; of several media each has its ending, too
000012.txt   its caption, which becomes the title; a sample of a text alone is that text
000012.json  its fields, of which only those are read that the options name as columns or attributes
000012.npy   its vector, where the options name its encoder
"""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

from penstock.broker.base import Message
from penstock.broker.given_vectors import MAX_DIM
from penstock.config import MIB, Settings
from penstock.errors import UnavailableError, UsageError
from penstock.produce.base import item_of
from penstock.produce.compose import MessageComposer
from penstock.produce.file_systems import FileSystem
from penstock.produce.items import Cursor, ProduceItem, ProduceOptions, RefusedSource, SourceMark
from penstock.produce.rows import ROW_FIELDS, message_of_row

_CAPTIONS = frozenset({"txt", "text", "caption"})
_IGNORED = frozenset({"cls", "cls2", "id", "index", "__key__"})
_TITLE_CHARS = 1_000
_MAX_SIDE_BYTES = 1024 * 1024  # of a caption, JSON or vector
# Consecutive files of one name are in memory together, and a shard may have nothing but these.
_MAX_FILES = 100
_MAX_BYTES = 256 * MIB


@dataclass(slots=True)
class _Sample:
    """The files of a sample by their endings.

    Attributes:
        name: of the sample.
        files: their bytes; None: a file is too large to be sent.
        size_bytes: of all of them.
        is_too_large: it has more files or bytes than a sample may have, and none of them is kept.
    """

    name: str
    files: dict[str, bytes | None] = field(default_factory=dict)
    size_bytes: int = 0
    is_too_large: bool = False

    def take(self, ending: str, data: bytes | None) -> None:
        """Takes a file."""
        self.files[ending] = data
        self.size_bytes += len(data or b"")
        if len(self.files) > _MAX_FILES or self.size_bytes > _MAX_BYTES:
            self.is_too_large = True
            self.files.clear()


class ShardSource:
    """The samples of shards, of one or of a pattern. The cursor is a shard and the samples of it that are done.

    Args:
        url: of a shard, or a pattern of several.
        settings: topics, tenants and limits.
        options: what applies to all items.
    """

    unit = "bytes"

    def __init__(self, url: str, settings: Settings, options: ProduceOptions) -> None:
        self.name = url
        self._files = FileSystem(url, settings)
        self._options = options
        self._composer = MessageComposer(settings, options)

    def items(self, after: Cursor | None) -> Iterator[ProduceItem]:
        """See `MediaSource.items`."""
        before = 0
        for shard in self._files.files_of(self._files.path):
            if after is None or shard.path >= after["path"]:
                skip = int(after["sample"]) if after is not None and shard.path == after["path"] else 0
                yield from self._samples(shard.path, skip, before)
            before += shard.size

    def total(self) -> int | None:
        """See `MediaSource.total`."""
        return sum(stored.size for stored in self._files.files_of(self._files.path))

    def _samples(self, path: str, skip: int, before: int) -> Iterator[ProduceItem]:
        with self._files.open(path) as file:
            try:
                for number, sample in enumerate(self._read(file), start=1):
                    if number <= skip:
                        continue
                    mark = SourceMark(self.name, {"path": path, "sample": number}, before + file.tell())
                    yield from self._items_of(sample, path, mark)
            except tarfile.TarError as exc:
                yield RefusedSource(self._files.url_of(path), f"cannot be read as a shard, nor its rest: {exc}")
            except OSError as exc:
                raise UnavailableError(f"could not read {self._files.url_of(path)}: {exc}") from exc

    def _read(self, file: Any) -> Iterator[_Sample]:
        with tarfile.open(fileobj=file, mode="r|*") as tar:
            members = ((_named(member.name), member) for member in tar if member.isfile())
            for name, group in groupby(members, key=lambda item: item[0][0]):
                sample = _Sample(name)
                for (_, ending), member in group:
                    tar.members.clear()  # type: ignore[attr-defined]  # which has all those before, too
                    if not sample.is_too_large:
                        limit = _MAX_SIDE_BYTES if _is_side(ending) else self._composer.inline_limit
                        reader = tar.extractfile(member) if member.size <= limit else None
                        sample.take(ending, None if reader is None else reader.read())
                if name and not PurePosixPath(name).name.startswith("."):
                    yield sample

    def _items_of(self, sample: _Sample, path: str, mark: SourceMark) -> Iterator[ProduceItem]:
        """Yields the items of a sample, of which the last one has the mark."""
        key = f"{PurePosixPath(path).name.split('.')[0]}/{sample.name}"
        label = f"{self._files.url_of(path)}:{sample.name}"
        if sample.is_too_large:
            reason = f"has more than {_MAX_FILES} files or {_MAX_BYTES:,} bytes in one sample"
            yield RefusedSource(label, reason, mark)
            return
        media = [ending for ending in sample.files if not _is_side(ending)]
        if not media:
            media = [ending for ending in sample.files if ending in _CAPTIONS][:1]
        if not media:
            yield RefusedSource(label, f"has no media among its files: {', '.join(sample.files)}", mark)
        for ending in media:
            own_key = key if len(media) == 1 else f"{key}.{ending}"
            make = self._maker(sample, ending, own_key)
            yield item_of(f"{label}.{ending}", make, mark if ending == media[-1] else None)

    def _maker(self, sample: _Sample, ending: str, key: str) -> Callable[[], Message]:
        return partial(self._message, sample, ending, key)

    def _message(self, sample: _Sample, ending: str, key: str) -> Message:
        data = sample.files[ending]
        if data is None:
            raise UsageError(f"is too large for a message ({self._composer.inline_limit:,} bytes)")
        row, columns = dict(_fields(sample)), dict(self._options.columns)
        if unknown := sorted(columns.keys() - ROW_FIELDS):
            raise UsageError(f"there is no field {', '.join(unknown)}; there are {', '.join(sorted(ROW_FIELDS))}")
        for name, value in (("data", data), ("key", key), ("title", _caption(sample, ending))):
            if name not in columns and value is not None:
                columns[name] = f"\0{name}"  # no field of JSON has such a name by accident
                row[columns[name]] = value
        if self._options.vector_encoder is not None and (vector := _vector(sample)) is not None:
            columns["vector"] = "\0vector"
            row["\0vector"] = vector
        return message_of_row(row, columns, self._composer, default_key=key)


def _named(path: str) -> tuple[str, str]:
    """Returns the name of a sample and the ending of its file: all behind the first dot of the last part."""
    folder, slash, last = path.removeprefix("./").rpartition("/")
    name, _, ending = last.partition(".")
    return f"{folder}{slash}{name}", ending.lower()


def _is_side(ending: str) -> bool:
    return ending in _CAPTIONS | _IGNORED or ending.rpartition(".")[2] in ("json", "npy")


def _caption(sample: _Sample, media: str) -> str | None:
    for ending in _CAPTIONS - {media}:
        if (data := sample.files.get(ending)) is not None:
            return data.decode(errors="replace").strip()[:_TITLE_CHARS] or None
    return None


def _fields(sample: _Sample) -> Mapping[str, Any]:
    data = sample.files.get("json")
    if data is None:
        return {}
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"has JSON that cannot be read: {exc}") from exc
    return fields if isinstance(fields, dict) else {}


def _vector(sample: _Sample) -> list[float] | None:
    for ending, data in sample.files.items():
        if ending.rpartition(".")[2] == "npy" and data is not None:
            try:
                return _numbers_of(data)
            except (ValueError, OSError) as exc:
                raise UsageError(f"has a vector that is not one of NumPy: {exc}") from exc
    return None


def _numbers_of(data: bytes) -> list[float]:
    """Returns the numbers of a .npy file (numpy/lib/format, versions 1.0 and 2.0), whose header is checked first.

    Raises:
        ValueError: it is none, or is damaged.
        UsageError: it has what is no number, or too many of them; no memory is allocated for these.
    """
    from numpy.lib import format as npy

    file = io.BytesIO(data)
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"format version {version[0]}.{version[1]}")
    shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    if dtype.kind not in "fiub" or not 0 < math.prod(shape) <= MAX_DIM:
        raise UsageError(f"has a vector of shape {shape} and type {dtype}, which is not 1 to {MAX_DIM:,} numbers")
    file.seek(0)
    numbers: list[float] = npy.read_array(file, allow_pickle=False).ravel().astype(float).tolist()
    return numbers
