"""Follows a streamed answer over broken connections. Both clients use it; it sends nothing itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast
from urllib.parse import quote

from penstock.client.answers import (
    AnswerChecked,
    AnswerDone,
    AnswerEventJson,
    AnswerJson,
    AnswerStart,
    AnswerStartJson,
    AnswerToken,
    CheckedSentenceJson,
    TokenJson,
)
from penstock.client.attempts import PlaneCall
from penstock.client.event_reader import EventReader
from penstock.client.problems import error_of_problem


class FollowedAnswer:
    """The state of a streamed answer: its events so far, and the request for the rest.

    Args:
        call: the first request.
        tenant: of the question; None: the default one.

    Attributes:
        finished: whether the answer is complete.
    """

    def __init__(self, call: PlaneCall, tenant: str | None) -> None:
        self._call = call
        self._params = {} if tenant is None else {"tenant": tenant}
        self._reader = EventReader()
        self._answer_id = ""
        self._given_up = False
        self.finished = False

    def next_call(self) -> PlaneCall:
        """Returns the request for the answer, or for what is missing of it."""
        if not self._answer_id:
            return self._call
        last = self._reader.last_id
        self._reader = EventReader(last)  # an event that was cut is sent again
        headers = {"Last-Event-ID": last} if last else {}
        return replace(self._resume(), params=self._params, headers=headers)

    @property
    def begun(self) -> bool:
        """Whether the answer can be continued: its first event, which has its id, was received."""
        return bool(self._answer_id)

    def give_up(self) -> None:
        """Leaves an answer that cannot be read any more: it is not stopped, and can be read elsewhere."""
        self._given_up = True

    def cancel_call(self) -> PlaneCall | None:
        """Returns the request that stops the answer; None if it is complete, given up or was never begun."""
        if self.finished or self._given_up or not self._answer_id:
            return None
        return replace(self._resume(), method="DELETE", params=self._params)

    def feed(self, piece: bytes) -> Iterator[AnswerEventJson]:
        """Yields the events that are complete with this piece. Raises the error of the event `error`."""
        for event in self._reader.feed(piece):
            data: Any = json.loads(event.data)
            if event.name == "search":
                self._answer_id = str(data["answer_id"])
                yield AnswerStart(cast(AnswerStartJson, data))
            elif event.name == "token":
                yield AnswerToken(cast(TokenJson, data))
            elif event.name == "sentence":
                yield AnswerChecked(cast(CheckedSentenceJson, data))
            elif event.name == "done":
                self.finished = True
                yield AnswerDone(cast(AnswerJson, data))
            elif event.name == "error":
                self.finished = True
                raise error_of_problem(data)

    def _resume(self) -> PlaneCall:
        path = f"{self._call.path}/{quote(self._answer_id, safe='')}"
        return PlaneCall("GET", path, timeout_s=self._call.timeout_s)
