"""Pools of Ray actors, pinned to CPUs and GPUs."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import (
    GetTimeoutError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from penstock.errors import UnavailableError, WorkerLostError
from penstock.ingest.pools import Call, Load, Ref, timed

_RESTART_POLL_S = 0.1
_LOST = (RayActorError, WorkerCrashedError, ObjectLostError, OutOfMemoryError, GetTimeoutError)


class RayPool:
    """Ray actors that the plane owns, and how busy they are with this process's calls.

    Args:
        name: for messages: "decode".
        handles: the actors, made by `spawn`.
        call_timeout_s: a call without an answer for so long counts as lost, as does its worker.
    """

    def __init__(self, name: str, handles: Sequence[Any], *, call_timeout_s: float) -> None:
        self._name = name
        self._handles = list(handles)
        self._load = Load(len(self._handles))
        self._call_timeout_s = call_timeout_s

    @property
    def size(self) -> int:
        return len(self._handles)

    def put(self, value: object) -> Ref:
        return ray.put(value)

    def run(self, method: str, *args: Any, returns: int = 1) -> Call:
        with self._load.least() as worker:
            return self._call(worker, method, args, returns)

    def on(self, worker: int, method: str, *args: Any, returns: int = 1) -> Call:
        with self._load.add(worker):
            return self._call(worker, method, args, returns)

    def fetch(self, ref: Ref) -> Any:
        return self._get(ref, "its result")

    def _call(self, worker: int, method: str, args: Sequence[Any], returns: int) -> Call:
        """The first value that the actor returns is small, so that waiting for it fetches no media and no pixels."""
        handle, token = self._handles[worker], uuid.uuid4().hex
        refs = handle.call.options(num_returns=1 + returns).remote(token, method, returns, *args)
        try:
            busy_s = self._get(refs[0], method)
        except WorkerLostError as exc:
            raise WorkerLostError(str(exc), blamed=self._last_words(handle) == token) from exc
        return Call(tuple(refs[1:]), busy_s)

    def _last_words(self, handle: Any) -> str:
        """Waits until Ray has restarted the actor; the token of the call during which it died, if it can be told.

        Raises:
            UnavailableError: it was not restarted in time.
        """
        deadline_s = time.monotonic() + self._call_timeout_s
        while True:
            try:
                return str(ray.get(handle.ready.remote(), timeout=self._call_timeout_s))
            except (RayActorError, GetTimeoutError) as exc:
                if time.monotonic() > deadline_s:
                    raise UnavailableError(f"no {self._name} worker came back: {_first_line(exc)}") from exc
                time.sleep(_RESTART_POLL_S)

    def _get(self, ref: Ref, what: str) -> Any:
        try:
            return ray.get(ref, timeout=self._call_timeout_s)
        except _LOST as exc:
            raise WorkerLostError(f"a {self._name} worker was lost during {what}: {_first_line(exc)}") from exc
        except RayTaskError as exc:
            if isinstance(exc.cause, Exception):
                raise exc.cause from exc
            raise UnavailableError(f"{self._name} failed during {what}: {_first_line(exc)}") from exc
        except RayError as exc:
            raise UnavailableError(f"Ray failed while {self._name} did {what}: {_first_line(exc)}") from exc


def spawn(
    make: Callable[[int], object],
    size: int,
    *,
    name: str,
    notes: Path,
    num_cpus: float,
    num_gpus: float = 0.0,
    threads: int = 1,
) -> list[Any]:
    """Starts `size` actors that host the workers; Ray restarts those that die, as often as it takes.

    Args:
        make: makes the worker of a number, in its own process; imports what it needs there.
        size: number of actors.
        name: shown in Ray's logs: `decode-0`.
        notes: a folder, of each node its own, where an actor notes what it works on; see `_Host`.
        num_cpus, num_gpus: what each reserves of its node.
        threads: calls that one actor serves at once.
    """
    options = {
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "max_restarts": -1,
        "max_task_retries": 0,  # the lane decides what is tried again, and restarts a batch from its records
        "max_concurrency": threads,
    }
    host = ray.remote(_Host)
    return [host.options(**options).remote(make, number, name, notes) for number in range(size)]


class _Host:
    """The Ray actor around a worker.

    It notes which call it works on in a file that a crash leaves behind, so that the actor that takes its place can say
    which call killed it: calls that merely waited in its queue are not to be blamed. With several threads, or after the
    loss of the node, nobody is.
    """

    def __init__(self, make: Callable[[int], object], number: int, name: str, notes: Path) -> None:
        self._name = f"{name}-{number}"
        notes.mkdir(parents=True, exist_ok=True)
        note = notes / str(ray.get_runtime_context().get_actor_id())
        self._died_during = note.read_text() if note.exists() else ""
        self._note = os.open(note, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        self._worker = make(number)

    def __repr__(self) -> str:  # Ray's logs show it
        return self._name

    def ready(self) -> str:
        """Answers once the worker is made, its models loaded: the call during which its predecessor died, or ""."""
        return self._died_during

    def ask(self, method: str, *args: Any) -> Any:
        """Calls a method beside the steps: a small question, a small answer."""
        return getattr(self._worker, method)(*args)

    def call(self, token: str, method: str, returns: int, *args: Any) -> tuple[Any, ...]:
        os.pwrite(self._note, token.encode(), 0)
        try:
            return timed(self._worker, method, returns, args)
        finally:
            os.ftruncate(self._note, 0)


def _first_line(exc: BaseException) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[0] if lines else type(exc).__name__
