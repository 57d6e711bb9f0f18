"""Follows the bytes of media over broken connections and short ranges. Both clients use it; it sends nothing itself."""

from __future__ import annotations

import re
from typing import NoReturn

import httpx

from penstock.client.attempts import PlaneCall
from penstock.client.calls import Calls
from penstock.errors import PenstockError, UsageError

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


class FollowedMedia:
    """The state of media that are being read: how far they are, and the request for the rest.

    Args:
        calls: of the client.
        media: their hash or path.
        start, end: the first byte, and the one behind the last; None: all to the end.

    Attributes:
        finished: whether all bytes are there.

    Raises:
        UsageError: the bytes begin before the first one, or the media are named otherwise.
    """

    def __init__(self, calls: Calls, media: str, start: int, end: int | None) -> None:
        if start < 0:
            raise UsageError(f"media begin at byte 0, not at {start}")
        self._calls = calls
        self._media = media
        self._at = self._began_at = start
        self._end = end
        self._skip = 0
        self._is_whole = False
        self.finished = end is not None and end <= start
        calls.media(media, start, end)  # refuses a name that is none

    def next_call(self) -> PlaneCall:
        """Returns the request for what is missing."""
        return self._calls.media(self._media, self._at, self._end)

    def begin(self, response: httpx.Response) -> None:
        """Takes the head of a response: 206, or 200 from a server that ignores ranges.

        Raises:
            PenstockError: it has other bytes than those that are missing.
        """
        self._began_at = self._at
        self._is_whole = response.status_code != 206
        if self._is_whole:
            self._skip = self._at
            size = response.headers.get("content-length", "") if "content-encoding" not in response.headers else ""
            self._ends_by(size)
            return
        header = response.headers.get("content-range", "")
        match = _CONTENT_RANGE.fullmatch(header)
        if match is None or not int(match[1]) <= self._at <= int(match[2]):
            self._refuse(response, f"with the range {header!r}")
        self._skip = self._at - int(match[1])
        self._ends_by(match[3])

    def feed(self, piece: bytes) -> bytes:
        """Returns what is new of a piece."""
        new = piece[self._skip :]
        self._skip -= len(piece) - len(new)
        if self._end is not None:
            new = new[: self._end - self._at]
        self._at += len(new)
        self.finished = self._at == self._end
        return new

    @property
    def has_enough(self) -> bool:
        """Whether the rest of the response is of no use, as a server that ignores ranges sends it."""
        return self.finished and self._is_whole

    def complete(self) -> None:
        """Notes that a response ended as it should. The next request is for what a short range left out.

        Raises:
            PenstockError: it had nothing new, as each further one may.
        """
        if self._is_whole:
            self.finished = True
        elif self._at == self._began_at:
            raise PenstockError(f"the query plane sent none of the bytes from {self._at} on of {self._media}")

    def is_empty(self, error: PenstockError) -> bool:
        """Returns whether an error says that the media have no bytes at all, so that no range of them exists."""
        return self._at == 0 and getattr(error, "status", None) == 416

    def _ends_by(self, size: str) -> None:
        if size.isascii() and size.isdigit():
            self._end = int(size) if self._end is None else min(self._end, int(size))
            self.finished = self._at >= self._end

    def _refuse(self, response: httpx.Response, how: str) -> NoReturn:
        raise PenstockError(f"{response.request.url} responded {how} to a request for the bytes from {self._at} on")
