"""Reads the objects of a bucket, or the files below any URL of fsspec: one event each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import takewhile
from pathlib import PurePosixPath

from penstock.broker.base import Message
from penstock.config import Settings
from penstock.errors import UsageError
from penstock.media.sniff import sniff
from penstock.media.types.base import Sniffed
from penstock.produce.base import item_of
from penstock.produce.compose import MessageComposer
from penstock.produce.file_systems import FileSystem, StoredObject
from penstock.produce.items import Cursor, ProduceItem, ProduceOptions, SourceMark
from penstock.produce.prefetch import read_ahead

# Enough to detect a type, but of a container whose list of tracks stands at its end.
_HEAD_BYTES = _BLOCK_BYTES = 65_536
_ARCHIVE = b"PK\3\4"  # what Office documents and EPUB are, too
_MAX_BLOCKS = 16  # that are read of an archive: 1 MiB, of which the directory of 10,000 files needs 800 kB


class ObjectSource:
    """The objects below a URL, or one object. The cursor is the path of the last one.

    An object's key is its path below the given folder, that folder's name first, as a file's is.

    Args:
        url: such as `s3://bucket/photos`.
        settings: topics, tenants and limits.
        options: what applies to all items.
    """

    unit = "files"

    def __init__(self, url: str, settings: Settings, options: ProduceOptions) -> None:
        self.name = url
        self._files = FileSystem(url, settings)
        self._root = self._files.path.rstrip("/")
        self._settings = settings
        self._options = options
        self._composer = MessageComposer(settings, options)

    @property
    def folder(self) -> str:
        """The name that the keys of all objects begin with."""
        return PurePosixPath(self._root).name

    def items(self, after: Cursor | None) -> Iterator[ProduceItem]:
        """See `MediaSource.items`."""
        done = 0 if after is None else int(after["done"])
        path: str | None = None if after is None else after["path"]
        numbered = enumerate(self._objects(path), start=done + 1)
        yield from read_ahead(numbered, self._item, size_of=lambda item: min(item[1].size, self._composer.inline_limit))

    def total(self) -> int | None:
        """See `MediaSource.total`."""
        return sum(1 for _ in self._objects(None))

    def _objects(self, after: str | None) -> Iterable[StoredObject]:
        if self._files.is_file(self._files.path):
            return self._files.files_of(self._files.path) if after is None else ()
        return self._files.walk(self._root, after)

    def _item(self, numbered: tuple[int, StoredObject]) -> ProduceItem:
        number, stored = numbered
        mark = SourceMark(self.name, {"path": stored.path, "done": number}, number)
        return item_of(self._files.url_of(stored.path), lambda: self._message(stored), mark)

    def _message(self, stored: StoredObject) -> Message:
        if stored.size == 0:
            raise UsageError("is empty")
        key = self._key(stored.path)
        attributes = {"path": key, **self._composer.attributes_of(None)}
        fields: dict[str, object] = {"title": stored.name, "attributes": attributes}
        if stored.modified_ms is not None:
            fields["time_ms"] = stored.modified_ms
        if self._options.claim_check or stored.size > self._composer.inline_limit:
            return self._claim_check(stored, key, fields)
        topic = self._options.topic
        return self._composer.of_bytes(self._files.read(stored.path), key=key, fields=fields, topic=topic)

    def _claim_check(self, stored: StoredObject, key: str, fields: dict[str, object]) -> Message:
        """Returns the message with the address of an object. Without a topic, its first bytes say what it is."""
        if stored.size > self._settings.fetch.max_bytes:
            allowed = self._settings.fetch.max_bytes
            raise UsageError(f"has {stored.size:,} bytes, more than fetch.max_bytes allows ({allowed:,})")
        uri, tenant = self._files.url_of(stored.path), self._composer.tenant_of(None)
        self._composer.check_address(uri, tenant)
        if self._options.topic is not None:  # so that nothing is read: ingest detects the type in any case
            return self._composer.of_address(uri, key=key, fields=fields, topic=self._options.topic)
        sniffed = self._sniff(stored)
        topic = self._composer.topic_of_type(sniffed, tenant)
        return self._composer.of_address(uri, key=key, fields={**fields, "content_type": sniffed.mime}, topic=topic)

    def _sniff(self, stored: StoredObject) -> Sniffed:
        """Detects a type by the first bytes, and that of an archive by its directory where these do not suffice."""
        head = self._files.read(stored.path, end=min(stored.size, _HEAD_BYTES))
        sniffed = sniff(head, declared=None)
        if sniffed.modality is not None or len(head) == stored.size or not head.startswith(_ARCHIVE):
            return sniffed
        read = partial(self._files.read, stored.path)
        return sniff(_Blocks(stored.size, lambda start, end: read(start=start, end=end), head), declared=None)

    def _key(self, path: str) -> str:
        return f"{self.folder}{path[len(self._root) :]}" if path != self._root else self._name_of_file(path)

    def _name_of_file(self, path: str) -> str:
        parts = PurePosixPath(path).parts
        return "/".join(parts[-2:]).lstrip("/")


class _Blocks:
    """The bytes of an object, of which only those blocks are read that are looked at.

    Args:
        size: of the object, bytes.
        read: reads a range.
        head: the first block.
    """

    def __init__(self, size: int, read: Callable[[int, int], bytes], head: bytes) -> None:
        self._size = size
        self._read = read
        self._blocks = {0: head}

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, span: slice, /) -> bytes:
        start, end, _ = span.indices(self._size)
        if end <= start:
            return b""
        first, last = start // _BLOCK_BYTES, (end - 1) // _BLOCK_BYTES
        blocks = takewhile(bool, (self._block(number) for number in range(first, last + 1)))
        return b"".join(blocks)[start - first * _BLOCK_BYTES : end - first * _BLOCK_BYTES]

    def _block(self, number: int) -> bytes:
        """Returns a block; empty once as many were read as may be, as if the object ended there."""
        if number not in self._blocks and len(self._blocks) < _MAX_BLOCKS:
            begin = number * _BLOCK_BYTES
            self._blocks[number] = self._read(begin, min(begin + _BLOCK_BYTES, self._size))
        return self._blocks.get(number, b"")
