"""Keeps the logs of answers in an actor that all replicas of the query plane share.

A client that lost its connection reaches any replica, and Ray Serve has no way to one of them by name. The actor
belongs to no replica, so that it outlives each. If its node is lost it starts elsewhere, without the logs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

import ray
from ray import serve
from ray.actor import ActorHandle
from ray.exceptions import RayError

from penstock import __version__
from penstock.errors import UnavailableError
from penstock.serve.answer_logs import AnswerLogs, AnswerOwner, LogPage, MemoryAnswerLogs
from penstock.serve.event_stream import ServerEvent

_NAMESPACE = "penstock"
# Replicas of two versions, as in a rolling update, have an actor each: what they send may differ.
_NAME = f"penstock-answer-logs-{__version__}"
_MAX_CALLS = 10_000  # readers that wait, and replicas that append
# The first call waits until the actor's process has started.
_TIMEOUT_S = 20.0

_T = TypeVar("_T")


def replica_answer_logs() -> AnswerLogs:
    """Returns the logs of a replica: of its own if it is the only one, else those that all share."""
    if serve.get_replica_context().world_size <= 1:
        return MemoryAnswerLogs()
    return SharedAnswerLogs()


def end_shared_logs() -> None:
    """Ends the actor, if there is one. Call it once no replica runs."""
    try:
        ray.kill(ray.get_actor(_NAME, namespace=_NAMESPACE))
    except ValueError:  # there is none
        return


class SharedAnswerLogs:
    """The logs in the actor, which the first of the replicas starts.

    Attributes:
        lag_s: the time that a call may take on a busy node.
    """

    lag_s = 0.3

    def __init__(self) -> None:
        self._actor: ActorHandle[Any] | None = None

    async def append(
        self, answer_id: str, owner: AnswerOwner, events: Sequence[ServerEvent], *, complete: bool
    ) -> bool:
        """Adds events. See `AnswerLogs`."""
        return await self._call(lambda logs: logs.append.remote(answer_id, owner, list(events), complete=complete))

    async def read(self, answer_id: str, owner: AnswerOwner, *, after: int, wait_s: float) -> LogPage | None:
        """Returns events. See `AnswerLogs`."""
        return await self._call(lambda logs: logs.read.remote(answer_id, owner, after=after, wait_s=wait_s))

    async def cancel(self, answer_id: str, owner: AnswerOwner) -> bool:
        """Marks an answer as cancelled. See `AnswerLogs`."""
        return await self._call(lambda logs: logs.cancel.remote(answer_id, owner))

    async def forget(self, answer_id: str) -> None:
        """Removes a log. See `AnswerLogs`."""
        await self._call(lambda logs: logs.forget.remote(answer_id))

    async def _call(self, call: Callable[[ActorHandle[Any]], Awaitable[_T]]) -> _T:
        """Returns the actor's answer. After an error the next call looks for the actor again, or starts another."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                if self._actor is None:
                    self._actor = await asyncio.to_thread(_start)
                return await call(self._actor)
        except (RayError, TimeoutError, ValueError) as exc:  # ValueError: Ray raises it for a name that is being taken
            self._actor = None
            raise UnavailableError(f"the logs of answers do not respond: {exc}") from exc


def _start() -> ActorHandle[Any]:
    """Returns the actor, which one of the callers starts."""
    actor_class = ray.remote(MemoryAnswerLogs).options(
        name=_NAME,
        namespace=_NAMESPACE,
        get_if_exists=True,
        lifetime="detached",
        num_cpus=0,
        max_restarts=-1,
        max_concurrency=_MAX_CALLS,
    )
    return cast("ActorHandle[Any]", actor_class.remote())
