"""Reads when single records were produced, without reading the log around them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import kafka

from penstock.broker.base import Partition
from penstock.broker.client import (
    ConsumerClient,
    connection_arguments,
    open_client,
    to_partition,
    to_topic_partition,
    translated,
)
from penstock.broker.stops import UnreadableRange
from penstock.broker.unreadable import report_unreadable
from penstock.config import KafkaSettings

_TIMEOUT_S = 3.0  # less than the interval of the lag monitor, which calls this
_POLL_MS = 100
# A broker sends one whole batch in any case, of one partition; so memory is bounded by the largest message.
_FETCH_BYTES = 64 * 1024


def record_times(settings: KafkaSettings, offsets: Mapping[Partition, int]) -> Mapping[Partition, int]:
    """Returns the timestamp of the first record at or after each offset, milliseconds since the epoch.

    A partition is left out if it has no record there, if the record cannot or may not be read or has no timestamp, and
    if the broker sends nothing of it within three seconds.

    Raises:
        UnavailableError: no broker answers.
        ConfigError: it does not let this client in.
    """
    if not offsets:
        return {}
    with translated("read when the oldest records were produced", settings):
        client: ConsumerClient = open_client(kafka.KafkaConsumer, _arguments(settings))
        try:
            return _read(client, offsets)
        finally:
            client.close(autocommit=False)


def _read(client: ConsumerClient, offsets: Mapping[Partition, int]) -> Mapping[Partition, int]:
    waiting, times = set(offsets), dict[Partition, int]()

    def done(partition: Partition) -> None:
        waiting.discard(partition)
        client.pause(to_topic_partition(partition))

    def on_unreadable(stop: UnreadableRange) -> None:
        done(stop.partition)

    report_unreadable(client, on_unreadable, lambda denied, _: done(denied))
    client.assign([to_topic_partition(partition) for partition in offsets])
    for partition, offset in offsets.items():
        client.seek(to_topic_partition(partition), offset)
    deadline_s = time.monotonic() + _TIMEOUT_S
    while waiting and time.monotonic() < deadline_s:
        for tp, records in client.poll(timeout_ms=_POLL_MS).items():
            partition = to_partition(tp)
            if partition in waiting and records:
                if records[0].timestamp >= 0:
                    times[partition] = records[0].timestamp
                done(partition)
    return times


def _arguments(settings: KafkaSettings) -> dict[str, Any]:
    return connection_arguments(settings) | {
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        "fetch_max_wait_ms": _POLL_MS,
        "max_partition_fetch_bytes": _FETCH_BYTES,
        "metrics_enabled": False,
    }
