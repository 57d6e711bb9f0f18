"""Takes events by HTTP and produces them to Kafka.

    1 compose   every event of the request becomes a message, or the request is refused and nothing of it is produced
    2 send      all messages, within what a replica may have unacknowledged
    3 wait      until every in-sync replica of the broker has each of them

So an accepted event is as durable as any other, and ends as any other does. A request that failed in step 3 can be sent
again: an event of the same key that comes twice is indexed once.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from penstock.auth import Principal
from penstock.broker.base import Message, MessageTooLargeError, Producer
from penstock.broker.given_vectors import given_vector
from penstock.config import MIB, Settings
from penstock.errors import (
    BadInputError,
    ConfigError,
    ForbiddenError,
    OverloadedError,
    PenstockError,
    QueryError,
    Reason,
    UnavailableError,
    UsageError,
)
from penstock.observability import metrics
from penstock.produce.compose import MessageComposer
from penstock.produce.items import ProduceOptions
from penstock.records import MAX_LABELS, Modality, Position, sorted_labels

SOURCE = "penstock/events"
logger = logging.getLogger(__name__)

_THREADS = 4  # a message of 16 MiB takes 20 ms to detect and copy
_MAX_OPEN_BYTES = 64 * MIB  # as much as a producer buffers
_BUSY_RETRY_S = 1.0
_CLOSE_TIMEOUT_S = 5.0
# Clients send a request again within seconds or minutes. An answer of 500 events takes some 100 kB.
_REMEMBERED_S = 3_600.0
_MAX_REMEMBERED = 10_000
_MAX_REMEMBERED_EVENTS = 200_000
_ID_NAMESPACE = uuid.UUID("5b3c7f0e-6f0a-5d7f-9d57-3a1e6f1f7d11")


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event of a request: exactly one of text, data and uri, or none of them for a deletion.

    Attributes:
        key: of the asset; None: the id, the uri or a hash of the content.
        text, data, uri: the media.
        modality: of the media; None: detected in the bytes.
        title, attributes, time_ms, id: as of `encode_event`.
        acl: labels; None: those that the caller's events have by default.
        vectors: the fingerprint of an encoder and what it made of the media, of each.
        pointer: where the request has it, as a JSON pointer.
    """

    key: str | None = None
    text: str | None = None
    data: bytes | None = field(default=None, repr=False)
    uri: str | None = None
    modality: Modality | None = None
    title: str = ""
    attributes: Mapping[str, object] = field(default_factory=dict)
    acl: tuple[str, ...] | None = None
    time_ms: int | None = None
    id: str | None = None
    vectors: tuple[tuple[str, tuple[float, ...]], ...] = ()
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class AcceptedEvent:
    """An event that the broker has acknowledged: the key of its asset, and its position."""

    key: str
    position: Position


@dataclass(frozen=True, slots=True)
class _Remembered:
    """A request with an idempotency key: the digest of its content, its answer, and when it began."""

    digest: str
    answer: asyncio.Future[Sequence[AcceptedEvent]]
    events: int
    began_s: float


class EventService:
    """The use case behind `/v1/events`. Belongs to one event loop.

    Args:
        settings: topics, tenants and limits.
        open_producer: connects to Kafka, which may take seconds; None: there is no Kafka.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: Settings,
        open_producer: Callable[[], Producer] | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._open_producer = open_producer
        self._clock = clock
        self._producer: Producer | None = None
        self._producer_lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="events")
        self._open_bytes = 0
        self._remembered: OrderedDict[tuple[str, str, str], _Remembered] = OrderedDict()

    @property
    def max_events(self) -> int:
        """The number of events that one request may have."""
        return self._settings.query.max_events

    @property
    def max_event_bytes(self) -> int:
        """The bytes that the media of one event may have."""
        return MessageComposer(self._settings, ProduceOptions()).inline_limit

    def check_accepts(self) -> None:
        """Raises ForbiddenError if this query plane takes no events."""
        if not self._settings.takes_events:
            raise ForbiddenError("this query plane takes no events (query.accept_events)")

    async def send(
        self, caller: Principal, tenant: str, events: Sequence[NewEvent], *, idempotency_key: str | None
    ) -> Sequence[AcceptedEvent]:
        """Produces events, and returns once the broker has acknowledged all of them.

        A request of the same caller, tenant and idempotency key has the same answer, and is not produced again, as long
        as this replica remembers it.

        Raises:
            QueryError: an event is invalid, or the key was used for another request.
            ForbiddenError: the caller lacks a label, or the tenant may not name an address.
            OverloadedError: too much is unacknowledged.
            UnavailableError: Kafka did not acknowledge all of them in time.
        """
        self.check_accepts()
        if idempotency_key is None:
            return await self._send(caller, tenant, events)
        named = [
            event if event.id is not None else replace(event, id=_id_of(caller, tenant, idempotency_key, number))
            for number, event in enumerate(events)
        ]
        return await self._once((caller.subject, tenant, idempotency_key), caller, tenant, named)

    async def _once(
        self, name: tuple[str, str, str], caller: Principal, tenant: str, events: Sequence[NewEvent]
    ) -> Sequence[AcceptedEvent]:
        digest = await asyncio.get_running_loop().run_in_executor(self._threads, _digest_of, events)
        self._forget_old()
        if (known := self._remembered.get(name)) is not None:
            if known.digest != digest:
                raise QueryError("the Idempotency-Key was used for a request with other events", status=422)
            answered = await asyncio.shield(known.answer)
            metrics.RECEIVED_EVENTS.labels("repeated").inc(known.events)
            return answered
        answer: asyncio.Future[Sequence[AcceptedEvent]] = asyncio.get_running_loop().create_future()
        self._remembered[name] = _Remembered(digest, answer, len(events), self._clock())
        try:
            accepted = await self._send(caller, tenant, events)
        except BaseException as exc:
            del self._remembered[name]  # sent again, it is tried again
            answer.set_exception(exc if isinstance(exc, PenstockError) else UnavailableError("the request ended"))
            answer.exception()  # perhaps no request waits for it
            raise
        answer.set_result(accepted)
        return accepted

    def _forget_old(self) -> None:
        """Forgets what is too old or too much, the oldest first, and nothing that has no answer yet."""
        held = sum(known.events for known in self._remembered.values()) if self._remembered else 0
        for name, known in list(self._remembered.items()):
            is_old = self._clock() - known.began_s > _REMEMBERED_S
            if not is_old and len(self._remembered) <= _MAX_REMEMBERED and held <= _MAX_REMEMBERED_EVENTS:
                return
            if known.answer.done():
                del self._remembered[name]
                held -= known.events

    async def _send(self, caller: Principal, tenant: str, events: Sequence[NewEvent]) -> Sequence[AcceptedEvent]:
        loop = asyncio.get_running_loop()
        composer = self._composer(caller, tenant)
        messages = await loop.run_in_executor(self._threads, _compose, events, composer, caller)  # 1
        size = sum(len(message.value or b"") + len(message.key or b"") for message in messages)
        if self._open_bytes and self._open_bytes + size > _MAX_OPEN_BYTES:
            raise OverloadedError(
                f"{self._open_bytes:,} bytes of events wait for Kafka already", retry_after_s=_BUSY_RETRY_S
            )
        self._open_bytes += size
        try:
            futures = await loop.run_in_executor(self._threads, self._send_all, messages)  # 2
            waiting = (asyncio.wrap_future(future) for future in futures)
            results = await asyncio.gather(*waiting, return_exceptions=True)  # 3
        finally:
            self._open_bytes -= size
        accepted = _accepted(messages, results)
        metrics.RECEIVED_EVENTS.labels("accepted").inc(len(accepted))
        return accepted

    def _composer(self, caller: Principal, tenant: str) -> MessageComposer:
        default = sorted_labels(self._settings.auth.default_acl)
        acl: tuple[str, ...] | None = None
        if caller.labels is not None and not caller.labels.issuperset(default):
            acl = tuple(sorted(caller.labels))[:MAX_LABELS]  # what a caller sends, it can read
        return MessageComposer(self._settings, ProduceOptions(tenant=tenant, acl=acl), source=SOURCE)

    def _send_all(self, messages: Sequence[Message]) -> list[Future[Position]]:
        """Sends messages up to the first that no broker takes, which would be one long wait after the other."""
        producer = self._connected()
        futures: list[Future[Position]] = []
        for message in messages:
            futures.append(producer.send(message))
            if futures[-1].done() and futures[-1].exception() is not None:
                break
        return futures

    def _connected(self) -> Producer:
        if self._open_producer is None:
            raise UnavailableError("this query plane takes no events: set kafka.bootstrap_servers")
        with self._producer_lock:
            if self._producer is None:
                self._producer = self._open_producer()
            return self._producer

    def close(self) -> None:
        """Ends threads and the connection, after what was sent is acknowledged."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        with self._producer_lock:
            if self._producer is not None:
                self._producer.close(_CLOSE_TIMEOUT_S)


def _compose(events: Sequence[NewEvent], composer: MessageComposer, caller: Principal) -> list[Message]:
    """Returns the message of each event.

    Raises:
        QueryError: one cannot be sent.
        ForbiddenError: the caller lacks a label, or no rule of `fetch.allow` fits an address.
    """
    messages = []
    for event in events:
        _check_labels(event, caller)
        try:
            messages.append(_message(event, composer))
        except BadInputError as exc:
            if exc.reason is Reason.FORBIDDEN:
                raise ForbiddenError(f"{event.pointer or 'the event'}: {exc}") from exc
            raise QueryError(f"{event.pointer or 'the event'}: {exc}", status=422, field=event.pointer or None) from exc
        except ConfigError as exc:
            raise QueryError("the tenant has no topic of this kind", status=422, field=event.pointer or None) from exc
        except UsageError as exc:
            raise QueryError(f"{event.pointer or 'the event'} {exc}", status=422, field=event.pointer or None) from exc
    return messages


def _check_labels(event: NewEvent, caller: Principal) -> None:
    if caller.labels is not None and (foreign := sorted(set(event.acl or ()) - caller.labels)):
        raise ForbiddenError(f"the credentials do not have the label {foreign[0][:80]}, which an event names in acl")


def _message(event: NewEvent, composer: MessageComposer) -> Message:
    tenant = composer.tenant_of(None)
    fields: dict[str, object] = {"title": event.title, "attributes": event.attributes, "event_id": event.id}
    fields |= {"time_ms": event.time_ms, "acl": event.acl if event.acl is not None else composer.options.acl}
    fields["vectors"] = tuple(given_vector(encoder, values) for encoder, values in event.vectors)
    topic = None if event.modality is None else composer.topic_of(event.modality, tenant)
    if event.data is not None:
        key = event.key or event.id or hashlib.sha256(event.data).hexdigest()
        return composer.of_bytes(event.data, key=key, fields=fields, topic=topic)
    if event.text is not None:
        return composer.of_text(event.text, key=event.key, fields=fields, topic=topic)
    if event.uri is not None:
        composer.check_address(event.uri, tenant)
        return composer.of_address(event.uri, key=event.key or event.id or event.uri, fields=fields, topic=topic)
    return composer.message({"topic": topic, "key": event.key, "payload": None, "event_id": event.id})


def _accepted(messages: Sequence[Message], results: Sequence[Position | BaseException]) -> Sequence[AcceptedEvent]:
    """Returns the events with their positions.

    Raises:
        QueryError: 413, an event is larger than its topic allows.
        UnavailableError: some were not acknowledged.
    """
    failures = [result for result in results if isinstance(result, BaseException)]
    if not failures and len(results) == len(messages):
        pairs = zip(messages, results, strict=True)
        return [
            AcceptedEvent((message.key or b"").decode(), position)
            for message, position in pairs
            if isinstance(position, Position)
        ]
    first = failures[0]
    if isinstance(first, MessageTooLargeError):
        raise QueryError(str(first), status=413) from first
    if not isinstance(first, PenstockError) or isinstance(first, ConfigError):
        raise first
    acknowledged = len(results) - len(failures)
    logger.warning("%d of %d events of a request were not acknowledged: %s", len(failures), len(messages), first)
    raise UnavailableError(
        f"{acknowledged} of {len(messages)} events were acknowledged by Kafka. Send the request again: an event that "
        "comes twice is indexed once"
    ) from first


def _id_of(caller: Principal, tenant: str, idempotency_key: str, number: int) -> str:
    return str(uuid.uuid5(_ID_NAMESPACE, "\n".join((caller.subject, tenant, idempotency_key, str(number)))))


def _digest_of(events: Sequence[NewEvent]) -> str:
    """Returns the digest of all that events say."""
    digest = hashlib.sha256()
    for event in events:
        digest.update(repr(replace(event, data=None)).encode("utf-8", "surrogatepass"))
        digest.update(b"" if event.data is None else hashlib.sha256(event.data).digest())
    return digest.hexdigest()
