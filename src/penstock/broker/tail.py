"""Follows a topic outside of any group: every record of every partition, from its start or from its end on.

Each follower gets all records, and commits nothing: what it knows lives as long as its process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import kafka
from kafka import TopicPartition, errors

from penstock.broker.client import (
    ConsumerClient,
    connection_arguments,
    open_client,
    refusal_of,
    to_record,
    to_topic_partition,
    translate,
)
from penstock.broker.stops import UnreadableRange
from penstock.broker.topics import require_described
from penstock.broker.unreadable import report_unreadable
from penstock.config import KafkaSettings
from penstock.errors import PermanentError, UnavailableError
from penstock.records import Record

logger = logging.getLogger(__name__)

_REQUEST_TIMEOUT_MS = 2_000
# How long a topic is silent before a request checks that the broker still answers, which takes 1 ms.
_CHECK_S = 1.0
_POLL_RECORDS = 1_000


@dataclass(frozen=True, slots=True)
class TailPoll:
    """Holds the records since the last poll.

    Attributes:
        records: in order within a partition.
        caught_up: whether everything that the topic held at some moment of this poll has been returned.
    """

    records: Sequence[Record] = ()
    caught_up: bool = True


class TopicTail(Protocol):
    """Follows one topic. For one thread."""

    def poll(self, timeout_s: float) -> TailPoll:
        """Returns the next records, and waits for some for at most `timeout_s` (and 2 s more for a broker's answer).

        The first poll of a tail that starts at the end decides where that is. After an error the tail continues where
        it was, unless retention removed what follows.

        Raises:
            UnavailableError: no broker answers, or the topic does not exist (yet).
            ConfigError: the broker refuses this client.
        """

    def close(self) -> None:
        """Ends the connection. Idempotent."""


class KafkaTail:
    """Follows a topic of a real broker (`TopicTail`).

    Args:
        settings: the brokers.
        topic: the topic.
        from_start: begins with the first record, and not with the next one.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        *,
        from_start: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._from_start = from_start
        self._clock = clock
        self._client: ConsumerClient | None = None
        self._assigned: list[TopicPartition] = []
        self._ends: Mapping[TopicPartition, int] = {}
        self._check_at_s = 0.0
        self._unreadable: list[UnreadableRange] = []

    def poll(self, timeout_s: float) -> TailPoll:
        """See `TopicTail.poll`."""
        try:
            client = self._connected()
            if self._clock() >= self._check_at_s:
                self._check(client)
            fetched = client.poll(timeout_ms=timeout_s * 1000)
        except (errors.KafkaError, OSError) as exc:
            refused = None if self._client is None else refusal_of(self._client)
            error = translate(refused or exc, f"follow {self._topic}", self._settings)
            # The client looks for its brokers again by itself; a topic may be created yet.
            raise UnavailableError(str(error)) if isinstance(error, PermanentError) else error from exc
        self._skip_unreadable(client)
        records = [to_record(raw) for batch in fetched.values() for raw in batch]
        if records:
            self._check_at_s = self._clock() + _CHECK_S  # it answers
        return TailPoll(records, self._is_caught_up(client))

    def close(self) -> None:
        """See `TopicTail.close`."""
        client, self._client = self._client, None
        if client is not None:
            client.close(autocommit=False)

    def _is_caught_up(self, client: ConsumerClient) -> bool:
        """Returns whether all was read up to the last known ends; False if the client does not know where it is."""
        try:
            # kafka-python returns None where it has not found out in time.
            return all((client.position(tp) or 0) >= end for tp, end in self._ends.items())
        except (errors.KafkaError, OSError) as exc:
            # The records of this poll must be returned; the next poll raises what is wrong.
            logger.info("the position in %s is not known: %r", self._topic, exc)
            return False

    def _check(self, client: ConsumerClient) -> None:
        """Raises an error of Kafka if no broker answers, and follows partitions that were added."""
        partitions = client.partitions_for_topic(self._topic)
        if not partitions:
            require_described(self._settings, [self._topic])
            raise UnavailableError(
                f"could not follow {self._topic}: Kafka at {self._settings.bootstrap_servers} has no such topic yet. "
                "The ingest plane creates it when it starts."
            )
        tps = [TopicPartition(self._topic, number) for number in sorted(partitions)]
        self._ends = client.end_offsets(tps, timeout_ms=_REQUEST_TIMEOUT_MS)
        if tps != self._assigned:
            self._assign(client, tps)
        self._check_at_s = self._clock() + _CHECK_S

    def _assign(self, client: ConsumerClient, tps: Sequence[TopicPartition]) -> None:
        """Follows these partitions; those that were added later are new as a whole."""
        kept = {tp: client.position(tp) for tp in self._assigned}
        starts = client.beginning_offsets(list(tps), timeout_ms=_REQUEST_TIMEOUT_MS)
        first = starts if self._from_start or self._assigned else self._ends
        client.assign(list(tps))
        for tp in tps:
            client.seek(tp, kept.get(tp, first[tp]))
        self._assigned = list(tps)

    def _skip_unreadable(self, client: ConsumerClient) -> None:
        """Passes over records that no client can read, such as those of a codec that is not installed."""
        for stop in self._unreadable:
            logger.warning(
                "%s offsets %d to %d cannot be read: %s", stop.partition, stop.first, stop.end - 1, stop.detail
            )
            client.seek(to_topic_partition(stop.partition), stop.end)
        self._unreadable.clear()

    def _connected(self) -> ConsumerClient:
        if self._client is None:
            client = open_client(kafka.KafkaConsumer, self._arguments())
            report_unreadable(client, self._unreadable.append)
            self._client = client
        return self._client

    def _arguments(self) -> dict[str, Any]:
        return connection_arguments(self._settings) | {
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest" if self._from_start else "latest",
            "isolation_level": "read_committed",
            "fetch_max_wait_ms": 500,  # the broker answers immediately once there is a record
            "max_poll_records": _POLL_RECORDS,
            "metrics_enabled": False,
        }
