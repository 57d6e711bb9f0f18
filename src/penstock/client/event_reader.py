"""Reads server-sent events (WHATWG HTML, section 9.2) from the pieces of a response."""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

_LINE_END = re.compile(r"\r\n|\n|\r(?!$)")  # a piece may end between \r and \n


class ReceivedEvent(NamedTuple):
    """An event as it was received. `id` is that of the last one which has any."""

    name: str
    data: str
    id: str


class EventReader:
    """Joins pieces to lines and lines to events. Not `str.splitlines`: JSON may hold line separators of Unicode.

    Args:
        last_id: of the stream that this one continues.

    Attributes:
        last_id: of the last complete event that has one.
    """

    def __init__(self, last_id: str = "") -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._name = ""
        self._data: list[str] = []
        self._id = last_id
        self.last_id = last_id

    def feed(self, piece: bytes) -> list[ReceivedEvent]:
        """Returns the events that are complete with this piece. Comments are left out."""
        *lines, self._rest = _LINE_END.split(self._rest + self._decoder.decode(piece))
        return [event for line in lines if (event := self._read(line)) is not None]

    def _read(self, line: str) -> ReceivedEvent | None:
        if not line:
            return self._complete()
        name, _, value = line.removeprefix("\ufeff").partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        return None

    def _complete(self) -> ReceivedEvent | None:
        self.last_id = self._id
        event = ReceivedEvent(self._name or "message", "\n".join(self._data), self.last_id) if self._data else None
        self._name, self._data = "", []
        return event
