"""Reads topics outside of any group: all that a partition holds up to a stated end, in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import kafka
from kafka import TopicPartition

from penstock.broker.base import LogRange, Partition, PartitionLag
from penstock.broker.client import (
    ConsumerClient,
    connection_arguments,
    open_client,
    to_partition,
    to_record,
    to_topic_partition,
    translated,
)
from penstock.broker.stops import UnreadableRange
from penstock.broker.topics import compacted_topics, group_lag, require_described
from penstock.broker.unreadable import report_unreadable
from penstock.config import KafkaSettings
from penstock.errors import PermanentError, UnavailableError
from penstock.records import Record

_POLL_MS = 500
_REQUEST_TIMEOUT_MS = 10_000
_POLL_RECORDS = 2_000
_STALLED_S = 30.0  # a client of kafka-python waits silently for an absent broker; longer without a record is an error


class KafkaReader:
    """Reads the topics of a real broker (`broker.base.TopicReader`) with one client for all of them. For one thread.

    Close it, or use it as a context manager.

    Args:
        settings: broker and group.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: ConsumerClient | None = None
        self._unreadable: list[UnreadableRange] = []

    def lag(self, topics: Collection[str]) -> Sequence[PartitionLag]:
        """See `broker.base.TopicReader.lag`."""
        return group_lag(self._settings, topics)

    def compacted(self, topics: Collection[str]) -> frozenset[str]:
        """See `broker.base.TopicReader.compacted`."""
        return compacted_topics(self._settings, topics)

    def bounds(self, topics: Collection[str]) -> Mapping[Partition, LogRange]:
        """See `broker.base.TopicReader.bounds`."""
        with translated(f"look up where {', '.join(sorted(topics))} begin and end", self._settings):
            client = self._connected()
            tps = [
                TopicPartition(topic, number)
                for topic in sorted(topics)
                for number in sorted(client.partitions_for_topic(topic) or ())
            ]
            starts = client.beginning_offsets(tps, timeout_ms=_REQUEST_TIMEOUT_MS) if tps else {}
            ends = client.end_offsets(tps, timeout_ms=_REQUEST_TIMEOUT_MS) if tps else {}
        if absent := set(topics) - {tp.topic for tp in tps}:
            require_described(self._settings, absent)
        return {to_partition(tp): LogRange(starts[tp], ends[tp]) for tp in tps}

    def read(self, partition: Partition, first: int, end: int) -> Iterator[Record]:
        """See `broker.base.TopicReader.read`."""
        tp = to_topic_partition(partition)
        with translated(f"read {partition}", self._settings):
            client = self._connected()
            client.assign([tp])
            client.seek(tp, first)
            client.resume(tp)  # it may be the partition that was read last, and have stopped before unreadable records
            self._unreadable.clear()
            progress_s = time.monotonic()
            while (before := client.position(tp)) < end:
                fetched = client.poll(timeout_ms=_POLL_MS).get(tp, ())
                for raw in fetched:
                    if raw.offset < end:
                        yield to_record(raw)
                if self._unreadable and self._unreadable[0].first < end:
                    raise PermanentError(f"could not read on: {self._unreadable[0]}")
                if fetched or client.position(tp) != before:
                    progress_s = time.monotonic()
                elif time.monotonic() - progress_s > _STALLED_S:
                    raise UnavailableError(
                        f"could not read {partition} beyond offset {before}: Kafka at "
                        f"{self._settings.bootstrap_servers} has sent nothing for {_STALLED_S:.0f} s, and {end} is its "
                        "end. Check that it runs."
                    )

    def close(self) -> None:
        """Ends the connection. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            client.close(autocommit=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _on_unreadable(self, stop: UnreadableRange) -> None:
        self._unreadable.append(stop)
        self._connected().pause(to_topic_partition(stop.partition))

    def _connected(self) -> ConsumerClient:
        if self._client is None:
            self._client = open_client(kafka.KafkaConsumer, _arguments(self._settings))
            report_unreadable(self._client, self._on_unreadable)
        return self._client


def _arguments(settings: KafkaSettings) -> dict[str, Any]:
    return connection_arguments(settings) | {
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        "fetch_max_wait_ms": 100,
        "max_partition_fetch_bytes": settings.max_message_bytes,
        "max_poll_records": _POLL_RECORDS,
        "metrics_enabled": False,
    }
