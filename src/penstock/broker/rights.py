"""Names the right that a broker denies this client, the resource, and the command that grants it."""

from __future__ import annotations

from enum import StrEnum

from kafka import errors

from penstock.config import KafkaSettings


class Right(StrEnum):
    """The operations that the rights of Kafka name, as its command `kafka-acls` writes them."""

    READ = "Read"  # of a topic, or to join a group and commit for it; includes Describe
    WRITE = "Write"
    CREATE = "Create"
    DELETE = "Delete"
    DESCRIBE = "Describe"
    DESCRIBE_CONFIGS = "DescribeConfigs"


def denied(exc: errors.AuthorizationError, kafka: KafkaSettings, right: Right) -> str:
    """Returns the line for an error of authorization that names no more than the resource."""
    if isinstance(exc, errors.GroupAuthorizationFailedError):
        return denied_group(kafka, right)
    if isinstance(exc, errors.TopicAuthorizationFailedError) and exc.args and isinstance(exc.args[0], (set, frozenset)):
        return denied_topic(kafka, right, *sorted(exc.args[0]))
    return _line(kafka, right, "the cluster" if isinstance(exc, errors.ClusterAuthorizationFailedError) else "", "")


def denied_topic(kafka: KafkaSettings, right: Right, *topics: str) -> str:
    """Returns the line for topics."""
    return _line(kafka, right, f"topic {', '.join(topics)}", " ".join(f"--topic {topic}" for topic in topics))


def denied_group(kafka: KafkaSettings, right: Right, group: str = "") -> str:
    """Returns the line for a consumer group; by default that of the settings."""
    group = group or kafka.group
    return _line(kafka, right, f"group {group}", f"--group {group}")


def _line(kafka: KafkaSettings, right: Right, resource: str, option: str) -> str:
    user = f"User:{kafka.sasl_username or '…'}" if kafka.uses_sasl else "User:…"  # a token has its subject alone
    grant = f"kafka-acls --add --allow-principal {user} --operation {right} {option or '--cluster'}"
    return (
        f"Kafka at {kafka.bootstrap_servers} denies this client ({user}) the right {right} on "
        f"{resource or 'this request'}. Grant it: {grant}"
    )
