"""Pools and executors whose calls run in stepped threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import partial
from typing import Any

from penstock.errors import WorkerLostError
from penstock.ingest.delivery import Batch
from penstock.ingest.executor.pool import Call, call_all
from tests.ingest.simulation.stepping import SteppedThread, current_thread, pause


class InlinePool:
    """Workers in the caller's thread, each with at most `concurrent_calls` calls; None: with any number."""

    def __init__(self, workers: Sequence[Any], *, concurrent_calls: int | None = None) -> None:
        self.workers = list(workers)
        self.busy: list[list[SteppedThread]] = [[] for _ in workers]
        self._concurrent_calls = concurrent_calls

    @property
    def size(self) -> int:
        return len(self.workers)

    def put(self, value: object) -> Any:
        return value

    def fetch(self, ref: Any) -> Any:
        return ref

    def run(self, method: Callable[..., Any], *args: Any, returns: int = 1) -> Call:
        return self.run_on(0, method, *args, returns=returns)

    def run_on(self, worker: int, method: Callable[..., Any], *args: Any, returns: int = 1) -> Call:
        with self._turn(worker):
            called = self.workers[worker]
            result = getattr(called, method.__name__)(*args)
            if self.workers[worker] is not called:
                raise WorkerLostError("the worker was killed before it answered")
        return Call((result,) if returns == 1 else tuple(result), 0.0)

    def run_on_all(self, method: Callable[..., Any], *args: Any, returns: int = 1) -> Sequence[Call]:
        return self.run_on_each(range(self.size), method, *args, returns=returns)

    def run_on_each(
        self, workers: Sequence[int], method: Callable[..., Any], *args: Any, returns: int = 1
    ) -> Sequence[Call]:
        calls = [partial(self.run_on, worker, method, *args, returns=returns) for worker in workers]
        return call_all(partial(partial, call) for call in calls)

    def is_busy_with(self, thread: SteppedThread) -> bool:
        return any(thread in busy for busy in self.busy)

    @contextmanager
    def _turn(self, worker: int) -> Iterator[None]:
        while self._concurrent_calls is not None and len(self.busy[worker]) >= self._concurrent_calls:
            pause("queue")
        thread = current_thread()
        if thread is None:
            yield
            return
        self.busy[worker].append(thread)
        try:
            yield
        finally:
            self.busy[worker].remove(thread)


class SteppedExecutor(Executor):
    """Makes a stepped thread of each batch, and checks that no asset is in two batches of a lane concurrently."""

    def __init__(self) -> None:
        self.batches: list[SteppedThread] = []
        self._in_flight: dict[int, frozenset[str]] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        (batch,) = args
        assert isinstance(batch, Batch)
        assets = frozenset(delivery.asset_id for delivery in batch.deliveries if delivery.asset_id is not None)
        for other in self._in_flight.values():
            assert not assets & other, "two events of one asset are in flight together"
        self._in_flight[batch.number] = assets
        self.batches.append(SteppedThread(lambda: self._drive(fn, batch)))
        return Future()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leaves batches that hang as they are."""

    def _drive(self, fn: Callable[[Batch], object], batch: Batch) -> None:
        try:
            fn(batch)
        finally:
            del self._in_flight[batch.number]
