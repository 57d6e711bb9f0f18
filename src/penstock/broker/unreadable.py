"""Reports records that kafka-python cannot read, instead of raising for them.

A batch may be compressed with a codec that is not installed, be corrupt, or hold a header name that is not UTF-8.
kafka-python 3.0 raises for it out of `poll` and leaves three things undone (`kafka/consumer/fetcher.py`):

- The fetched records stay queued with their iterator exhausted, so that every later poll fails on them again.
- If other partitions returned records in the same poll, the error is kept for the next one, and discarded silently if
  the partition is paused by then: the same endless loop once it is resumed.
- The error does not contain the end of the batch, so that no caller knows which offsets to skip.

So the records are reported and discarded at the moment when reading them fails, and nothing is ever raised for them.

Private parts of kafka-python that are used here: `KafkaConsumer._fetcher` with `PartitionRecords` (subclassed and
replaced: `_unpack_records`, `take`, `drain`, `next_fetch_offset`, `topic_partition`) and `_parse_fetched_data`
(wrapped), and the `next_batch` of its records. pyproject.toml pins the minor version for which this was written;
tests/broker/test_unreadable.py fails without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafka import TopicPartition, errors

from penstock.broker.base import Partition
from penstock.broker.client import ConsumerClient, describe, to_partition
from penstock.broker.stops import UnreadableRange
from penstock.broker.unpacking import bound_unpacking

# Answers to a fetch that do not concern the records themselves.
_RAISED: tuple[type[BaseException], ...] = (errors.OffsetOutOfRangeError, errors.AuthorizationError)


def report_unreadable(
    client: ConsumerClient,
    report: Callable[[UnreadableRange], None],
    report_denied: Callable[[Partition, int], None] | None = None,
) -> None:
    """Makes `poll` of this `KafkaConsumer` call `report` instead of raising for records that cannot be read.

    Both functions have to pause the partition, or it is fetched again. They are called in the thread that polls.

    Args:
        client: the client.
        report: receives the records.
        report_denied: receives a partition that this client may not read, and the offset from which on; None: `poll`
            raises for it.
    """
    bound_unpacking()
    fetcher: Any = client._fetcher  # type: ignore[attr-defined]  # private
    fetcher.PartitionRecords = _readable(fetcher.PartitionRecords, report)
    parse = fetcher._parse_fetched_data

    def parse_or_report(completed: Any) -> Any:
        try:
            return parse(completed)
        except errors.TopicAuthorizationFailedError:
            if report_denied is None:
                raise
            report_denied(to_partition(completed.topic_partition), completed.fetched_offset)
            return None
        except _RAISED:
            raise
        except Exception as exc:
            first = completed.fetched_offset
            report(_unreadable(completed.topic_partition, first, first + 1, exc))
            return None

    fetcher._parse_fetched_data = parse_or_report


def _readable(base: type[Any], report: Callable[[UnreadableRange], None]) -> type[Any]:
    """Returns a class of kafka-python's fetched records of one partition, which end where they cannot be read."""

    class Readable(base):  # type: ignore[misc]  # kafka-python has no types
        def _unpack_records(self, tp: Any, records: Any, *deserializers: Any) -> Any:
            self._batches = _Batches(records)
            return super()._unpack_records(tp, self._batches, *deserializers)

        def take(self, n: int | None = None) -> list[Any]:
            try:
                return super().take(n)  # type: ignore[no-any-return]
            except Exception as exc:  # codecs raise what they like: zlib.error, ZstdError, RuntimeError, EOFError
                self.drain()
                report(_unreadable(self.topic_partition, self.next_fetch_offset, self._batches.end, exc))
                return []

    return Readable


class _Batches:
    """The batches of a fetch, with the end of the one that was read last."""

    def __init__(self, records: Any) -> None:
        self._records = records
        self._last: Any = None

    def next_batch(self) -> Any:
        self._last = self._records.next_batch()
        return self._last

    @property
    def end(self) -> int:
        """The offset after the batch; 0 if the batch does not contain it."""
        return int(getattr(self._last, "next_offset", 0))


def _unreadable(tp: TopicPartition, first: int, end: int, exc: Exception) -> UnreadableRange:
    return UnreadableRange(to_partition(tp), first, max(end, first + 1), describe(exc).rstrip("."))
