"""Opens the client of a group member once a broker answers, and opens it again if it receives no partition."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import kafka
from kafka import ConsumerRebalanceListener, errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from penstock.broker.client import ConsumerClient, connection_arguments, open_client, refusal_of, translate
from penstock.broker.outage import Outage
from penstock.config import MIB, KafkaSettings
from penstock.errors import ConfigError, UnavailableError
from penstock.retries import Backoff

logger = logging.getLogger(__name__)

_RECONNECT_S = (0.2, 5.0)  # bounds of the wait between attempts to reach a broker at all: first and longest
_REJOIN_AFTER_S = (8.0, 16.0, 32.0)  # a first assignment takes 1 to 3 s
_LEAVE_TIMEOUT_MS = 5_000
_FETCH_MIN_BYTES = 32 * MIB  # of one fetch of all partitions; a larger message still arrives, alone


class MemberClient:
    """The client of one member of the consumer group.

    Args:
        settings: broker, group and timeouts.
        topics: the topics to subscribe to.
        clock: monotonic seconds.

    Raises:
        ConfigError: no bootstrap servers are set.
    """

    def __init__(self, settings: KafkaSettings, topics: Sequence[str], clock: Callable[[], float]) -> None:
        self._settings = settings
        _arguments(settings)  # so that what can never work is an error now
        self._topics = topics
        self._clock = clock
        self._client: ConsumerClient | None = None
        self._outage = Outage(f"Kafka at {settings.bootstrap_servers}", Backoff(*_RECONNECT_S))
        self._refusal = ""
        self._joined_s = 0.0
        self._ever_assigned = False
        self._rejoin_after_s = list(_REJOIN_AFTER_S)

    @property
    def client(self) -> ConsumerClient:
        """The open client. A consumer that owns a partition has one."""
        assert self._client is not None
        return self._client

    @property
    def refusal(self) -> str:
        """Why brokers refuse the connections of this client; empty if they do not."""
        refused = None if self._client is None else refusal_of(self._client)
        return self._refusal if refused is None else self._described(refused)

    def generation(self) -> int:
        """Returns the group's generation of this member; -1 while it has none."""
        return -1 if self._client is None else int(self._client.group_metadata().generation_id)

    def connect(self, timeout_s: float, prepare: Callable[[ConsumerClient], ConsumerRebalanceListener]) -> bool:
        """Opens the client unless it is open, and returns whether it is. kafka-python's constructor needs a broker.

        Args:
            timeout_s: the longest wait for the next attempt to be due; an attempt itself takes up to 2 s.
            prepare: called with a new client before it joins the group; returns its listener.
        """
        self._leave_if_unassigned()
        if self._client is not None:
            return True
        wait_s = self._outage.wait_s(self._clock())
        if wait_s > 0:
            time.sleep(min(timeout_s, wait_s))  # nothing else can happen during that time
            return False
        try:
            client: ConsumerClient = open_client(kafka.KafkaConsumer, _arguments(self._settings))
        except (errors.KafkaError, ConfigError) as exc:
            self._refusal = "" if isinstance(exc, errors.KafkaTimeoutError) else self._described(exc)
            self._outage.record_failure(self._clock())
            return False
        self._client, self._refusal = client, ""
        client.subscribe(self._topics, listener=prepare(client))
        self._joined_s = self._clock()
        return True

    def record_available(self, available: bool) -> None:
        """Notes whether a broker answers now, and logs a change."""
        self._outage.record(available, self._clock())

    def record_assignment(self) -> None:
        """Notes that this member received a partition, so that it does not join again for lack of one."""
        self._ever_assigned = True

    def close(self, timeout_ms: float = _LEAVE_TIMEOUT_MS) -> None:
        """Leaves the group and closes the client, if it is open."""
        if self._client is None:
            return
        try:
            self._client.close(autocommit=False, timeout_ms=timeout_ms)
        except errors.KafkaError as exc:
            logger.warning("could not leave the consumer group %s in order: %s", self._settings.group, exc)

    def _described(self, exc: Exception) -> str:
        if isinstance(exc, ConfigError):
            return str(exc)
        error = translate(exc, f"join the consumer group {self._settings.group}", self._settings)
        return "" if isinstance(error, UnavailableError) else str(error)

    def _leave_if_unassigned(self) -> None:
        """Closes the client of a member that never received a partition, a few times, so that it joins again.

        kafka-python can lose a subscription that is made while its first metadata request is under way. After the last
        time a member without partitions is left as it is: the group may have more members than partitions.
        """
        if self._client is None or self._ever_assigned or not self._rejoin_after_s:
            return
        if self._clock() - self._joined_s < self._rejoin_after_s[0]:
            return
        logger.warning("no partition assigned after %.0f s; joining the group again", self._rejoin_after_s.pop(0))
        self.close()
        self._client = None


def _arguments(settings: KafkaSettings) -> dict[str, Any]:
    return connection_arguments(settings) | {
        "group_id": settings.group,
        "group_instance_id": settings.group_instance_id,
        "client_rack": settings.client_rack or "",
        "partition_assignment_strategy": [CooperativeStickyAssignor],
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": "read_committed",
        "session_timeout_ms": settings.session_timeout_ms,
        # A third of the session is the most that is safe. A rebalance is noticed at the next heartbeat, so at most half
        # a second apart.
        "heartbeat_interval_ms": min(500, settings.session_timeout_ms // 3),
        "max_poll_interval_ms": settings.max_poll_interval_ms,
        # kafka-python forgets a subscription that is made while its first metadata request is under way, until the next
        # one: five minutes by default, in one start of eighty. Added partitions are noticed soon, too.
        "metadata_max_age_ms": 3_000,
        # An idle member takes 2.4 % of a core at 100 ms, 1.8 at 250 and 1.4 at 500; the broker for it 2.5, 2.0 and 1.5.
        # But a partition that is resumed, or was drained just now, is requested only once the fetch of the others has
        # returned.
        "fetch_max_wait_ms": 250,
        "max_partition_fetch_bytes": settings.max_message_bytes,
        "fetch_max_bytes": max(_FETCH_MIN_BYTES, settings.max_message_bytes),
        "bootstrap_timeout_ms": 2_000,
        "metrics_enabled": False,
    }
