"""The control group on Kafka: a consumer group over a topic of one partition that never has a record.

The group's coordinator is the compare-and-set that the store lacks: it gives the partition to one member at a time, and
in a higher generation each time. The owner's commits are its heartbeats: the coordinator extends the session of a
member whose commit it accepts, and accepts none of a member that it has removed.
"""

from __future__ import annotations

from typing import Any

from kafka import KafkaAdminClient, TopicPartition, errors

from penstock.broker.base import Consumer, Partition
from penstock.broker.client import connection_arguments, open_client, to_topic_partition, translated
from penstock.broker.consumer import LaneConsumer
from penstock.broker.control import ControlGroupState
from penstock.broker.rights import Right, denied_group
from penstock.broker.topics import ensure_control_topic
from penstock.config import KafkaSettings
from penstock.errors import ConfigError, UnavailableError

_REQUEST_TIMEOUT_MS = 5_000
_RECONNECT_TIMEOUT_MS = 1_000
_NO_GROUP = errors.GroupIdNotFoundError.__name__  # Kafka 4 says so of a group without a first member
_DENIED = errors.GroupAuthorizationFailedError.__name__


class KafkaControlGroup:
    """The control group of an ingest plane's consumer group (`broker.control.ControlGroup`). For one thread.

    Args:
        kafka_settings: names the consumer group.
        session_s: time without a heartbeat after which a member is removed, seconds.

    Raises:
        UnavailableError: no broker answers.
        ConfigError: it refuses this client, the session does not fit, or the control topic has more than one partition.
    """

    def __init__(self, kafka_settings: KafkaSettings, session_s: float) -> None:
        if session_s * 1000 >= kafka_settings.max_poll_interval_ms:
            raise ConfigError(
                f"ingest.lease_timeout_s ({session_s} s) must be below kafka.max_poll_interval_ms "
                f"({kafka_settings.max_poll_interval_ms} ms)."
            )
        self.partition = Partition(kafka_settings.control_topic, 0)
        self._session_s = session_s
        self._settings = kafka_settings.model_copy(
            update={"group": f"{kafka_settings.group}.control", "session_timeout_ms": int(session_s * 1000)}
        )
        self._admin: Any = None
        self._has_answered = False
        ensure_control_topic(kafka_settings)

    def state(self) -> ControlGroupState:
        """See `broker.control.ControlGroup.state`."""
        group = self._settings.group
        try:
            with translated(f"look up the consumer group {group}", self._settings):
                admin = self._connected()
                described = admin.describe_groups([group])[group]
                refuse_error(self._settings, described["error"])
                state = ControlGroupState(len(described["members"]), self._note(admin, group))
                self._has_answered = True
                return state
        except BaseException:
            self.close()
            raise

    def join(self) -> Consumer:
        """See `broker.control.ControlGroup.join`."""
        return LaneConsumer(self._settings, [self.partition.topic], drain_timeout_s=self._session_s)

    def close(self) -> None:
        """See `broker.control.ControlGroup.close`."""
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()

    def _connected(self) -> Any:
        if self._admin is None:
            timeouts = admin_timeouts(self._session_s, has_answered=self._has_answered)
            self._admin = open_client(KafkaAdminClient, connection_arguments(self._settings) | timeouts)
        return self._admin

    def _note(self, admin: Any, group: str) -> str:
        tp: TopicPartition = to_topic_partition(self.partition)
        try:
            committed = admin.list_group_offsets({group: [tp]})[group]
        except errors.GroupIdNotFoundError:
            return ""
        return str(committed[tp].metadata or "") if tp in committed else ""


def admin_timeouts(session_s: float, *, has_answered: bool) -> dict[str, int]:
    """Returns the arguments of an admin client that bound its waits, milliseconds.

    A driver looks the group up in an outage, and must not be silent to its actors for a session in the meantime.

    Args:
        session_s: time without a heartbeat after which a member is removed, seconds.
        has_answered: whether a broker has answered before; the first one may still be starting.
    """
    timeouts = {"request_timeout_ms": min(_REQUEST_TIMEOUT_MS, int(session_s * 250))}
    return timeouts | {"bootstrap_timeout_ms": _RECONNECT_TIMEOUT_MS} if has_answered else timeouts


def refuse_error(settings: KafkaSettings, error: str | None) -> None:
    """Raises the error of the group's description: kafka-python returns it as text, beside an empty list of members.

    Raises:
        UnavailableError: the broker did not describe the group, for example because it loads it.
        ConfigError: this client may not read the group.
    """
    doing = f"could not look up the consumer group {settings.group}"
    if error and _DENIED in error:
        raise ConfigError(f"{doing}: {denied_group(settings, Right.READ)}.")
    if error and _NO_GROUP not in error:
        raise UnavailableError(f"{doing}: the broker answers {error}.")
