"""Reads files, folders and JSONL for `penstock produce`, and turns each item into a message or a refusal.

Only one file is in memory at a time. The same folder gives the same keys each time, so unchanged files change nothing.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, AnyStr, TextIO

from penstock.broker.base import Message
from penstock.broker.wire import encode_event
from penstock.config import Settings
from penstock.errors import BadInputError, UsageError
from penstock.media.sniff import sniff
from penstock.media.types.base import Sniffed
from penstock.produce.base import reason_of
from penstock.produce.compose import SOURCE, MessageComposer, check_fields
from penstock.produce.file_systems import order_of
from penstock.produce.items import (
    Cursor,
    JsonObject,
    OutgoingMessage,
    ProduceItem,
    ProduceOptions,
    RefusedSource,
    SourceMark,
)
from penstock.produce.lines import bounded_lines, fields_of_line
from penstock.records import ClaimCheck, Inline

STDIN = "-"
_JSONL = frozenset({".jsonl", ".ndjson"})


def read_all(
    paths: Iterable[str], settings: Settings, options: ProduceOptions, stdin: TextIO | None = None
) -> Iterator[ProduceItem]:
    """Yields the items that the paths name, in order; folders are sorted, hidden files and folders left out.

    A file's key is its path below the given folder, that folder's name first (`photos/2026/a.jpg`). A file that is
    given directly has the name of its folder and its own.

    Raises:
        UsageError: a path does not exist, or two folders have one name (their keys would mix). Nothing was read then.
    """
    checked = list(paths)
    check_paths(checked)
    for path in checked:
        yield from LocalSource(path, settings, options, stdin).items(None)


class LocalSource:
    """A file, a folder or JSONL on this machine, as a source of `penstock.produce`.

    The cursor has the path of the last file, or the number of the last line. Stdin has none: it cannot be read again.

    Args:
        path: of the command line.
        settings: topics, tenants and limits.
        options: what applies to all items.
        stdin: what `-` stands for.
    """

    def __init__(self, path: str, settings: Settings, options: ProduceOptions, stdin: TextIO | None = None) -> None:
        self.name = path
        self.unit = "lines" if is_jsonl(path) else "files"
        self._key = options.key
        self._stdin = stdin
        self._reader = _Reader(settings, options)

    def items(self, after: Cursor | None) -> Iterator[ProduceItem]:
        """See `MediaSource.items`."""
        done = 0 if after is None else int(after["done"])
        if self.name == STDIN:
            yield from self._reader.jsonl(self._stdin or sys.stdin, "stdin", Path.cwd(), 0)
        elif is_jsonl(self.name):
            for item in self._reader.jsonl_file(Path(self.name), done):
                yield item if item.mark is None else replace(item, mark=replace(item.mark, source=self.name))
        elif Path(self.name).is_dir():
            files = self._reader.folder(Path(self.name), None if after is None else after["path"])
            for number, item in enumerate(files, start=done + 1):
                yield replace(item, mark=SourceMark(self.name, {"path": item.label, "done": number}, number))
        elif after is None:
            file = Path(self.name).absolute()
            item = self._reader.file(file, self._key or _named(file))
            yield replace(item, mark=SourceMark(self.name, {"done": 1}, 1))

    def total(self) -> int | None:
        """See `MediaSource.total`."""
        if self.unit == "lines":
            return None
        return sum(1 for _ in _files_below(Path(self.name))) if Path(self.name).is_dir() else 1


def _files_below(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder) / name for name in names if not name.startswith("."))


def _named(file: Path) -> str:
    """Returns the name of a file with that of its folder."""
    return f"{file.parent.name}/{file.name}".lstrip("/")


def is_jsonl(path: str) -> bool:
    """Returns whether a path of the command line is read line by line: `-`, or a file named .jsonl or .ndjson."""
    return path == STDIN or (Path(path).suffix.lower() in _JSONL and not Path(path).is_dir())


def tombstone(key: str, topic: str, tenant: str | None) -> OutgoingMessage:
    """Returns the message that deletes an asset of a topic."""
    message = encode_event(topic=topic, key=key, payload=None, source=SOURCE, tenant=tenant)
    return OutgoingMessage(f"deletion of {key}", message)


def check_paths(paths: Iterable[str]) -> None:
    """Raises UsageError if one of the paths of this machine does not exist, or two folders have one name."""
    roots: dict[str, Path] = {}
    for path in (Path(path) for path in paths if path != STDIN):
        if not path.exists():
            raise UsageError(f"there is no file or folder {path}; nothing was sent")
        if path.is_dir():
            name = path.resolve().name
            other = roots.setdefault(name, path.resolve())
            if other != path.resolve():
                raise UsageError(
                    f"{other} and {path.resolve()} are both named {name!r}, so their keys would mix; give the folder "
                    "above them instead"
                )


def _read(file: Path, max_bytes: int) -> bytes:
    with file.open("rb") as source:
        return source.read(max_bytes)


def _sniff_in_place(file: Path) -> Sniffed:
    """Detects the type of a file of any size as ingest will, which has all of it, also a list of tracks at its end."""
    with file.open("rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return sniff(data, declared=None)


class _Reader:
    """Turns files and lines into messages or refusals."""

    def __init__(self, settings: Settings, options: ProduceOptions) -> None:
        self._settings = settings
        self._options = options
        self._composer = MessageComposer(settings, options)

    # --- folders and files -------------------------------------------------------------------------------------------

    def folder(self, root: Path, after: str | None = None) -> Iterator[ProduceItem]:
        """Yields the files of a folder that come after one of them: files first, then folders, each by name."""
        unreadable: list[RefusedSource] = []

        def on_error(error: OSError) -> None:
            unreadable.append(RefusedSource(str(error.filename), f"cannot be read: {error.strerror}"))

        base = root.absolute()
        prefix = root.resolve().name
        known = None if after is None else order_of(after, str(base))
        for folder, folders, names in os.walk(base, onerror=on_error):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                is_due = known is None or order_of(str(Path(folder) / name), str(base)) > known
                if not name.startswith(".") and is_due:
                    file = Path(folder) / name
                    key = f"{prefix}/{file.relative_to(base).as_posix()}".lstrip("/")
                    yield self.file(file, key, path=key)
            yield from unreadable
            unreadable.clear()
        yield from unreadable

    def file(self, file: Path, key: str, *, path: str | None = None) -> ProduceItem:
        label = str(file)
        try:
            return OutgoingMessage(label, self._file_message(file, key, path=path))
        except OSError as exc:
            return RefusedSource(label, f"cannot be read: {exc.strerror or exc}")
        except (BadInputError, UsageError) as exc:
            return RefusedSource(label, str(exc))

    def _file_message(
        self,
        file: Path,
        key: str,
        *,
        path: str | None = None,
        described: JsonObject | None = None,
        topic: str | None = None,
    ) -> Message:
        """Returns the message of a file. The fields in `described` (title, attributes…) win over the file's own.

        The attribute `path` is relative: readers are not shown the folders of the producer's machine.
        """
        if not file.is_file():  # a pipe would block, a device never ends
            raise UsageError("is not a regular file")
        stat = file.stat()
        by_address = self._options.claim_check or stat.st_size > self._composer.inline_limit
        if by_address:
            self._check_claim(file, stat.st_size, self._composer.tenant_of(described))
        if stat.st_size == 0:
            raise UsageError("is empty")
        data = b"" if by_address else _read(file, self._composer.inline_limit + 1)
        sniffed = _sniff_in_place(file) if by_address else sniff(data, declared=None)
        fields = {"title": file.name, "time_ms": round(stat.st_mtime * 1000), **(described or {})}
        fields["attributes"] = {"path": path or _named(file), **self._composer.attributes_of(described)}
        own = {
            "topic": topic or self._composer.topic_of_type(sniffed, self._composer.tenant_of(described)),
            "key": key,
            "payload": ClaimCheck(file.resolve().as_uri()) if by_address else Inline(data),
            "content_type": sniffed.mime,
        }
        return self._composer.message({**fields, **own})

    def _check_claim(self, file: Path, size: int, tenant: str) -> None:
        if size > self._settings.fetch.max_bytes:
            raise UsageError(
                f"has {size:,} bytes, more than fetch.max_bytes allows ({self._settings.fetch.max_bytes:,})"
            )
        folders = self._settings.fetch.folders_of(tenant)
        if not any(file.resolve().is_relative_to(folder.resolve()) for folder in folders):
            cause = "" if self._options.claim_check else f"has {size:,} bytes, too many for a message, and "
            raise UsageError(
                f"{cause}lies outside the folders from which files of {tenant} may be fetched; add a rule to "
                f'fetch.allow, also for the ingest plane: {{tenants = ["{tenant}"], scheme = "file", '
                f'prefix = "{file.resolve().parent}"}}'
            )

    # --- JSONL -------------------------------------------------------------------------------------------------------

    def jsonl_file(self, file: Path, done: int = 0) -> Iterator[ProduceItem]:
        try:
            with file.open("rb") as lines:
                yield from self.jsonl(lines, str(file), file.absolute().parent, done)
        except OSError as exc:
            yield RefusedSource(str(file), f"cannot be read: {exc.strerror}")

    def jsonl(self, lines: IO[AnyStr], name: str, folder: Path, done: int) -> Iterator[ProduceItem]:
        for number, (line, _) in enumerate(bounded_lines(lines), start=1):
            if number > done and (line is None or line.strip()):
                mark = None if name == "stdin" else SourceMark(name, {"done": number}, number)
                yield replace(self._line(line, f"{name}:{number}", folder), mark=mark)

    def _line(self, line: str | bytes | None, label: str, folder: Path) -> ProduceItem:
        """Returns the message of a line, or why it is refused: whatever is wrong with it, the others are sent."""
        try:
            return OutgoingMessage(label, self._line_message(fields_of_line(line), folder))
        except OSError as exc:
            return RefusedSource(label, f"names a file that cannot be read: {exc.strerror or exc}")
        except Exception as exc:  # JSON has values of any type and size
            return RefusedSource(label, reason_of(exc))

    def _line_message(self, fields: JsonObject, folder: Path) -> Message:
        composer = self._composer
        check_fields(fields)
        described, topic = composer.described(fields), composer.topic_of_fields(fields)
        if "path" in fields:
            key = fields.get("key") or fields["path"]
            path = None if Path(fields["path"]).is_absolute() else fields["path"]
            return self._file_message(folder / fields["path"], key, path=path, described=described, topic=topic)
        described = {**described, "attributes": composer.attributes_of(described)}
        if "uri" in fields:
            key = fields.get("key") or fields["uri"]
            return composer.of_address(fields["uri"], key=key, fields=described, topic=topic)
        return composer.of_text(fields["text"], key=fields.get("key"), fields=described, topic=topic)
