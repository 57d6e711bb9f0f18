"""Reads JSONL at any URL: one event for each line, in bounded memory."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import partial
from typing import IO, Any, AnyStr

from penstock.broker.base import Message
from penstock.config import MIB, Settings
from penstock.errors import UsageError
from penstock.produce.base import item_of
from penstock.produce.compose import MessageComposer
from penstock.produce.file_systems import FileSystem
from penstock.produce.items import Cursor, JsonObject, ProduceItem, ProduceOptions, SourceMark
from penstock.produce.rows import message_of_fields

MAX_LINE = 64 * MIB
"""The most bytes or characters of a line: far more than fit a message, as vectors and unread columns may."""


class JsonLinesSource:
    """The lines of a JSONL file. The cursor is the number of lines that are done.

    Args:
        url: of the file.
        settings: topics, tenants and limits.
        options: what applies to all items.
    """

    unit = "bytes"

    def __init__(self, url: str, settings: Settings, options: ProduceOptions) -> None:
        self.name = url
        self._files = FileSystem(url, settings)
        self._composer = MessageComposer(settings, options)

    def items(self, after: Cursor | None) -> Iterator[ProduceItem]:
        """See `MediaSource.items`."""
        skip, read = (0, 0) if after is None else (int(after["line"]), 0)
        with self._files.open(self._files.only_file(self._files.path).path) as opened:
            raw: Any = opened
            file = io.BufferedReader(raw)  # as the `readline` of remote files takes no limit
            for number, (line, length) in enumerate(bounded_lines(file), start=1):
                read += length
                if number <= skip or (line is not None and not line.strip()):
                    continue
                mark = SourceMark(self.name, {"line": number}, read)
                yield item_of(f"{self.name}:{number}", partial(self._message, line, number), mark)

    def total(self) -> int | None:
        """See `MediaSource.total`."""
        return self._files.only_file(self._files.path).size

    def _message(self, line: bytes | None, number: int) -> Message:
        fields = fields_of_line(line)
        if "path" in fields:
            raise UsageError("has a path, which only JSONL on this machine may have: use uri")
        return message_of_fields(fields, self._composer, default_key=f"{self.name}:{number}")


def bounded_lines(file: IO[AnyStr]) -> Iterator[tuple[AnyStr | None, int]]:
    """Yields the lines of a file with their lengths; None for one longer than `MAX_LINE`, which is read past."""
    limit = MAX_LINE + 1  # with its end
    while line := file.readline(limit):
        length, rest = len(line), line
        while len(rest) == limit and not _ends(rest):
            rest = file.readline(limit)
            length += len(rest)
        yield (line if length == len(line) else None), length


def _ends(line: str | bytes) -> bool:
    return line.endswith("\n") if isinstance(line, str) else line.endswith(b"\n")


def fields_of_line(line: str | bytes | None) -> JsonObject:
    """Returns the fields of a line; one that is null is absent.

    The mark that Windows' editors put first is skipped. None stands for a line that is too long (`bounded_lines`).

    Raises:
        UsageError: it is too long, or no JSON object in UTF-8.
    """
    if line is None:
        raise UsageError(f"is longer than {MAX_LINE:,} bytes")
    try:
        text = line.decode("utf-8") if isinstance(line, bytes) else line
        fields = json.loads(text.removeprefix("\ufeff"))
    except UnicodeDecodeError as exc:
        raise UsageError(f"is not UTF-8: {exc.reason} at byte {exc.start:,}") from exc
    except json.JSONDecodeError as exc:
        raise UsageError(f"is not JSON: {exc}") from exc
    except ValueError as exc:  # a number of thousands of digits
        raise UsageError(f"has a number that is too long: {exc}") from exc
    except RecursionError as exc:
        raise UsageError("is nested too deeply") from exc
    if not isinstance(fields, dict):
        raise UsageError("is not a JSON object")
    for name, value in fields.items():
        try:
            json.dumps([name, value], ensure_ascii=False).encode()
        except UnicodeEncodeError as exc:
            raise UsageError(f"has half of a surrogate pair in {name!a}: its text was cut within a character") from exc
    return {name: value for name, value in fields.items() if value is not None}
