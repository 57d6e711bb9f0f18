"""Wraps kafka-python's producer: futures of the standard library, and a bound on the buffered bytes.

Every in-sync replica acknowledges (`acks=all`), and messages of a partition keep their order (one request in flight).
Not compressed: media are already.

Not idempotent: in kafka-python 3.0.12 one message that the broker refuses permanently (too large, a bad timestamp) ends
an idempotent producer, and every message after it fails with the same error. So a retry whose first answer was lost can
write a message twice; it has the key or the id of the first, and is settled as superseding it.

The private part of kafka-python that is used here is `KafkaProducer._sender.force_close`, in `close`. pyproject.toml
pins the minor version for which this was written.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import kafka
from kafka import errors

from penstock.broker.base import Message, MessageTooLargeError
from penstock.broker.client import connection_arguments, open_client, refusal_of, translate
from penstock.broker.rights import Right, denied_topic
from penstock.broker.topics import dead_letter_bytes
from penstock.config import MIB, KafkaSettings
from penstock.errors import ConfigError, PenstockError, PermanentError, UnavailableError
from penstock.records import Position

_BUFFER_BYTES = 64 * MIB  # unacknowledged; kafka-python itself buffers without end
_BLOCK_S = 10.0  # how long `send` waits for room in the buffer, or for the topic's partitions
_DELIVERY_S = 30.0  # how long a message may take to be acknowledged, all retries included
_CLOSE_S = 5.0  # for the network thread to end, once nothing is left to send
_OVERHEAD_BYTES = 64  # of a record and its batch on the wire, at most, besides key, value and headers


class MessageProducer:
    """Writes messages (`broker.base.Producer`). Safe to call from several threads.

    Args:
        kafka_settings: the brokers.
        max_request_bytes: the largest message, including key and headers; None: that of the dead-letter topic, which is
            the largest of all (a media topic then refuses a message that is too large for it).

    Raises:
        UnavailableError: no broker answers within 8 s.
        ConfigError: no bootstrap servers, or they refuse this client.
    """

    def __init__(self, kafka_settings: KafkaSettings, *, max_request_bytes: int | None = None) -> None:
        self._settings = kafka_settings
        self._max_request_bytes = max_request_bytes or dead_letter_bytes(kafka_settings)
        self._buffer_bytes = max(_BUFFER_BYTES, self._max_request_bytes)
        self._open = 0
        self._open_bytes = 0
        self._changed = threading.Condition()
        self._closed = False
        try:
            self._client = open_client(kafka.KafkaProducer, _arguments(kafka_settings, self._max_request_bytes))
        except errors.KafkaError as exc:
            raise translate(exc, "connect a producer", kafka_settings) from exc

    def send(self, message: Message) -> Future[Position]:
        """See `broker.base.Producer.send`."""
        future: Future[Position] = Future()
        future.set_running_or_notify_cancel()  # a message that is sent cannot be cancelled
        size = _size(message)
        topic = message.topic
        doing = f"write a message of {size:,} bytes to {topic}"
        if size > self._max_request_bytes:
            future.set_exception(_too_large(doing, f"this producer's limit of {self._max_request_bytes:,} bytes"))
            return future
        try:
            self._reserve(size, doing)
        except UnavailableError as exc:
            future.set_exception(exc)
            return future
        try:
            sent = self._client.send(
                message.topic,
                value=message.value,
                key=message.key,
                headers=list(message.headers),
                partition=message.partition,
                timestamp_ms=message.timestamp_ms,
            )
        except (errors.KafkaError, ValueError, TypeError) as exc:
            self._settle(size)
            future.set_exception(self._translated(exc, doing, topic))
            return future
        sent.add_callback(self._acknowledged, future, size)
        sent.add_errback(self._failed, future, size, doing, topic)
        return future

    def flush(self, timeout_s: float) -> None:
        """See `broker.base.Producer.flush`."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._open == 0, timeout_s)
            if not done:
                raise UnavailableError(
                    f"{self._open} messages to Kafka at {self._settings.bootstrap_servers} were not acknowledged "
                    f"within {timeout_s:g} s. Check that it runs."
                )

    def close(self, timeout_s: float) -> None:
        """See `broker.base.Producer.close`."""
        if self._closed:
            return
        self._closed = True
        try:
            self.flush(timeout_s)
        except UnavailableError:
            # kafka-python's own `close` gives up while a message is unacknowledged, and leaves its thread running.
            self._client._sender.force_close()
        self._client.close(timeout=_CLOSE_S)

    def _reserve(self, size: int, doing: str) -> None:
        """Waits until the message fits the buffer.

        Raises:
            UnavailableError: it did not fit in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._open_bytes + size <= self._buffer_bytes, _BLOCK_S):
                raise UnavailableError(
                    f"could not {doing}: {self._open_bytes:,} bytes are buffered already and Kafka at "
                    f"{self._settings.bootstrap_servers} acknowledged none in {_BLOCK_S:g} s. Check that it runs."
                )
            self._open += 1
            self._open_bytes += size

    def _settle(self, size: int) -> None:
        with self._changed:
            self._open -= 1
            self._open_bytes -= size
            self._changed.notify_all()

    def _acknowledged(self, future: Future[Position], size: int, metadata: Any) -> None:
        future.set_result(Position(metadata.topic, metadata.partition, metadata.offset))
        self._settle(size)

    def _failed(self, future: Future[Position], size: int, doing: str, topic: str, exc: Exception) -> None:
        future.set_exception(self._translated(exc, doing, topic))
        self._settle(size)

    def _translated(self, exc: Exception, doing: str, topic: str) -> PenstockError:
        if isinstance(exc, (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)):
            error: PenstockError = _too_large(doing, "the topic's max.message.bytes")
        elif isinstance(exc, (ValueError, TypeError)):
            error = PermanentError(f"could not {doing}: {exc}.")
        elif isinstance(exc, errors.TopicAuthorizationFailedError):
            error = ConfigError(f"could not {doing}: {denied_topic(self._settings, Right.WRITE, topic)}.")
        elif self._closed:
            error = UnavailableError(f"could not {doing}: it was not acknowledged before the producer was closed.")
        else:
            error = translate(refusal_of(self._client) or exc, doing, self._settings, Right.WRITE)
        error.__cause__ = exc
        return error


def _size(message: Message) -> int:
    headers = sum(len(name.encode()) + len(value) + 8 for name, value in message.headers)
    return len(message.key or b"") + len(message.value or b"") + headers + _OVERHEAD_BYTES


def _too_large(doing: str, limit: str) -> MessageTooLargeError:
    return MessageTooLargeError(
        f"could not {doing}: it is more than {limit} allows. Raise kafka.max_message_bytes and the topic's "
        "max.message.bytes, or put the media elsewhere and send their address as dataref."
    )


def _arguments(settings: KafkaSettings, max_request_bytes: int) -> dict[str, Any]:
    return connection_arguments(settings) | {
        "acks": "all",
        "enable_idempotence": False,
        "max_in_flight_requests_per_connection": 1,
        "compression_type": None,
        "max_request_size": max_request_bytes + 4096,  # kafka-python counts a batch's overhead too
        "linger_ms": 5,
        "batch_size": 256 * 1024,
        "max_block_ms": _BLOCK_S * 1000,
        "request_timeout_ms": 10_000,
        "delivery_timeout_ms": int(_DELIVERY_S * 1000),
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
    }
