"""Settings, errors and records of kafka-python, translated for every Kafka client of Penstock.

Beside its public interface this module uses `kafka.net.compat.KafkaNetClient` and the argument `kafka_client` of the
clients (kafka-python 3.0): a constructor that fails leaves its network thread behind, and only the owner of the network
client can end it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from kafka import ConsumerRebalanceListener, TopicPartition, errors
from kafka.net.compat import KafkaNetClient

from penstock.broker.base import Partition
from penstock.config import KafkaSettings
from penstock.errors import ConfigError, PenstockError, PermanentError, UnavailableError
from penstock.records import Position, Record

if TYPE_CHECKING:
    from kafka.consumer.fetcher import ConsumerRecord
    from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

# A command waits this long for the first answer of a broker before it reports that there is none.
BOOTSTRAP_TIMEOUT_MS = 8_000

# kafka-python logs every failed attempt of every request, several a second while a broker is unavailable. Penstock
# reports what matters of it once, in its own words.
_kafka_logger = logging.getLogger("kafka")
if _kafka_logger.level == logging.NOTSET:
    _kafka_logger.setLevel(logging.CRITICAL)


class ConsumerClient(Protocol):
    """The methods of kafka-python's `KafkaConsumer` that Penstock calls; kafka-python has no types of its own."""

    def subscribe(self, topics: Sequence[str], *, listener: ConsumerRebalanceListener) -> None:
        """Joins the group for these topics."""

    def poll(
        self, *, timeout_ms: float, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        """Fetches records, and keeps the membership."""

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Reads these partitions, without a group."""

    def assignment(self) -> Collection[TopicPartition]:
        """Returns the partitions that are read now."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Sets the next offset to fetch."""

    def position(self, partition: TopicPartition) -> int:
        """Returns the next offset to fetch."""

    def pause(self, *partitions: TopicPartition) -> None:
        """Stops fetching."""

    def resume(self, *partitions: TopicPartition) -> None:
        """Continues fetching."""

    def committed(self, partition: TopicPartition, *, timeout_ms: float) -> int | None:
        """Reads the group's committed offset."""

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], *, timeout_ms: float) -> None:
        """Commits offsets for the group."""

    def beginning_offsets(
        self, partitions: Sequence[TopicPartition], *, timeout_ms: float
    ) -> dict[TopicPartition, int]:
        """Reads the first offset of each log."""

    def end_offsets(self, partitions: Sequence[TopicPartition], *, timeout_ms: float) -> dict[TopicPartition, int]:
        """Reads the last stable offset of each log."""

    def partitions_for_topic(self, topic: str) -> Collection[int] | None:
        """Returns the numbers of a topic's partitions; None if it does not exist."""

    def group_metadata(self) -> ConsumerGroupMetadata:
        """Returns this member's id and generation."""

    def close(self, *, autocommit: bool, timeout_ms: float | None = None) -> None:
        """Leaves the group and ends the network thread."""


def connection_arguments(kafka: KafkaSettings) -> dict[str, Any]:
    """Returns the keyword arguments that consumer, producer and admin client of kafka-python share.

    Raises:
        ConfigError: no bootstrap servers are set.
    """
    if kafka.bootstrap_servers is None:
        raise ConfigError(
            "kafka.bootstrap_servers is not set and no `penstock up` runs on this data folder. Start one, or set it."
        )
    arguments: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in kafka.bootstrap_servers.split(",")],
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
        "client_id": "penstock",
        "security_protocol": kafka.security_protocol,
        "reconnect_backoff_ms": 100,
        "reconnect_backoff_max_ms": 2_000,
    }
    if kafka.sasl_mechanism is not None:
        arguments["sasl_mechanism"] = kafka.sasl_mechanism
        arguments["sasl_plain_username"] = kafka.sasl_username
        arguments["sasl_plain_password"] = kafka.sasl_password and kafka.sasl_password.get_secret_value()
    if kafka.ssl_cafile is not None:
        arguments["ssl_cafile"] = str(kafka.ssl_cafile)
    return arguments


def open_client(make: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Opens a client of kafka-python. If its constructor fails, ends the network thread that it would leave behind."""
    networks: list[Any] = []

    def remember(**configs: Any) -> Any:
        networks.append(KafkaNetClient(**configs))
        return networks[-1]

    try:
        return make(**arguments, kafka_client=remember)
    except BaseException:
        for network in networks:
            network.close()
        raise


@contextmanager
def translated(doing: str, kafka: KafkaSettings) -> Iterator[None]:
    """Raises kafka-python's errors of the block as Penstock's. `doing` completes "could not …"."""
    try:
        yield
    except (errors.KafkaError, OSError) as exc:
        raise translate(exc, doing, kafka) from exc


def translate(exc: BaseException, doing: str, kafka: KafkaSettings) -> PenstockError:
    """Returns Penstock's error for one of kafka-python's.

    A failure that no retry can cure is a `ConfigError` or `PermanentError`, any other an `UnavailableError`.
    """
    cause = describe(exc)
    server = f"Kafka at {kafka.bootstrap_servers}"
    if isinstance(exc, errors.InvalidSessionTimeoutError):
        return ConfigError(
            f"could not {doing}: {server} refuses a session of {kafka.session_timeout_ms} ms ({cause}). Its "
            "group.min.session.timeout.ms and group.max.session.timeout.ms limit kafka.session_timeout_ms, and "
            "ingest.lease_timeout_s for the group of the lease (….control)."
        )
    if isinstance(exc, _REFUSED):
        return ConfigError(f"could not {doing}: {server} refuses this client ({cause}). Check the kafka.* settings.")
    if isinstance(exc, _UNKNOWN_TOPIC):
        return PermanentError(f"could not {doing}: {server} has no such topic ({cause}).")
    if isinstance(exc, _NO_ANSWER) or getattr(exc, "retriable", False) or isinstance(exc, OSError):
        return UnavailableError(
            f"could not {doing}: {server} does not answer ({cause}). Check that it runs and that "
            "kafka.bootstrap_servers is right."
        )
    return PermanentError(f"could not {doing}: {server} answers {cause}.")


_REFUSED: tuple[type[BaseException], ...] = (
    errors.AuthorizationError,
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.KafkaConfigurationError,
    errors.InvalidGroupIdError,
    errors.InconsistentGroupProtocolError,
    errors.IncompatibleBrokerVersion,
)
_UNKNOWN_TOPIC: tuple[type[BaseException], ...] = (errors.UnknownTopicOrPartitionError, errors.InvalidTopicError)
_NO_ANSWER: tuple[type[BaseException], ...] = (
    errors.KafkaConnectionError,
    errors.KafkaTimeoutError,
    errors.NodeNotReadyError,
    errors.BrokerNotAvailableError,
)


def describe(exc: BaseException) -> str:
    """Returns the type of an exception, with its text if it has one."""
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__


def to_record(raw: ConsumerRecord) -> Record:
    """Converts kafka-python's `ConsumerRecord`."""
    return Record(
        position=Position(raw.topic, raw.partition, raw.offset),
        key=raw.key,
        value=raw.value,
        headers=tuple((name, value or b"") for name, value in raw.headers or ()),
        timestamp_ms=raw.timestamp,
    )


def to_partition(tp: TopicPartition) -> Partition:
    """Converts kafka-python's `TopicPartition`."""
    return Partition(tp.topic, tp.partition)


def to_topic_partition(partition: Partition) -> TopicPartition:
    """Converts a partition for kafka-python."""
    return TopicPartition(partition.topic, partition.partition)


def list_offsets(offsets: Mapping[Partition, int]) -> str:
    """Writes offsets by partition for a message: `media.text[0] to 12, media.text[1] to 7`."""
    return ", ".join(f"{partition} to {offset}" for partition, offset in offsets.items())
