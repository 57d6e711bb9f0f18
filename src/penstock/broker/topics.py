"""Creates missing topics, checks existing ones without changing them, and reads the progress of the group."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import kafka
from kafka import KafkaAdminClient, TopicPartition, errors

from penstock.broker.base import Partition, PartitionLag
from penstock.broker.client import (
    ConsumerClient,
    connection_arguments,
    list_offsets,
    open_client,
    to_partition,
    to_topic_partition,
    translated,
)
from penstock.broker.rights import Right, denied_topic
from penstock.broker.topic_findings import (
    UNLIMITED,
    DescribedTopic,
    Finding,
    FindingKind,
    check_configs,
    check_group,
    check_rights,
    describe_configs,
    look_up,
    unchecked,
)
from penstock.config import MIB, FeedbackSettings, KafkaSettings
from penstock.errors import ConfigError
from penstock.records import Modality

logger = logging.getLogger(__name__)

_REQUEST_TIMEOUT_MS = 10_000
_COORDINATOR_POLL_S = 0.2
_BROKER_DEFAULT = -1  # in a request to create a topic (Kafka 2.4 and newer): the broker's default.replication.factor
# A new broker is still creating or loading its offsets topic.
_COORDINATOR_STARTS = (
    errors.CoordinatorNotAvailableError,
    errors.CoordinatorLoadInProgressError,
    errors.NotCoordinatorError,
)
_DAY_MS = 24 * 3_600_000
_ANY_TIME = str(2**63 - 1)  # milliseconds; Kafka's default refuses a timestamp over an hour in the future


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

    Idempotent; two processes may do it concurrently. A right that is missing on an existing topic is a finding.

    Raises:
        UnavailableError: no broker answers within 8 s.
        PermanentError: the broker refuses, such as a replication factor above its number of nodes.
        ConfigError: it does not let this client in, or not create a topic.
    """
    required = dict.fromkeys(sorted(kafka_settings.topics_of(modalities)), _media_configs(kafka_settings))
    required[kafka_settings.dead_letter_topic] = _dead_letter_configs(kafka_settings)
    needed = dict.fromkeys(required, Right.READ) | {kafka_settings.dead_letter_topic: Right.WRITE}
    with _admin(kafka_settings, f"create or check the topics {', '.join(required)}") as admin:
        described = dict(look_up(admin, list(required)))
        missing = {name: configs for name, configs in required.items() if _is_missing(described[name])}
        created = _create(admin, missing, kafka_settings)
        described |= look_up(admin, list(missing))
        to_check = {
            name: configs for name, configs in required.items() if described[name].exists and name not in created
        }
        findings = check_rights(described, needed, kafka_settings)
        findings += check_group(admin, kafka_settings)
        findings += check_configs(admin, to_check, kafka_settings)
    partitions = {name: len(topic.partitions) for name, topic in described.items() if topic.exists}
    return TopicReport(tuple(created), partitions, tuple(findings))


def ensure_media_topics(kafka_settings: KafkaSettings, topics: Collection[str]) -> None:
    """Creates those of these media topics that are missing.

    Raises:
        UnavailableError, PermanentError, ConfigError: as `ensure_topics` does.
    """
    required = dict.fromkeys(topics, _media_configs(kafka_settings))
    _ensure(kafka_settings, required, dict.fromkeys(topics, (Right.READ,)))


def list_topics(kafka_settings: KafkaSettings) -> Sequence[str]:
    """Returns the names of all topics that this client may describe, sorted.

    Raises:
        UnavailableError: no broker answers.
        ConfigError: it does not let this client in.
    """
    with _admin(kafka_settings, "list the topics of tenants") as admin:
        return sorted(admin.list_topics())


def missing_rights(kafka_settings: KafkaSettings, needed: Mapping[str, Right], *, joins_group: bool) -> list[Finding]:
    """Returns a finding for each topic that is missing, hidden or lacks a right, and for the group; changes nothing.

    Args:
        kafka_settings: the brokers and the group.
        needed: what this client needs on each topic.
        joins_group: whether it joins the group and commits for it.

    Raises:
        UnavailableError, PermanentError, ConfigError: as `ensure_topics` does.
    """
    with _admin(kafka_settings, f"check the rights on {', '.join(needed)}") as admin:
        described = look_up(admin, list(needed))
        findings = check_rights(described, needed, kafka_settings)
        findings += [
            Finding(name, FindingKind.MISSING, f"there is no topic {name}: the ingest plane creates it at its start")
            for name, topic in described.items()
            if not topic.exists and not topic.is_hidden
        ]
        return findings + (check_group(admin, kafka_settings) if joins_group else [])


def ensure_changes_topic(kafka_settings: KafkaSettings, right: Right = Right.WRITE) -> None:
    """Creates the topic of the change feed, if it is missing and there is to be one.

    Followers read changes within milliseconds, and the evaluator of watches continues after an outage of a day.

    Args:
        kafka_settings: names the topic.
        right: what this client needs on it.

    Raises:
        UnavailableError, PermanentError: as `ensure_topics` does.
        ConfigError: as there, or the right is missing.
    """
    if topic := kafka_settings.changes_topic:
        configs = {"retention.ms": str(_DAY_MS), "cleanup.policy": "delete"}
        _ensure(kafka_settings, {topic: configs}, {topic: (right,)})


def ensure_watch_topics(kafka_settings: KafkaSettings) -> None:
    """Creates the topics of changes, of watches (compacted) and of their matches, where they are missing.

    Raises:
        UnavailableError, PermanentError, ConfigError: as `ensure_changes_topic` does.
    """
    ensure_changes_topic(kafka_settings, Right.READ)
    watches, matches = kafka_settings.watches_topic, kafka_settings.matches_topic
    required = {watches: {"cleanup.policy": "compact"}, matches: {"cleanup.policy": "delete"}}
    _ensure(kafka_settings, required, {watches: (Right.READ, Right.WRITE), matches: (Right.WRITE,)})


def ensure_feedback_topics(kafka_settings: KafkaSettings, feedback: FeedbackSettings, *, reads: bool = True) -> None:
    """Creates the topics of feedback and of its dead letters, where they are missing.

    Args:
        kafka_settings: the brokers.
        feedback: names the topics.
        reads: whether this client reads feedback and writes dead letters; otherwise it writes feedback.

    Raises:
        UnavailableError, PermanentError, ConfigError: as `ensure_changes_topic` does.
    """
    topic, dead_letters = feedback.topic, feedback.dead_letter_topic
    kept = {"cleanup.policy": "delete", "retention.ms": str(round(feedback.retention_days * _DAY_MS))}
    rights = {topic: (Right.READ,), dead_letters: (Right.WRITE,)} if reads else {topic: (Right.WRITE,)}
    required = {topic: kept, dead_letters: kept} if reads else {topic: kept}
    _ensure(kafka_settings, required, rights)


def _ensure(
    settings: KafkaSettings, required: Mapping[str, Mapping[str, str]], needed: Mapping[str, Sequence[Right]]
) -> Mapping[str, DescribedTopic]:
    """Creates missing topics, and returns all of them.

    Raises:
        UnavailableError, PermanentError, ConfigError: as `ensure_changes_topic` does.
    """
    with _admin(settings, f"create or check the topics {', '.join(required)}") as admin:
        described = dict(look_up(admin, list(required)))
        missing = {topic: configs for topic, configs in required.items() if _is_missing(described[topic])}
        _create(admin, missing, settings)
        described |= look_up(admin, list(missing))
    for topic, rights in needed.items():
        for right in rights:
            if described[topic].denies(right):
                raise ConfigError(f"topic {topic} cannot be used: {denied_topic(settings, right, topic)}.")
    return described


def _is_missing(topic: DescribedTopic) -> bool:
    """Returns whether a topic is known not to exist."""
    return not topic.exists and not topic.is_hidden


def ensure_control_topic(kafka_settings: KafkaSettings) -> None:
    """Creates the control topic, with one partition, if it is missing.

    Raises:
        ConfigError: it exists with more partitions, so that several drivers could each own one; or as `ensure_topics`.
        UnavailableError, PermanentError: as `ensure_topics` does.
    """
    topic = kafka_settings.control_topic
    of_one = kafka_settings.model_copy(update={"partitions": 1})
    described = _ensure(of_one, {topic: {}}, {topic: (Right.READ,)})
    if (count := len(described[topic].partitions)) != 1:
        raise ConfigError(
            f"topic {topic} has {count} partitions, but the control topic must have one: it would let {count} drivers "
            "ingest for one consumer group. Set kafka.control_topic to another name."
        )


def group_lag(
    kafka_settings: KafkaSettings,
    topics: Collection[str] | None = None,
    on_denied: Callable[[str, str], None] | None = None,
) -> Sequence[PartitionLag]:
    """Returns the progress of the ingest plane's group in every partition of these topics, in order.

    Topics that do not exist are left out.

    Args:
        kafka_settings: names the group.
        topics: the topics; None stands for all media topics.
        on_denied: called with each topic that this client may not describe, and a line about it; it is then left out.
            None: that is a ConfigError.

    Raises:
        UnavailableError: no broker answers.
        ConfigError: it does not let this client in, or not describe the group or a topic.
    """
    group = kafka_settings.group
    with _admin(kafka_settings, f"look up the lag of group {group}", Right.DESCRIBE) as admin:
        described = look_up(admin, sorted(kafka_settings.topics() if topics is None else topics))
        for name in (name for name, topic in described.items() if topic.is_hidden):
            denial = f"the lag of {name} is not known: {denied_topic(kafka_settings, Right.DESCRIBE, name)}."
            if on_denied is None:
                raise ConfigError(denial)
            on_denied(name, denial)
        tps = [TopicPartition(name, number) for name, topic in described.items() for number in topic.partitions]
        committed = _committed(admin, group, tps)
        starts, ends = _log_ends(kafka_settings, tps)
    return [PartitionLag(to_partition(tp), committed.get(tp), starts[tp], ends[tp]) for tp in sorted(tps)]


def require_described(kafka_settings: KafkaSettings, topics: Collection[str]) -> None:
    """Raises if this client may not describe one of these topics, which then looks as if it did not exist.

    Raises:
        UnavailableError: no broker answers.
        ConfigError: it does not let this client in, or not describe a topic.
    """
    with _admin(kafka_settings, f"look up {', '.join(sorted(topics))}") as admin:
        described = look_up(admin, sorted(topics))
    if hidden := [name for name, topic in described.items() if topic.is_hidden]:
        raise ConfigError(f"could not read {', '.join(hidden)}: {denied_topic(kafka_settings, Right.READ, *hidden)}.")


def compacted_topics(kafka_settings: KafkaSettings, topics: Collection[str]) -> frozenset[str]:
    """Returns those of the topics that compaction cleans. Topics that do not exist are left out.

    A topic whose settings may not be read is a warning in the log, and counts as one that compaction does not clean.

    Raises:
        UnavailableError: no broker answers.
        ConfigError: it does not let this client in.
    """
    with _admin(kafka_settings, f"look up the cleanup policy of {', '.join(sorted(topics))}") as admin:
        existing = [name for name, topic in look_up(admin, sorted(topics)).items() if topic.exists]
        described = describe_configs(admin, existing)
    for topic in (name for name, configs in described.items() if not configs):
        logger.warning("%s It is taken for one that compaction does not clean.", unchecked(topic, kafka_settings))
    return frozenset(topic for topic in existing if "compact" in described[topic].get("cleanup.policy", ""))


def _media_configs(settings: KafkaSettings) -> dict[str, str]:
    return {"max.message.bytes": str(settings.max_message_bytes)}


def _dead_letter_configs(settings: KafkaSettings) -> dict[str, str]:
    return {
        "max.message.bytes": str(dead_letter_bytes(settings)),
        "retention.ms": UNLIMITED,
        "retention.bytes": UNLIMITED,
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
        except errors.AuthorizationError as exc:
            denial = denied_topic(settings, Right.CREATE, topic)
            raise ConfigError(f"topic {topic} is missing and could not be created: {denial}, or create it.") from exc
        created.append(topic)
    return created


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


def remove_records_before(kafka_settings: KafkaSettings, offsets: Mapping[Partition, int]) -> None:
    """Removes the records below an offset of each partition, permanently.

    Raises:
        UnavailableError: no broker answers; it is not known whether they were removed.
        ConfigError: this client lacks the right to delete on a topic.
        PermanentError: the broker refuses, as for a topic that is only compacted.
    """
    doing = f"remove the records before {list_offsets(offsets)}"
    with _admin(kafka_settings, doing, Right.DELETE) as admin:
        admin.delete_records({to_topic_partition(partition): offset for partition, offset in offsets.items()})


@contextmanager
def _admin(settings: KafkaSettings, doing: str, right: Right = Right.DESCRIBE) -> Iterator[Any]:
    with translated(doing, settings, right):
        arguments = connection_arguments(settings) | {"request_timeout_ms": _REQUEST_TIMEOUT_MS}
        admin = open_client(KafkaAdminClient, arguments)
        try:
            yield admin
        finally:
            admin.close()
