"""Sub-batches that fit: halved when memory runs out, bisected when an item is at fault. No torch, no clock, no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Generic, TypeVar

from penstock.errors import OverloadedError, TransientError, UsageError, WorkerBrokenError

T = TypeVar("T")

# After so many full sub-batches in a row without trouble, a quarter more is tried. Too large a try costs one wasted
# sub-batch, so at worst 1 in 33 while memory stays short.
_GROW_AFTER_PARTS = 32
_RETRY_AFTER_S = 5.0

_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|STATUS_ALLOC_FAILED", re.IGNORECASE)
# After one of these every later call in the process fails too.
_DEVICE = re.compile(
    r"CUDA error|CUDA failed|CUBLAS_STATUS|CUDNN_STATUS_(?:EXECUTION_FAILED|INTERNAL_ERROR)|device-side assert"
)


class FailureCause(Enum):
    """Whose fault an exception is."""

    MEMORY = auto()  # the sub-batch was too large for what is free now
    DEVICE = auto()  # the device is gone: nothing will work in this process again
    ITEM = auto()  # anything else: taken to be an item's, until a known-good item fails as well


def classify_message(text: str) -> FailureCause:
    """Whose fault a plain RuntimeError of a CPU or CUDA library is, by what it says."""
    if _MEMORY.search(text):
        return FailureCause.MEMORY
    return FailureCause.DEVICE if _DEVICE.search(text) else FailureCause.ITEM


@dataclass(frozen=True, slots=True)
class SubBatchResults(Generic[T]):
    """What became of the rows: results by groups of rows, and (row, what happened) of those that fail alone."""

    encoded: list[tuple[Sequence[int], T]] = field(default_factory=list)
    failed: list[tuple[int, str]] = field(default_factory=list)


class SubBatcher:
    """Calls an encoder on parts of a batch. Remembers, from batch to batch, what size of part fitted.

    Args:
        max_size: items in a part at most.
        classify: says whose fault an exception is.
        release_memory: called after memory ran out, to give back what is cached.
    """

    def __init__(
        self, max_size: int, *, classify: Callable[[Exception], FailureCause], release_memory: Callable[[], None]
    ) -> None:
        self._max_size = max_size
        self._classify = classify
        self._release_memory = release_memory
        self._size = max_size
        self._full_parts = 0  # full parts since the last trouble

    @property
    def size(self) -> int:
        """Items in a part, as of now."""
        return self._size

    def run(
        self, rows: Sequence[int], encode: Callable[[Sequence[int]], T], probe: Callable[[], object]
    ) -> SubBatchResults[T]:
        """Encodes every row once, in the given order as long as nothing fails.

        Args:
            rows: what to encode.
            encode: makes one result of some of the rows (float32[len(rows), dim], say), or raises.
            probe: encodes a known-good item. Called when an item fails alone: if it raises as well, the encoder is at
                fault and not the item.

        `encode` may raise `TransientError` or `UsageError` to end the run; they pass through.

        Raises:
            OverloadedError: memory is short even for one item.
            WorkerBrokenError: the device is gone, or the encoder fails on the known-good item too.
        """
        outcome: SubBatchResults[T] = SubBatchResults()
        waiting = [rows] if rows else []
        while waiting:
            part = waiting.pop()
            if len(part) > self._size:
                waiting.append(part[self._size :])
                part = part[: self._size]
            try:
                result = encode(part)
            except (TransientError, UsageError):  # says itself that no item is at fault
                raise
            except Exception as exc:
                waiting.extend(reversed(self._split(part, exc, outcome, probe)))
            else:
                outcome.encoded.append((part, result))
                self._grow(len(part))
        return outcome

    def _split(
        self, part: Sequence[int], exc: Exception, outcome: SubBatchResults[T], probe: Callable[[], object]
    ) -> list[Sequence[int]]:
        """What to try instead of the part that failed; of a single item that failed, notes it and returns nothing."""
        self._full_parts = 0
        fault = self._classify(exc)
        if fault is FailureCause.DEVICE:
            raise WorkerBrokenError(f"the encoder's device failed ({first_line(exc)}); restart its worker") from exc
        if fault is FailureCause.MEMORY:
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
        self._confirm_encoder_works(exc, outcome, probe)
        outcome.failed.append((part[0], first_line(exc)))
        return []

    def _confirm_encoder_works(self, exc: Exception, outcome: SubBatchResults[T], probe: Callable[[], object]) -> None:
        """Makes sure, once a batch, that the encoder still works: else all its items would end as dead letters."""
        if outcome.failed:
            return
        try:
            probe()
        except Exception as broken:
            raise WorkerBrokenError(
                f"the encoder fails on every item, a known-good one too ({first_line(broken)}); restart its worker"
            ) from exc

    def _grow(self, encoded: int) -> None:
        if encoded < self._size or self._size == self._max_size:
            return
        self._full_parts += 1
        if self._full_parts >= _GROW_AFTER_PARTS:
            self._full_parts = 0
            self._size = min(self._max_size, self._size + max(1, self._size // 4))


def first_line(exc: Exception) -> str:
    """The exception's type and the first line of what it says: for messages of one line."""
    text = str(exc).strip()
    return f"{type(exc).__name__}: {text.splitlines()[0]}" if text else type(exc).__name__
