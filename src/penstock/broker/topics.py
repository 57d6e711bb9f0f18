"""Topics: missing ones are created, existing ones are checked and never changed. And how far the group is in them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import kafka
from kafka import KafkaAdminClient, TopicPartition, errors
from kafka.admin import ConfigResource, ConfigResourceType

from penstock.broker.base import Partition, PartitionLag
from penstock.broker.client import connection, open_client, translated
from penstock.config import MIB, KafkaSettings
from penstock.records import Modality

_REQUEST_TIMEOUT_MS = 10_000
_COORDINATOR_POLL_S = 0.2
_FOREVER = "-1"
_ANY_TIME = str(2**63 - 1)  # milliseconds; Kafka's default refuses a timestamp over an hour in the future


class FindingKind(StrEnum):
    """What can be wrong with a topic that was there already."""

    MAX_MESSAGE_BYTES = "max_message_bytes"  # messages that the settings allow would be refused
    RETENTION = "retention"  # dead letters would be removed
    CLEANUP_POLICY = "cleanup_policy"  # dead letters of one key would replace each other


@dataclass(frozen=True, slots=True)
class Finding:
    """A setting of an existing topic that breaks a promise. `detail` is one line: what, its effect, what to do."""

    topic: str
    kind: FindingKind
    detail: str

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True, slots=True)
class TopicReport:
    """What `ensure_topics` did and found.

    Attributes:
        created: topics that were missing.
        partitions: of every topic, the created ones included.
        findings: what is wrong with those that were there; empty if all is well.
    """

    created: tuple[str, ...]
    partitions: Mapping[str, int]
    findings: tuple[Finding, ...]


def dead_letter_bytes(kafka_settings: KafkaSettings) -> int:
    """Largest message of the dead-letter topic: whatever a source topic took fits, with its extra headers."""
    return kafka_settings.max_message_bytes * 3 // 2 + MIB


def ensure_topics(kafka_settings: KafkaSettings, modalities: Collection[Modality]) -> TopicReport:
    """Creates the media topics of these modalities and the dead-letter topic where they are missing, checks the others.

    Idempotent; two processes may do it at once.

    Raises:
        UnavailableError: no broker answers within 8 s.
        PermanentError: the broker refuses, such as a replication factor above its number of nodes.
        ConfigError: it does not let this client in.
    """
    wanted = {kafka_settings.topic_of(modality): _media_settings(kafka_settings) for modality in sorted(modalities)}
    wanted[kafka_settings.dead_letter_topic] = _dead_letter_settings(kafka_settings)
    with _admin(kafka_settings, f"create or check the topics {', '.join(wanted)}") as admin:
        there = set(admin.list_topics())
        missing = {topic: configs for topic, configs in wanted.items() if topic not in there}
        created = _create(admin, missing, kafka_settings)
        found = {topic: configs for topic, configs in wanted.items() if topic not in created}
        findings = _check(admin, found, kafka_settings)
        partitions = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics(list(wanted))}
    return TopicReport(tuple(created), partitions, tuple(findings))


def group_lag(kafka_settings: KafkaSettings, topics: Collection[str] | None = None) -> Sequence[PartitionLag]:
    """How far the ingest plane's group is in every partition of these topics (None: all media topics), in order.

    Topics that do not exist are left out.

    Raises:
        UnavailableError: no broker answers.
        ConfigError: it does not let this client in.
    """
    group = kafka_settings.group
    with _admin(kafka_settings, f"look up the lag of group {group}") as admin:
        there = set(admin.list_topics()).intersection(kafka_settings.topics() if topics is None else topics)
        described = admin.describe_topics(sorted(there)) if there else []
        tps = [
            TopicPartition(topic["name"], partition["partition_index"])
            for topic in described
            for partition in topic["partitions"]
        ]
        committed = _committed(admin, group, tps)
        starts, ends = _log_ends(kafka_settings, tps)
    return [
        PartitionLag(Partition(tp.topic, tp.partition), committed.get(tp), starts[tp], ends[tp]) for tp in sorted(tps)
    ]


def compacted_topics(kafka_settings: KafkaSettings, topics: Collection[str]) -> frozenset[str]:
    """Those of the topics from which compaction removes records. Topics that do not exist are left out.

    Raises:
        UnavailableError: no broker answers.
        ConfigError: it does not let this client in.
    """
    with _admin(kafka_settings, f"look up the cleanup policy of {', '.join(sorted(topics))}") as admin:
        there = sorted(set(admin.list_topics()).intersection(topics))
        described = _describe(admin, there)
    return frozenset(topic for topic in there if "compact" in described[topic]["cleanup.policy"])


def _describe(admin: Any, topics: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    """Every setting of these topics."""
    if not topics:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    described = admin.describe_configs(resources, config_filter="all")["topic"]
    return {topic: {name: found["value"] for name, found in described[topic].items()} for topic in topics}


def _media_settings(settings: KafkaSettings) -> dict[str, str]:
    return {"max.message.bytes": str(settings.max_message_bytes)}


def _dead_letter_settings(settings: KafkaSettings) -> dict[str, str]:
    return {
        "max.message.bytes": str(dead_letter_bytes(settings)),
        "retention.ms": _FOREVER,
        "retention.bytes": _FOREVER,
        "cleanup.policy": "delete",
        # A dead letter keeps its record's timestamp, and must not be refused for it.
        "message.timestamp.after.max.ms": _ANY_TIME,
    }


def _create(admin: Any, missing: Mapping[str, Mapping[str, str]], settings: KafkaSettings) -> list[str]:
    created = []
    for topic, configs in missing.items():
        specification = {
            "num_partitions": settings.partitions,
            "replication_factor": settings.replication_factor,
            "configs": dict(configs),
        }
        try:
            admin.create_topics({topic: specification}, timeout_ms=_REQUEST_TIMEOUT_MS, wait_for_metadata=True)
        except errors.TopicAlreadyExistsError:
            continue  # another process was quicker; it is checked with those that were there
        created.append(topic)
    return created


def _check(admin: Any, topics: Mapping[str, Mapping[str, str]], settings: KafkaSettings) -> list[Finding]:
    described = _describe(admin, list(topics))
    findings = []
    for topic, wanted in topics.items():
        actual = described[topic]
        findings += _check_size(topic, actual, int(wanted["max.message.bytes"]))
        if topic == settings.dead_letter_topic:
            findings += _check_keeps_everything(topic, actual)
    return findings


def _check_size(topic: str, actual: Mapping[str, str], wanted: int) -> list[Finding]:
    limit = int(actual["max.message.bytes"])
    if limit >= wanted:
        return []
    detail = (
        f"topic {topic} has max.message.bytes={limit:,}, but messages of up to {wanted:,} bytes have to fit. Raise it "
        f"(kafka-configs --alter --topic {topic} --add-config max.message.bytes={wanted}), or lower "
        "kafka.max_message_bytes."
    )
    return [Finding(topic, FindingKind.MAX_MESSAGE_BYTES, detail)]


def _check_keeps_everything(topic: str, actual: Mapping[str, str]) -> list[Finding]:
    findings = []
    for name in ("retention.ms", "retention.bytes"):
        if actual[name] != _FOREVER:
            detail = (
                f"topic {topic} has {name}={actual[name]}, so dead letters are removed before anyone dealt with them. "
                f"Set it to -1 (kafka-configs --alter --topic {topic} --add-config {name}=-1)."
            )
            findings.append(Finding(topic, FindingKind.RETENTION, detail))
    if actual["cleanup.policy"] != "delete":
        detail = (
            f"topic {topic} has cleanup.policy={actual['cleanup.policy']}, so that a dead letter removes the older "
            f"ones of its key. Set it to delete (kafka-configs --alter --topic {topic} --add-config "
            "cleanup.policy=delete)."
        )
        findings.append(Finding(topic, FindingKind.CLEANUP_POLICY, detail))
    return findings


def _committed(admin: Any, group: str, tps: Sequence[Any]) -> dict[Any, int]:
    if not tps:
        return {}
    deadline_s = time.monotonic() + _REQUEST_TIMEOUT_MS / 1000
    while True:
        try:
            found = admin.list_group_offsets({group: list(tps)})[group]
            break
        except errors.GroupIdNotFoundError:
            return {}
        except errors.CoordinatorNotAvailableError:  # so answers a young broker that still makes its offsets topic
            if time.monotonic() > deadline_s:
                raise
            time.sleep(_COORDINATOR_POLL_S)
    return {tp: offset.offset for tp, offset in found.items() if offset.offset >= 0}


def _log_ends(settings: KafkaSettings, tps: Sequence[Any]) -> tuple[dict[Any, int], dict[Any, int]]:
    """First and next offset of each partition."""
    if not tps:
        return {}, {}
    client = open_client(kafka.KafkaConsumer, connection(settings) | {"group_id": None, "metrics_enabled": False})
    try:
        return (
            client.beginning_offsets(list(tps), timeout_ms=_REQUEST_TIMEOUT_MS),
            client.end_offsets(list(tps), timeout_ms=_REQUEST_TIMEOUT_MS),
        )
    finally:
        client.close(autocommit=False)


@contextmanager
def _admin(settings: KafkaSettings, doing: str) -> Iterator[Any]:
    with translated(doing, settings):
        arguments = connection(settings) | {"request_timeout_ms": _REQUEST_TIMEOUT_MS}
        admin = open_client(KafkaAdminClient, arguments)
        try:
            yield admin
        finally:
            admin.close()
