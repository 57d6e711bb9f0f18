"""Settings, errors and records of kafka-python, translated for every Kafka client of Penstock.

Beside its public interface this module uses the argument `kafka_client` of the clients (kafka-python 3.0): a
constructor that fails leaves its network thread behind, and only the owner of the network client can end it.
"""

from __future__ import annotations

import logging
import ssl
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kafka import ConsumerRebalanceListener, TopicPartition, errors

from penstock.broker.base import Partition
from penstock.broker.oauth import token_provider
from penstock.broker.refusals import Network, Refusal
from penstock.broker.rights import Right, denied
from penstock.config import KafkaSettings
from penstock.errors import ConfigError, PenstockError, PermanentError, UnavailableError
from penstock.records import Position, Record

if TYPE_CHECKING:
    from kafka.consumer.fetcher import ConsumerRecord
    from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

# A command waits this long for the first answer of a broker before it reports that there is none.
BOOTSTRAP_TIMEOUT_MS = 8_000

_CREDENTIALS = "penstock_credentials"  # among the arguments: reads those of a new connection; not kafka-python's

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
        ConfigError: no bootstrap servers or no credentials are set, or a file of certificates cannot be read.
    """
    if kafka.bootstrap_servers is None:
        raise ConfigError(
            "kafka.bootstrap_servers is not set and no `penstock up` runs on this data folder. Start one, or set it."
        )
    return {
        "bootstrap_servers": [server.strip() for server in kafka.bootstrap_servers.split(",")],
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
        "client_id": kafka.client_id,
        "security_protocol": kafka.security_protocol,
        "reconnect_backoff_ms": 100,
        "reconnect_backoff_max_ms": 2_000,
        **credentials(kafka),
        _CREDENTIALS: partial(credentials, kafka),
    }


def credentials(kafka: KafkaSettings) -> dict[str, Any]:
    """Returns the arguments by which a connection is encrypted and authenticated, of what the files have now.

    Raises:
        ConfigError: some are not set, or a file cannot be read.
    """
    arguments: dict[str, Any] = {}
    if kafka.uses_tokens:
        arguments |= {"sasl_mechanism": kafka.sasl_mechanism, "sasl_oauth_token_provider": token_provider(kafka.oauth)}
    elif kafka.uses_sasl:
        arguments |= _sasl_arguments(kafka)
    if kafka.uses_tls:
        arguments["ssl_context"] = _ssl_context(kafka)
    return arguments


def _sasl_arguments(kafka: KafkaSettings) -> dict[str, Any]:
    if kafka.sasl_mechanism is None or kafka.sasl_username is None or not kafka.has_secret("sasl_password"):
        raise ConfigError(
            f"kafka.security_protocol {kafka.security_protocol} needs kafka.sasl_mechanism, kafka.sasl_username and "
            "kafka.sasl_password (or kafka.sasl_password_file)."
        )
    return {
        "sasl_mechanism": kafka.sasl_mechanism,
        "sasl_plain_username": kafka.sasl_username,
        "sasl_plain_password": kafka.secret("sasl_password"),
    }


def _ssl_context(kafka: KafkaSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = kafka.ssl_check_hostname
    if kafka.ssl_cafile is None:
        context.load_default_certs()
    else:
        with _readable("kafka.ssl_cafile", kafka.ssl_cafile):
            context.load_verify_locations(kafka.ssl_cafile)
    if kafka.ssl_certfile is not None:
        # OpenSSL would ask for a password at the terminal if there is none.
        password = kafka.secret("ssl_key_password")
        with _readable("kafka.ssl_certfile, its kafka.ssl_keyfile or kafka.ssl_key_password", kafka.ssl_certfile):
            context.load_cert_chain(kafka.ssl_certfile, kafka.ssl_keyfile, password)
    return context


@contextmanager
def _readable(setting: str, file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as exc:  # an SSLError is an OSError
        raise ConfigError(f"{setting} cannot be used ({file}: {exc}). It has to be a file in PEM.") from exc


_networks: weakref.WeakKeyDictionary[Any, Network] = weakref.WeakKeyDictionary()


def open_client(make: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Opens a client of kafka-python. If its constructor fails, ends the network thread that it would leave behind.

    Raises:
        KafkaError: kafka-python's, or `Refusal` if brokers were reached and refuse this client.
    """
    networks: list[Network] = []
    arguments = dict(arguments)
    read_credentials = arguments.pop(_CREDENTIALS)

    def remember(**configs: Any) -> Network:
        networks.append(Network(read_credentials, **configs))
        return networks[-1]

    try:
        client = make(**arguments, kafka_client=remember)
    except BaseException as exc:
        for network in networks:
            network.close()
            if network.refusal is not None and isinstance(exc, errors.KafkaError):
                raise network.refusal from exc
        raise
    _networks[client] = networks[0]
    return client


def refusal_of(client: object) -> Refusal | None:
    """Returns why brokers refuse the connections of a client that was opened; None if they do not."""
    return None if client not in _networks else network_of(client).refusal


def network_of(client: object) -> Network:
    """Returns the network client of a client that was opened."""
    return _networks[client]


@contextmanager
def translated(doing: str, kafka: KafkaSettings, right: Right = Right.READ) -> Iterator[None]:
    """Raises kafka-python's errors of the block as Penstock's. `doing` completes "could not …"."""
    try:
        yield
    except (errors.KafkaError, OSError) as exc:
        raise translate(exc, doing, kafka, right) from exc


def translate(exc: BaseException, doing: str, kafka: KafkaSettings, right: Right = Right.READ) -> PenstockError:
    """Returns Penstock's error for one of kafka-python's.

    A failure that no retry can cure is a `ConfigError` or `PermanentError`, any other an `UnavailableError`.

    Args:
        exc: the error.
        doing: completes "could not …".
        kafka: the settings of the client.
        right: what the client needs on the topic or group, if that is denied.
    """
    cause = describe(exc)
    server = f"Kafka at {kafka.bootstrap_servers}"
    if refused := _refused(exc, kafka, right):
        return ConfigError(f"could not {doing}: {refused}")
    if isinstance(exc, _UNKNOWN_TOPIC):
        return PermanentError(f"could not {doing}: {server} has no such topic ({cause}).")
    if isinstance(exc, _NO_ANSWER) or getattr(exc, "retriable", False) or isinstance(exc, OSError):
        return UnavailableError(
            f"could not {doing}: {server} does not answer ({cause}). Check that it runs and that "
            "kafka.bootstrap_servers and kafka.security_protocol are right."
        )
    return PermanentError(f"could not {doing}: {server} answers {cause}.")


def _refused(exc: BaseException, kafka: KafkaSettings, right: Right) -> str:
    """Returns what has to be set or granted before this client can do what it tried; empty for other errors."""
    cause = describe(exc)
    server = f"Kafka at {kafka.bootstrap_servers}"
    if isinstance(exc, Refusal):
        return f"no connection to {server}: {exc.args[0]}."
    if isinstance(exc, errors.AuthorizationError):
        return f"{denied(exc, kafka, right)}."
    if isinstance(exc, errors.InvalidSessionTimeoutError):
        return (
            f"{server} refuses a session of {kafka.session_timeout_ms} ms ({cause}). Its "
            "group.min.session.timeout.ms and group.max.session.timeout.ms limit kafka.session_timeout_ms, and "
            "ingest.lease_timeout_s for the group of the lease (….control)."
        )
    if isinstance(exc, _REFUSED):
        return f"{server} refuses this client ({cause}). Check the kafka.* settings."
    return ""


_REFUSED: tuple[type[BaseException], ...] = (
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
    """Converts kafka-python's `ConsumerRecord`. A header without a value is as absent."""
    return Record(
        position=Position(raw.topic, raw.partition, raw.offset),
        key=raw.key,
        value=raw.value,
        headers=tuple((name, value) for name, value in raw.headers or () if value is not None),
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
