"""Reads another topic, of this cluster or of another one: one event for each record of its log."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from penstock.broker.base import LogRange, Message, Partition, TopicReader
from penstock.broker.wire import parse_record
from penstock.config import Settings
from penstock.errors import UsageError
from penstock.media.sniff import sniff
from penstock.produce.base import item_of
from penstock.produce.compose import MessageComposer, check_topic
from penstock.produce.items import Cursor, ProduceItem, ProduceOptions, SourceMark
from penstock.records import Event, Inline, Modality, Record, Rejected

SCHEME = "kafka:"


class TopicSource:
    """The records of a topic, partition by partition, each with its key, media, labels and times. Replays are left out.

    The cursor has the next offset of each partition. Records that come after the start are not read: run it again.

    Args:
        name: as the command line has it.
        topic: to read.
        settings: of the topics to write to.
        options: what applies to all items.
        open_reader: opens a reader of the cluster that has the topic.

    Raises:
        UsageError: it is the topic to write to.
    """

    unit = "records"

    def __init__(
        self,
        name: str,
        topic: str,
        settings: Settings,
        options: ProduceOptions,
        *,
        open_reader: Callable[[], AbstractContextManager[TopicReader]],
    ) -> None:
        if topic == options.topic:
            raise UsageError(f"{topic} is both the topic to read and the one to write to")
        self.name = name
        self._topic = topic
        self._settings = settings
        self._options = options
        self._open_reader = open_reader
        self._composer = MessageComposer(settings, options)

    def items(self, after: Cursor | None) -> Iterator[ProduceItem]:
        """See `MediaSource.items`."""
        positions: dict[str, int] = {} if after is None else dict(after["next"])
        done = 0 if after is None else int(after["done"])
        with self._open_reader() as reader:
            for partition, log in self._bounds(reader).items():
                first = max(log.start, positions.get(str(partition.partition), log.start))
                for record in reader.read(partition, first, log.end):
                    done += record.position.offset + 1 - first
                    first = record.position.offset + 1
                    positions[str(partition.partition)] = first
                    mark = SourceMark(self.name, {"next": dict(positions), "done": done}, done)
                    yield item_of(str(record.position), partial(self._message, record), mark)

    def total(self) -> int | None:
        """See `MediaSource.total`."""
        with self._open_reader() as reader:
            return sum(log.end - log.start for log in self._bounds(reader).values())

    def _bounds(self, reader: TopicReader) -> Mapping[Partition, LogRange]:
        bounds = reader.bounds([self._topic])
        if not bounds:
            raise UsageError(f"there is no topic {self._topic}")
        return bounds

    def _message(self, record: Record) -> Message:
        event = self._parsed(record)
        fields: dict[str, Any] = {
            "tenant": self._options.tenant or event.asset.tenant,
            "title": event.title,
            "attributes": {**json.loads(event.attributes_json), **(self._options.attributes or {})},
            "time_ms": event.event_time_ms,
            "vectors": event.vectors,
        }
        if event.names_acl:
            fields["acl"] = event.acl
        topic = self._target(event, fields["tenant"])
        own = {"topic": topic, "key": event.asset.key, "payload": event.payload, "content_type": event.content_type}
        return self._composer.message({**fields, **own})

    def _parsed(self, record: Record) -> Event:
        kafka = self._settings.kafka
        parsed = parse_record(
            record,
            modality=Modality.TEXT,  # which modality it is, its bytes say
            default_tenant=self._composer.tenant_of(None),
            max_inline_bytes=sys.maxsize,
            framed=self._topic in kafka.framed_topics,
            envelope=kafka.envelopes.get(self._topic),
        )
        if isinstance(parsed, Rejected):
            raise UsageError(parsed.detail)
        return parsed

    def _target(self, event: Event, tenant: str) -> str:
        """Returns the topic to write to: that of the options, else by the bytes, else that of the topic's modality."""
        if self._options.topic is not None:
            check_topic(self._options.topic, self._settings)
            return self._options.topic
        modality = self._settings.kafka.modality_of(self._topic)
        if isinstance(event.payload, Inline) and event.payload.data:
            topic = self._composer.topic_of_type(sniff(event.payload.data, declared=event.content_type), tenant)
        elif modality is not None:
            topic = self._composer.topic_of(modality, tenant)
        else:
            raise UsageError("is a claim check or a deletion, whose modality is not known: name the topic by --topic")
        if topic == self._topic:
            raise UsageError(f"comes from {self._topic} and would be written to it again: name another by --topic")
        return topic


def topic_source(name: str, settings: Settings, options: ProduceOptions) -> TopicSource:
    """Returns the source of `kafka:TOPIC`, or of `kafka://HOST:PORT,…/TOPIC` in another cluster.

    The other cluster is reached by the same security settings.

    Raises:
        UsageError: the name has no topic.
    """
    from penstock.broker.reader import KafkaReader

    place = name.removeprefix(SCHEME)
    kafka, topic = settings.kafka, place
    if place.startswith("//"):
        servers, _, topic = place.removeprefix("//").rpartition("/")
        kafka = kafka.model_copy(update={"bootstrap_servers": servers or None})
        if not servers:
            raise UsageError(f"{name} has no topic: write kafka://host:9092/topic")
    if not topic or "/" in topic:
        raise UsageError(f"{name} has no topic: write kafka:topic, or kafka://host:9092/topic")
    return TopicSource(name, topic, settings, options, open_reader=lambda: KafkaReader(kafka))
