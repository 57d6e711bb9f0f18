"""Creates missing topics, checks existing ones without changing them, and reads the progress of the group."""

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

from penstock.broker.base import PartitionLag
from penstock.broker.client import ConsumerClient, connection_arguments, open_client, to_partition, translated
from penstock.config import MIB, KafkaSettings
from penstock.errors import ConfigError
from penstock.records import Modality

_REQUEST_TIMEOUT_MS = 10_000
_COORDINATOR_POLL_S = 0.2
_UNLIMITED = "-1"
_BROKER_DEFAULT = -1  # in a request to create a topic (Kafka 2.4 and newer): the broker's default.replication.factor
# A new broker is still creating or loading its offsets topic.
_COORDINATOR_STARTS = (
    errors.CoordinatorNotAvailableError,
    errors.CoordinatorLoadInProgressError,
    errors.NotCoordinatorError,
)
_DAY_MS = 24 * 3_600_000
_ANY_TIME = str(2**63 - 1)  # milliseconds; Kafka's default refuses a timestamp over an hour in the future


class FindingKind(StrEnum):
    """The settings of an existing topic that can break a promise."""

    MAX_MESSAGE_BYTES = "max_message_bytes"  # messages that the settings allow would be refused
    RETENTION = "retention"  # dead letters would be removed
    CLEANUP_POLICY = "cleanup_policy"  # dead letters of one key would replace each other


@dataclass(frozen=True, slots=True)
class Finding:
    """A setting of an existing topic that breaks a promise. `detail` is one line: the fault, its effect, the remedy."""

    topic: str
    kind: FindingKind
    detail: str

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True, slots=True)
class TopicReport:
    """The result of `ensure_topics`.

    Attributes:
        created: topics that were missing.
        partitions: the number of partitions of every topic, including created ones.
        findings: the faults of existing topics; empty if there are none.
    """

    created: tuple[str, ...]
    partitions: Mapping[str, int]
    findings: tuple[Finding, ...]


def dead_letter_bytes(kafka_settings: KafkaSettings) -> int:
    """Returns the largest size of a dead letter: any message of a source topic fits, with the added headers."""
    return kafka_settings.max_message_bytes * 3 // 2 + MIB


def ensure_topics(kafka_settings: KafkaSettings, modalities: Collection[Modality]) -> TopicReport:
    """Creates missing topics of these modalities and a missing dead-letter topic, and checks existing ones.

    Idempotent; two processes may do it concurrently.

    Raises:
        UnavailableError: no broker answers within 8 s.
        PermanentError: the broker refuses, such as a replication factor above its number of nodes.
        ConfigError: it does not let this client in.
    """
    required = {kafka_settings.topic_of(modality): _media_configs(kafka_settings) for modality in sorted(modalities)}
    required[kafka_settings.dead_letter_topic] = _dead_letter_configs(kafka_settings)
    with _admin(kafka_settings, f"create or check the topics {', '.join(required)}") as admin:
        existing = set(admin.list_topics())
        missing = {topic: configs for topic, configs in required.items() if topic not in existing}
        created = _create(admin, missing, kafka_settings)
        to_check = {topic: configs for topic, configs in required.items() if topic not in created}
        findings = _check(admin, to_check, kafka_settings)
        partitions = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics(list(required))}
    return TopicReport(tuple(created), partitions, tuple(findings))


def ensure_changes_topic(kafka_settings: KafkaSettings) -> None:
    """Creates the topic of the change feed, if it is missing and there is to be one.

    Followers read changes within milliseconds, and the evaluator of watches continues after an outage of a day.

    Raises:
        UnavailableError, PermanentError, ConfigError: as `ensure_topics` does.
    """
    if not (topic := kafka_settings.changes_topic):
        return
    with _admin(kafka_settings, f"create the topic {topic}") as admin:
        if topic not in set(admin.list_topics()):
            _create(admin, {topic: {"retention.ms": str(_DAY_MS), "cleanup.policy": "delete"}}, kafka_settings)


def ensure_watch_topics(kafka_settings: KafkaSettings) -> None:
    """Creates the topics of changes, of watches (compacted) and of their matches, where they are missing.

    Raises:
        UnavailableError, PermanentError, ConfigError: as `ensure_topics` does.
    """
    ensure_changes_topic(kafka_settings)
    required: dict[str, dict[str, str]] = {
        kafka_settings.watches_topic: {"cleanup.policy": "compact"},
        kafka_settings.matches_topic: {"cleanup.policy": "delete"},
    }
    with _admin(kafka_settings, f"create the topics {', '.join(required)}") as admin:
        existing = set(admin.list_topics())
        missing = {topic: configs for topic, configs in required.items() if topic not in existing}
        _create(admin, missing, kafka_settings)


def ensure_control_topic(kafka_settings: KafkaSettings) -> None:
    """Creates the control topic, with one partition, if it is missing.

    Raises:
        ConfigError: it exists with more partitions, so that several drivers could each own one; or as `ensure_topics`.
        UnavailableError, PermanentError: as `ensure_topics` does.
    """
    topic = kafka_settings.control_topic
    with _admin(kafka_settings, f"create or check the topic {topic}") as admin:
        if topic not in set(admin.list_topics()):
            _create(admin, {topic: {}}, kafka_settings.model_copy(update={"partitions": 1}))
        (described,) = admin.describe_topics([topic])
    if (count := len(described["partitions"])) != 1:
        raise ConfigError(
            f"topic {topic} has {count} partitions, but the control topic must have one: it would let {count} drivers "
            "ingest for one consumer group. Set kafka.control_topic to another name."
        )


def group_lag(kafka_settings: KafkaSettings, topics: Collection[str] | None = None) -> Sequence[PartitionLag]:
    """Returns the progress of the ingest plane's group in every partition of these topics, in order.

    Topics that do not exist are left out. None stands for all media topics.

    Raises:
        UnavailableError: no broker answers.
        ConfigError: it does not let this client in.
    """
    group = kafka_settings.group
    with _admin(kafka_settings, f"look up the lag of group {group}") as admin:
        existing = set(admin.list_topics()).intersection(kafka_settings.topics() if topics is None else topics)
        described = admin.describe_topics(sorted(existing)) if existing else []
        tps = [
            TopicPartition(topic["name"], partition["partition_index"])
            for topic in described
            for partition in topic["partitions"]
        ]
        committed = _committed(admin, group, tps)
        starts, ends = _log_ends(kafka_settings, tps)
    return [PartitionLag(to_partition(tp), committed.get(tp), starts[tp], ends[tp]) for tp in sorted(tps)]


def compacted_topics(kafka_settings: KafkaSettings, topics: Collection[str]) -> frozenset[str]:
    """Returns those of the topics that compaction cleans. Topics that do not exist are left out.

    Raises:
        UnavailableError: no broker answers.
        ConfigError: it does not let this client in.
    """
    with _admin(kafka_settings, f"look up the cleanup policy of {', '.join(sorted(topics))}") as admin:
        existing = sorted(set(admin.list_topics()).intersection(topics))
        described = _describe(admin, existing)
    return frozenset(topic for topic in existing if "compact" in described[topic]["cleanup.policy"])


def _describe(admin: Any, topics: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    """Returns every setting of these topics, with the defaults of the broker."""
    if not topics:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    described = admin.describe_configs(resources, config_filter="all")["topic"]
    return {topic: {name: config["value"] for name, config in described[topic].items()} for topic in topics}


def _media_configs(settings: KafkaSettings) -> dict[str, str]:
    return {"max.message.bytes": str(settings.max_message_bytes)}


def _dead_letter_configs(settings: KafkaSettings) -> dict[str, str]:
    return {
        "max.message.bytes": str(dead_letter_bytes(settings)),
        "retention.ms": _UNLIMITED,
        "retention.bytes": _UNLIMITED,
        "cleanup.policy": "delete",
        # A dead letter keeps its record's timestamp, and must not be refused for it.
        "message.timestamp.after.max.ms": _ANY_TIME,
    }


def _create(admin: Any, missing: Mapping[str, Mapping[str, str]], settings: KafkaSettings) -> list[str]:
    created = []
    for topic, configs in missing.items():
        specification = {
            "num_partitions": settings.partitions,
            "replication_factor": settings.replication_factor or _BROKER_DEFAULT,
            "configs": dict(configs),
        }
        try:
            admin.create_topics({topic: specification}, timeout_ms=_REQUEST_TIMEOUT_MS, wait_for_metadata=True)
        except errors.TopicAlreadyExistsError:
            continue  # another process created it first; it is checked with the existing ones
        created.append(topic)
    return created


def _check(admin: Any, topics: Mapping[str, Mapping[str, str]], settings: KafkaSettings) -> list[Finding]:
    described = _describe(admin, list(topics))
    findings = []
    for topic, required in topics.items():
        actual = described[topic]
        findings += _check_size(topic, actual, int(required["max.message.bytes"]))
        if topic == settings.dead_letter_topic:
            findings += _check_keeps_everything(topic, actual)
    return findings


def _check_size(topic: str, actual: Mapping[str, str], required: int) -> list[Finding]:
    limit = int(actual["max.message.bytes"])
    if limit >= required:
        return []
    detail = (
        f"topic {topic} has max.message.bytes={limit:,}, but messages of up to {required:,} bytes have to fit. Raise "
        f"it (kafka-configs --alter --topic {topic} --add-config max.message.bytes={required}), or lower "
        "kafka.max_message_bytes."
    )
    return [Finding(topic, FindingKind.MAX_MESSAGE_BYTES, detail)]


def _check_keeps_everything(topic: str, actual: Mapping[str, str]) -> list[Finding]:
    findings = []
    for name in ("retention.ms", "retention.bytes"):
        if actual[name] != _UNLIMITED:
            detail = (
                f"topic {topic} has {name}={actual[name]}, so dead letters may be removed before they are resolved. "
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


def _committed(admin: Any, group: str, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    if not tps:
        return {}
    deadline_s = time.monotonic() + _REQUEST_TIMEOUT_MS / 1000
    while True:
        try:
            offsets = admin.list_group_offsets({group: list(tps)})[group]
            break
        except errors.GroupIdNotFoundError:
            return {}
        except _COORDINATOR_STARTS:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(_COORDINATOR_POLL_S)
    return {tp: offset.offset for tp, offset in offsets.items() if offset.offset >= 0}


def _log_ends(
    settings: KafkaSettings, tps: Sequence[TopicPartition]
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Returns the first and the next offset of each partition."""
    if not tps:
        return {}, {}
    arguments = connection_arguments(settings) | {"group_id": None, "metrics_enabled": False}
    client: ConsumerClient = open_client(kafka.KafkaConsumer, arguments)
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
        arguments = connection_arguments(settings) | {"request_timeout_ms": _REQUEST_TIMEOUT_MS}
        admin = open_client(KafkaAdminClient, arguments)
        try:
            yield admin
        finally:
            admin.close()
