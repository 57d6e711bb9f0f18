"""Checks existing topics and the rights of this client, without changing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kafka import KafkaAdminClient, errors
from kafka.admin import ConfigResource, ConfigResourceType

from penstock.broker.rights import Right, denied_group, denied_topic
from penstock.config import KafkaSettings

UNLIMITED = "-1"
# The names of these rights in what a broker answers about topics and groups.
_OPERATIONS = {Right.READ: "READ", Right.WRITE: "WRITE", Right.DESCRIBE_CONFIGS: "DESCRIBE_CONFIGS"}


class FindingKind(StrEnum):
    """The faults of an existing topic, or of the rights of this client, that can break a promise."""

    MAX_MESSAGE_BYTES = "max_message_bytes"  # messages that the settings allow would be refused
    RETENTION = "retention"  # dead letters would be removed
    CLEANUP_POLICY = "cleanup_policy"  # dead letters of one key would replace each other
    MISSING = "missing"  # there is no such topic
    RIGHT = "right"  # Kafka denies this client something that it needs


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of an existing topic or a right that is missing. `detail` is one line: the fault, its effect, the remedy.

    Attributes:
        topic: the topic; empty for one of the consumer group.
        kind: of the fault.
        detail: the line.
    """

    topic: str
    kind: FindingKind
    detail: str

    def __str__(self) -> str:
        return self.detail


@dataclass(frozen=True, slots=True)
class DescribedTopic:
    """A topic as a broker describes it to this client.

    Attributes:
        exists: False also if this client may not know.
        is_hidden: whether this client may not describe it.
        partitions: their numbers.
        operations: what this client may do with it; None if the broker does not say.
    """

    exists: bool
    is_hidden: bool
    partitions: Sequence[int]
    operations: frozenset[str] | None

    def denies(self, right: Right) -> bool:
        """Returns whether this client is known to lack a right."""
        return self.is_hidden or (self.operations is not None and _OPERATIONS[right] not in self.operations)


def look_up(admin: KafkaAdminClient, topics: Sequence[str]) -> Mapping[str, DescribedTopic]:
    """Describes these topics, those that do not exist included."""
    return {topic["name"]: _described(topic) for topic in admin.describe_topics(list(topics))} if topics else {}


def _described(topic: Mapping[str, Any]) -> DescribedTopic:
    code, operations = topic["error_code"], topic["authorized_operations"]
    return DescribedTopic(
        exists=code not in (errors.TopicAuthorizationFailedError.errno, errors.UnknownTopicOrPartitionError.errno),
        is_hidden=code == errors.TopicAuthorizationFailedError.errno,
        partitions=[partition["partition_index"] for partition in topic["partitions"]],
        operations=None if operations is None else frozenset(operations),
    )


def describe_configs(admin: KafkaAdminClient, topics: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    """Returns every setting of these topics, with the defaults of the broker; nothing of one that may not be read."""
    if not topics:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    described = admin.describe_configs(resources, config_filter="all").get("topic", {})
    return {topic: {name: config["value"] for name, config in described.get(topic, {}).items()} for topic in topics}


def check_rights(
    topics: Mapping[str, DescribedTopic], needed: Mapping[str, Right], settings: KafkaSettings
) -> list[Finding]:
    """Returns a finding for each topic on which this client lacks the right that it needs."""
    effects = {
        Right.READ: "its partitions are halted",
        Right.WRITE: "partitions halt where something has to be written",
    }
    return [
        Finding(topic, FindingKind.RIGHT, f"{denied_topic(settings, right, topic)}. Until then {effects[right]}.")
        for topic, right in needed.items()
        if topic in topics and topics[topic].denies(right)
    ]


def check_group(admin: KafkaAdminClient, settings: KafkaSettings) -> list[Finding]:
    """Returns a finding if this client may not join the consumer group and commit for it."""
    try:
        described = admin.describe_groups([settings.group])[settings.group]
    except errors.GroupAuthorizationFailedError:
        described = {"error": errors.GroupAuthorizationFailedError.__name__}
    except errors.KafkaError:
        return []  # a broker that has just started loads its groups; the lanes say what is denied
    operations = described.get("authorized_operations")
    error = described["error"] or ""
    if errors.GroupAuthorizationFailedError.__name__ not in error and (operations is None or "READ" in operations):
        return []
    detail = f"{denied_group(settings, Right.READ)}. Until then nothing is received and nothing committed."
    return [Finding("", FindingKind.RIGHT, detail)]


def check_configs(
    admin: KafkaAdminClient, topics: Mapping[str, Mapping[str, str]], settings: KafkaSettings
) -> list[Finding]:
    """Returns what is wrong with the settings of topics, or that they may not be read.

    Args:
        admin: the client.
        topics: those that exist, each with the settings that a new one would have.
        settings: names the dead-letter topic.
    """
    described = describe_configs(admin, list(topics))
    findings: list[Finding] = []
    for topic, required in topics.items():
        actual = described[topic]
        if not actual:
            findings.append(unchecked(topic, settings))
            continue
        findings += _check_size(topic, actual, int(required["max.message.bytes"]))
        if topic == settings.dead_letter_topic:
            findings += _check_keeps_everything(topic, actual)
    return findings


def unchecked(topic: str, settings: KafkaSettings) -> Finding:
    """Returns the finding that the settings of a topic may not be read."""
    denial = denied_topic(settings, Right.DESCRIBE_CONFIGS, topic)
    return Finding(topic, FindingKind.RIGHT, f"the settings of topic {topic} are not checked: {denial}.")


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
        if actual[name] != UNLIMITED:
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
