"""What every Kafka client of ours needs: the settings in kafka-python's words, and its errors in ours."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka import errors
from kafka.net.compat import KafkaNetClient

from penstock.config import KafkaSettings
from penstock.errors import ConfigError, PenstockError, PermanentError, UnavailableError
from penstock.records import Position, Record

BOOTSTRAP_TIMEOUT_MS = 8_000
"""How long a command waits for the first answer of a broker before it says that there is none."""

# kafka-python logs every failed attempt of every request, several a second while a broker is away. What matters of it
# we say once, in our own words.
_kafka_log = logging.getLogger("kafka")
if _kafka_log.level == logging.NOTSET:
    _kafka_log.setLevel(logging.CRITICAL)


def connection(kafka: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments that consumer, producer and admin client of kafka-python share.

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
    """A client of kafka-python. If its constructor fails, ends the network thread that it would leave behind."""
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
    """Turns kafka-python's errors within into ours. `doing` completes "could not …"."""
    try:
        yield
    except (errors.KafkaError, OSError) as exc:
        raise translate(exc, doing, kafka) from exc


def translate(exc: BaseException, doing: str, kafka: KafkaSettings) -> PenstockError:
    """Our error for one of kafka-python's: what cannot work by trying again is a `ConfigError` or `PermanentError`."""
    what = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    where = f"Kafka at {kafka.bootstrap_servers}"
    if isinstance(exc, _REFUSED):
        return ConfigError(f"could not {doing}: {where} refuses this client ({what}). Check the kafka.* settings.")
    if isinstance(exc, _UNKNOWN_TOPIC):
        return PermanentError(f"could not {doing}: {where} has no such topic ({what}).")
    if isinstance(exc, _AWAY) or getattr(exc, "retriable", False) or isinstance(exc, OSError):
        return UnavailableError(
            f"could not {doing}: {where} does not answer ({what}). Check that it runs and that kafka.bootstrap_servers "
            "is right."
        )
    return PermanentError(f"could not {doing}: {where} says {what}.")


_REFUSED: tuple[type[BaseException], ...] = (
    errors.AuthorizationError,
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.KafkaConfigurationError,
    errors.InvalidGroupIdError,
    errors.InvalidSessionTimeoutError,
    errors.InconsistentGroupProtocolError,
    errors.IncompatibleBrokerVersion,
)
_UNKNOWN_TOPIC: tuple[type[BaseException], ...] = (errors.UnknownTopicOrPartitionError, errors.InvalidTopicError)
_AWAY: tuple[type[BaseException], ...] = (
    errors.KafkaConnectionError,
    errors.KafkaTimeoutError,
    errors.NodeNotReadyError,
    errors.BrokerNotAvailableError,
)


def to_record(found: Any) -> Record:
    """Our record of kafka-python's `ConsumerRecord`."""
    return Record(
        position=Position(found.topic, found.partition, found.offset),
        key=found.key,
        value=found.value,
        headers=tuple((name, value or b"") for name, value in found.headers or ()),
        timestamp_ms=found.timestamp,
    )


def partition_pairs(offsets: Mapping[Any, int]) -> str:
    """`media.text[0] to 12, media.text[1] to 7` of partition → offset, for messages."""
    return ", ".join(f"{partition} to {offset}" for partition, offset in offsets.items())
