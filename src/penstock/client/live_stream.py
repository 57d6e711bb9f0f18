"""Follows the changes of the index over broken connections. Both clients use it; it sends nothing itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias, cast

from penstock.client.attempts import PlaneCall
from penstock.client.calls import Calls
from penstock.client.event_reader import EventReader
from penstock.client.results import FeedJson, IndexedJson, MissedJson

# As the field `retry` of the stream has it for browsers.
_PAUSE_S = 1.0
_MAX_PAUSE_S = 30.0


class LiveIndexed(NamedTuple):
    """An asset whose entries changed."""

    data: IndexedJson
    name: Literal["indexed"] = "indexed"


class LiveMissed(NamedTuple):
    """Changes that this client did not get."""

    data: MissedJson
    name: Literal["missed"] = "missed"


class LiveFeedState(NamedTuple):
    """Whether changes are received now."""

    data: FeedJson
    name: Literal["feed"] = "feed"


LiveEventJson: TypeAlias = LiveIndexed | LiveMissed | LiveFeedState


class LiveStream:
    """The state of a live stream: the id of its last event, and the request for those behind it.

    Args:
        calls: of the client.
        backlog: earlier changes that it begins with.
    """

    def __init__(self, calls: Calls, backlog: int) -> None:
        self._calls = calls
        self._backlog = backlog
        self._reader = EventReader()
        self._pause_s = _PAUSE_S

    def next_call(self) -> PlaneCall:
        """Returns the request for the events, or for those behind the last one."""
        self._reader = EventReader(self._reader.last_id)
        return self._calls.live(self._backlog, self._reader.last_id)

    def pause_s(self) -> float:
        """Returns the seconds to wait after a response has ended: twice as many after each one without an event."""
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, _MAX_PAUSE_S)
        return pause_s

    def feed(self, piece: bytes) -> Iterator[LiveEventJson]:
        """Yields the events that are complete with this piece."""
        for event in self._reader.feed(piece):
            self._pause_s = _PAUSE_S
            data: object = json.loads(event.data)
            if event.name == "indexed":
                yield LiveIndexed(cast(IndexedJson, data))
            elif event.name == "missed":
                yield LiveMissed(cast(MissedJson, data))
            elif event.name == "feed":
                yield LiveFeedState(cast(FeedJson, data))
