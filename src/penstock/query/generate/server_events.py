"""Splits a stream of server-sent events into the data of each, as its bytes arrive.

Follows "Server-sent events" in the HTML standard (9.2.6, interpreting an event stream); names, ids and retry times are
left out, and an event that the end of the stream cuts off is yielded by `end`, as several servers omit the last line.
"""

from __future__ import annotations

import codecs
import re

_LINE_END = re.compile(r"\r\n|\n|\r")


class ServerEvents:
    """Splits one stream. A character, a line end or an event may be in several parts.

    Raises, while it reads:
        UnicodeDecodeError: the bytes are not UTF-8.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._line: list[str] = []  # of the line that has not ended; joined once, as it may come byte by byte
        self._data: list[str] = []
        self._after_return = False  # a line feed that follows belongs to the same line end
        self._begun = False

    def feed(self, part: bytes) -> list[str]:
        """Returns the data of the events that are complete by this part, in order."""
        return self._lines(self._decoder.decode(part))

    def end(self) -> list[str]:
        """Returns the data of the event that the end of the stream cuts off."""
        events = self._lines(self._decoder.decode(b"", final=True))
        for text in ("\n", "\n"):
            events += self._lines(text)
        return events

    def _lines(self, text: str) -> list[str]:
        if text and not self._begun:
            self._begun = True
            text = text.removeprefix("\ufeff")
        if text and self._after_return:
            text = text.removeprefix("\n")
            self._after_return = False
        self._after_return = self._after_return or text.endswith("\r")
        *ended, rest = _LINE_END.split(text)
        events: list[str] = []
        for line in ended:
            self._line.append(line)
            complete = "".join(self._line)
            self._line = []
            events += self._event(complete)
        if rest:
            self._line.append(rest)
        return events

    def _event(self, line: str) -> list[str]:
        """Returns the data of the event that this line ends, if it ends one."""
        if not line:
            event, self._data = self._data, []
            return ["\n".join(event)] if event else []
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
        return []
