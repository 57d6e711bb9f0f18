"""Workers behind one protocol: in this process (`LocalPool`), or as Ray actors (`ray_pool.RayPool`).

A step is a method of a worker. What it returns stays where it was made and travels by reference: the `Ref`s of one
step go into the next one's call, so that media and pixels never pass through the lane; only small reports are fetched.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

Ref: TypeAlias = Any
"""A result: a future of a `LocalPool`, an object reference of a `RayPool`."""


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
        self._load = Load(size)

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
        done = self._threads[worker].submit(timed, self._workers[worker], method, returns, values)
        busy_s, *results = done.result()
        return Call(tuple(self.put(value) for value in results), busy_s)


def timed(worker: object, method: str, returns: int, args: Sequence[Any]) -> tuple[Any, ...]:
    """Calls the method; how long it took stands before what it returned."""
    started_s = time.perf_counter()
    result = getattr(worker, method)(*args)
    busy_s = time.perf_counter() - started_s
    return (busy_s, result) if returns == 1 else (busy_s, *result)


class Load:
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
