"""Records that kafka-python cannot read, told instead of raised.

A batch may be compressed with a codec that is not there, be damaged, or hold a header name that is not UTF-8.
kafka-python 3.0 raises for it out of `poll` and leaves three things undone (`kafka/consumer/fetcher.py`):

- What it was reading stays in line with its iterator spent, so that the next poll asks it for records for ever.
- If other partitions gave records in the same poll, the error is kept for the next one, and dropped without a word if
  the partition is paused by then: the same endless loop once it is resumed.
- The error does not say where the batch ends, so that nobody knows what to leave out.

So what is being read is told and let go at the moment when it fails, and nothing of it is ever raised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafka import errors

from penstock.broker.base import Partition, UnreadableRange
from penstock.broker.unpacking import bound_unpacking

_RAISED: tuple[type[BaseException], ...] = (errors.OffsetOutOfRangeError, errors.AuthorizationError)
"""Answers to a fetch that say nothing of the records."""


def report_unreadable(client: Any, report: Callable[[UnreadableRange], None]) -> None:
    """From now on `poll` of this `KafkaConsumer` calls `tell` instead of raising for what cannot be read.

    `tell` has to pause the partition: it is fetched again otherwise. Called in the thread that polls.
    """
    bound_unpacking()
    fetcher = client._fetcher
    fetcher.PartitionRecords = _readable(fetcher.PartitionRecords, report)
    parse = fetcher._parse_fetched_data

    def parse_or_tell(completed: Any) -> Any:
        try:
            return parse(completed)
        except _RAISED:
            raise
        except Exception as exc:
            at = completed.fetched_offset
            report(_unreadable(completed.topic_partition, at, at + 1, exc))
            return None

    fetcher._parse_fetched_data = parse_or_tell


def _readable(base: type[Any], tell: Callable[[UnreadableRange], None]) -> type[Any]:
    """kafka-python's fetched records of one partition, which end where they cannot be read."""

    class Readable(base):  # type: ignore[misc]  # kafka-python has no types
        def _unpack_records(self, tp: Any, records: Any, *deserializers: Any) -> Any:
            self._batches = _Batches(records)
            return super()._unpack_records(tp, self._batches, *deserializers)

        def take(self, n: int | None = None) -> list[Any]:
            try:
                return super().take(n)  # type: ignore[no-any-return]
            except Exception as exc:  # codecs raise what they like: zlib.error, ZstdError, RuntimeError, EOFError
                self.drain()
                tell(_unreadable(self.topic_partition, self.next_fetch_offset, self._batches.end, exc))
                return []

    return Readable


class _Batches:
    """The batches of a fetch, of which it knows the one that was asked for last."""

    def __init__(self, records: Any) -> None:
        self._records = records
        self._last: Any = None

    def next_batch(self) -> Any:
        self._last = self._records.next_batch()
        return self._last

    @property
    def end(self) -> int:
        """The offset after the batch; 0 if it does not say."""
        return int(getattr(self._last, "next_offset", 0))


def _unreadable(tp: Any, first: int, end: int, exc: Exception) -> UnreadableRange:
    what = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    return UnreadableRange(Partition(tp.topic, tp.partition), first, max(end, first + 1), what.rstrip("."))
