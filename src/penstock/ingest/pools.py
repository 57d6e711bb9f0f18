"""Workers behind one protocol: in this process (`LocalPool`), or as Ray actors pinned to CPUs and GPUs (`RayPool`).

A step is a method of a worker. What it returns stays where it was made and travels by reference: the `Ref`s of one
step go into the next one's call, so that media and pixels never pass through the lane; only small reports are fetched.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

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

Ref: TypeAlias = Any
"""A result: a future of a `LocalPool`, an object reference of a `RayPool`."""

_RESTART_POLL_S = 0.1
_LOST = (RayActorError, WorkerCrashedError, ObjectLostError, OutOfMemoryError, GetTimeoutError)


@dataclass(frozen=True, slots=True)
class Call:
    """A finished call of a worker's method.

    Attributes:
        results: a reference to each value the method returned.
        busy_s: seconds the worker was busy with it, without waiting in its queue.
    """

    results: tuple[Ref, ...]
    busy_s: float


class Pool(Protocol):
    """Workers of one kind that share the work. Safe to call from several threads."""

    @property
    def size(self) -> int:
        """Workers there are now."""

    def put(self, value: object) -> Ref:
        """Makes a value available to several calls without sending it twice."""

    def run(self, method: str, *args: Any, returns: int = 1) -> Call:
        """Calls a method of the least busy worker and waits for its end; the results stay where they are.

        Args:
            method: name of the worker's method.
            *args: values, or refs of pools of the same kind, which are resolved where the worker is.
            returns: how many values the method returns; a tuple, if more than one.

        Raises:
            WorkerLostError: the worker died, gave no answer in time, or an argument was lost with its node.
            PenstockError: whatever the method raised.
        """

    def on(self, worker: int, method: str, *args: Any, returns: int = 1) -> Call:
        """The same, on a certain worker: 0 to `size` - 1."""

    def fetch(self, ref: Ref) -> Any:
        """The value itself; for small ones. Raises as `run` does."""


class LocalPool:
    """Workers in this process, one thread each.

    Args:
        make: makes the worker of a number; called `size` times, in this thread.
        size: number of workers.
    """

    def __init__(self, make: Callable[[int], object], size: int = 1) -> None:
        self._workers = [make(number) for number in range(size)]
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix="worker") for _ in range(size)]
        self._load = _Load(size)

    @property
    def size(self) -> int:
        return len(self._workers)

    def put(self, value: object) -> Ref:
        future: Future[object] = Future()
        future.set_result(value)
        return future

    def run(self, method: str, *args: Any, returns: int = 1) -> Call:
        with self._load.least() as worker:
            return self._call(worker, method, args, returns)

    def on(self, worker: int, method: str, *args: Any, returns: int = 1) -> Call:
        with self._load.add(worker):
            return self._call(worker, method, args, returns)

    def fetch(self, ref: Ref) -> Any:
        return ref.result()

    def close(self) -> None:
        """Ends the threads; the workers go with the pool."""
        for thread in self._threads:
            thread.shutdown(wait=True)

    def _call(self, worker: int, method: str, args: Sequence[Any], returns: int) -> Call:
        values = [arg.result() if isinstance(arg, Future) else arg for arg in args]
        done = self._threads[worker].submit(_timed, self._workers[worker], method, returns, values)
        busy_s, *results = done.result()
        return Call(tuple(self.put(value) for value in results), busy_s)


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
        self._load = _Load(len(self._handles))
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
    num_cpus: float,
    num_gpus: float = 0.0,
    threads: int = 1,
) -> list[Any]:
    """Starts `size` actors that host the workers; Ray restarts those that die, as often as it takes.

    Args:
        make: makes the worker of a number, in its own process; imports what it needs there.
        size: number of actors.
        name: shown in `ray list actors`: `decode-0`.
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
    return [host.options(**options).remote(make, number, name) for number in range(size)]


def _timed(worker: object, method: str, returns: int, args: Sequence[Any]) -> tuple[Any, ...]:
    """Calls the method; how long it took stands before what it returned."""
    started_s = time.perf_counter()
    result = getattr(worker, method)(*args)
    busy_s = time.perf_counter() - started_s
    return (busy_s, result) if returns == 1 else (busy_s, *result)


class _Host:
    """The Ray actor around a worker.

    It notes which call it works on in a file that a crash leaves behind, so that the actor that takes its place can say
    which call killed it: calls that merely waited in its queue are not to be blamed. With several threads, or after the
    loss of the node, nobody is.
    """

    def __init__(self, make: Callable[[int], object], number: int, name: str) -> None:
        self._name = f"{name}-{number}"
        note = Path(tempfile.gettempdir()) / f"penstock-call-{ray.get_runtime_context().get_actor_id()}"
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
            return _timed(self._worker, method, returns, args)
        finally:
            os.ftruncate(self._note, 0)


class _Load:
    """Calls under way at each worker, to pick the least busy one."""

    def __init__(self, size: int) -> None:
        self._calls = [0] * size
        self._turn = 0
        self._lock = threading.Lock()

    @contextmanager
    def least(self) -> Iterator[int]:
        with self._lock:
            self._turn += 1  # so that idle workers take turns
            order = range(len(self._calls))
            worker = min(order, key=lambda index: (self._calls[index], (index - self._turn) % len(self._calls)))
        with self.add(worker):
            yield worker

    @contextmanager
    def add(self, worker: int) -> Iterator[int]:
        with self._lock:
            self._calls[worker] += 1
        try:
            yield worker
        finally:
            with self._lock:
                self._calls[worker] -= 1


def _first_line(exc: BaseException) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[0] if lines else type(exc).__name__
