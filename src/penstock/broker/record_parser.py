"""Step 1 as the settings configure it: a picklable function from a record to an event."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from penstock.broker.replay_keys import ReplayKeys
from penstock.broker.wire import parse_record
from penstock.config import Settings
from penstock.config.envelope import EnvelopeSettings
from penstock.records import DEFAULT_ACL, Event, Modality, Record, Rejected, sorted_labels


@dataclass(frozen=True, slots=True)
class RecordParser:
    """Parses the records of the media topics. See `parse_record` for the rest.

    Attributes:
        topics: the modality of each topic.
        owners: the tenant of each topic that belongs to one.
        framed_topics: those whose values begin with the frame of a Schema Registry serializer.
        envelopes: of the topics whose values are rows of tables.
        replays: the keys by which a replay is known.
        now_ms: the present, milliseconds since the epoch, for the bound on timestamps; None: there is no bound.
        default_acl: the labels of an event that names none.
    """

    topics: Mapping[str, Modality]
    owners: Mapping[str, str]
    default_tenant: str
    max_inline_bytes: int
    framed_topics: frozenset[str]
    replays: ReplayKeys
    envelopes: Mapping[str, EnvelopeSettings]
    now_ms: Callable[[], int] | None = None
    default_acl: tuple[str, ...] = DEFAULT_ACL

    @classmethod
    def of(cls, settings: Settings, replays: ReplayKeys, *, now_ms: Callable[[], int] | None = None) -> Self:
        """Returns the parser that the settings configure, of all media topics."""
        kafka, topics = settings.kafka, settings.kafka.topics()
        owners = {topic: owner for topic in topics if (owner := kafka.tenant_of(topic)) is not None}
        framed = frozenset(kafka.framed_topics)
        acl = sorted_labels(settings.auth.default_acl)
        return cls(
            topics,
            owners,
            settings.tenant,
            settings.fetch.max_bytes,
            framed,
            replays,
            kafka.envelopes,
            now_ms,
            acl,
        )

    def of_any_size(self) -> Self:
        """Returns the same parser without a limit of size.

        A limit decides whether an event can be indexed, not which asset it belongs to.
        """
        return replace(self, max_inline_bytes=sys.maxsize)

    def __call__(self, record: Record) -> Event | Rejected:
        """Parses a record; never raises for its content."""
        topic = record.position.topic
        return parse_record(
            record,
            modality=self.topics[topic],
            default_tenant=self.default_tenant,
            max_inline_bytes=self.max_inline_bytes,
            framed=topic in self.framed_topics,
            envelope=self.envelopes.get(topic),
            owner=self.owners.get(topic),
            replays=self.replays,
            now_ms=None if self.now_ms is None else self.now_ms(),
            default_acl=self.default_acl,
        )


def present_ms() -> int:
    """Returns the system's time, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
