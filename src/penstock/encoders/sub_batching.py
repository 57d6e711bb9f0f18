"""Sub-batches that fit: halved when memory runs out, bisected when an item is at fault. No torch, no clock, no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Generic, TypeVar

from penstock.errors import OverloadedError, TransientError, UsageError, WorkerBrokenError, first_line

T = TypeVar("T")

# After this number of full sub-batches in a row without a failure, a quarter more is tried. A try that is too large
# costs one wasted sub-batch, so at worst 1 in 33 while memory stays short.
_GROW_AFTER_PARTS = 32
_RETRY_AFTER_S = 5.0

_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|STATUS_ALLOC_FAILED", re.IGNORECASE)
# After one of these every later call in the process fails too.
_DEVICE = re.compile(
    r"CUDA error|CUDA failed|CUBLAS_STATUS|CUDNN_STATUS_(?:EXECUTION_FAILED|INTERNAL_ERROR)|device-side assert"
)


class FailureCause(Enum):
    """The cause of an exception that a model raised."""

    MEMORY = auto()  # the sub-batch was too large for the memory that is free now
    DEVICE = auto()  # the device is gone: nothing will work in this process again
    ITEM = auto()  # anything else: attributed to an item, until a known-good item fails as well


def classify_message(text: str) -> FailureCause:
    """Returns the cause of a plain RuntimeError of a CPU or CUDA library, by its message."""
    if _MEMORY.search(text):
        return FailureCause.MEMORY
    return FailureCause.DEVICE if _DEVICE.search(text) else FailureCause.ITEM


@dataclass(frozen=True, slots=True)
class SubBatchResults(Generic[T]):
    """The results of a run.

    Attributes:
        encoded: groups of rows, each with the result of the group.
        failed: rows that fail alone, each with the error in one line.
    """

    encoded: list[tuple[Sequence[int], T]] = field(default_factory=list)
    failed: list[tuple[int, str]] = field(default_factory=list)


class SubBatcher:
    """Calls an encoder on parts of a batch, and remembers from batch to batch which size of part fitted.

    Args:
        max_size: items in a part.
        classify: returns the cause of an exception.
        release_memory: called after memory ran out, to give back what the device's allocator caches.
    """

    def __init__(
        self, max_size: int, *, classify: Callable[[Exception], FailureCause], release_memory: Callable[[], None]
    ) -> None:
        self._max_size = max_size
        self.classify = classify
        self._release_memory = release_memory
        self._size = max_size
        self._full_parts = 0  # encoded since the last failure

    @property
    def size(self) -> int:
        """Returns the present number of items in a part."""
        return self._size

    def run(
        self, rows: Sequence[int], encode: Callable[[Sequence[int]], T], probe: Callable[[], object]
    ) -> SubBatchResults[T]:
        """Encodes every row once, in the given order as long as nothing fails.

        Args:
            rows: the rows of the batch that need encoding.
            encode: computes one result for some of the rows, for example float32[len(rows), dim], or raises.
            probe: encodes a known-good item. Called when an item fails alone: if it raises as well, the encoder is at
                fault and not the item.

        `encode` may raise `TransientError` or `UsageError` to end the run; they pass through.

        Raises:
            OverloadedError: memory is short even for one item.
            WorkerBrokenError: the device is gone, or the encoder fails on the known-good item too.
        """
        results: SubBatchResults[T] = SubBatchResults()
        waiting = [rows] if rows else []
        while waiting:
            part = waiting.pop()
            if len(part) > self._size:
                waiting.append(part[self._size :])
                part = part[: self._size]
            try:
                result = encode(part)
            except (TransientError, UsageError):  # by their type no item is at fault
                raise
            except Exception as exc:
                waiting.extend(reversed(self._split(part, exc, results, probe)))
            else:
                results.encoded.append((part, result))
                self._grow(len(part))
        return results

    def _split(
        self, part: Sequence[int], exc: Exception, results: SubBatchResults[T], probe: Callable[[], object]
    ) -> list[Sequence[int]]:
        """Returns the parts to try instead of the one that failed; none for a single item, which is noted as failed."""
        self._full_parts = 0
        cause = self.classify(exc)
        if cause is FailureCause.DEVICE:
            raise WorkerBrokenError(f"the encoder's device failed ({first_line(exc)}); restart its worker") from exc
        if cause is FailureCause.MEMORY:
            self._release_memory()
            if len(part) == 1:
                raise OverloadedError(
                    f"the encoder's device has no memory left for a single item ({first_line(exc)}); "
                    "put fewer workers on it",
                    retry_after_s=_RETRY_AFTER_S,
                ) from exc
            self._size = len(part) // 2
            return [part]
        if len(part) > 1:
            middle = len(part) // 2
            return [part[:middle], part[middle:]]
        self._confirm_encoder_works(exc, results, probe)
        results.failed.append((part[0], first_line(exc)))
        return []

    def _confirm_encoder_works(self, exc: Exception, results: SubBatchResults[T], probe: Callable[[], object]) -> None:
        """Checks, once a batch, that the encoder still works: else all its items would end as dead letters."""
        if results.failed:
            return
        try:
            probe()
        except Exception as probe_exc:
            raise WorkerBrokenError(
                f"the encoder fails on every item, a known-good one too ({first_line(probe_exc)}); restart its worker"
            ) from exc

    def _grow(self, count: int) -> None:
        if count < self._size or self._size == self._max_size:
            return
        self._full_parts += 1
        if self._full_parts >= _GROW_AFTER_PARTS:
            self._full_parts = 0
            self._size = min(self._max_size, self._size + max(1, self._size // 4))
