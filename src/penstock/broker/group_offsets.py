"""Sets the committed offsets of the ingest plane's group, while no member of it lives."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from kafka import KafkaAdminClient, errors
from kafka.structs import OffsetAndMetadata

from penstock.broker.base import Partition
from penstock.broker.client import (
    connection_arguments,
    list_offsets,
    open_client,
    to_partition,
    to_topic_partition,
    translated,
)
from penstock.broker.kafka_control import refuse_error
from penstock.broker.rights import Right
from penstock.config import KafkaSettings
from penstock.errors import UnavailableError, UsageError

T = TypeVar("T")

_REQUEST_TIMEOUT_MS = 10_000
_COORDINATOR_POLL_S = 0.2
# A new broker is still creating or loading its offsets topic.
_COORDINATOR_STARTS = (
    errors.CoordinatorNotAvailableError,
    errors.CoordinatorLoadInProgressError,
    errors.NotCoordinatorError,
)


class ActiveGroupError(UsageError):
    """The group has members, which commit offsets of their own."""


class GroupOffsets(Protocol):
    """The committed offsets of one group, for a program that is no member of it.

    Raises from every method: `UnavailableError` when no broker answers, `ConfigError` when it refuses this client.
    """

    def members(self) -> int:
        """Returns the number of living members of the group."""

    def set(self, offsets: Mapping[Partition, int]) -> None:
        """Sets the next offset that the group reads of each partition, lower than before or higher.

        Raises:
            ActiveGroupError: the group has members; nothing was set.
        """


class KafkaGroupOffsets:
    """The offsets of a group on a real broker (`GroupOffsets`). Each call opens a connection.

    Args:
        settings: names the broker and the group.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def members(self) -> int:
        """See `GroupOffsets.members`."""
        group = self._settings.group
        with translated(f"look up the members of group {group}", self._settings, Right.DESCRIBE):
            described = self._patiently(lambda admin: _described(admin, group))
        refuse_error(self._settings, described["error"])
        return len(described["members"])

    def set(self, offsets: Mapping[Partition, int]) -> None:
        """See `GroupOffsets.set`."""
        if not offsets:
            return
        group = self._settings.group
        if self.members():
            raise active(group)
        requested = {
            to_topic_partition(partition): OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()
        }
        with translated(f"set the offsets of group {group}: {list_offsets(offsets)}", self._settings, Right.READ):
            answers = self._patiently(lambda admin: _altered(admin, group, requested))
        if absent := set(requested) - set(answers):
            missing = ", ".join(sorted(str(to_partition(tp)) for tp in absent))
            raise UnavailableError(f"the offsets of {missing} were not acknowledged for group {group}: set them again")

    def _patiently(self, request: Callable[[Any], T]) -> T:
        """Sends a request, again while the broker still loads the group or has no coordinator of it yet."""
        arguments = connection_arguments(self._settings) | {"request_timeout_ms": _REQUEST_TIMEOUT_MS}
        admin = open_client(KafkaAdminClient, arguments)
        deadline_s = time.monotonic() + _REQUEST_TIMEOUT_MS / 1000
        try:
            while True:
                try:
                    return request(admin)
                except _COORDINATOR_STARTS:
                    if time.monotonic() > deadline_s:
                        raise
                time.sleep(_COORDINATOR_POLL_S)
        finally:
            admin.close()


def _described(admin: Any, group: str) -> Mapping[str, Any]:
    """Returns the description of a group, whose errors kafka-python returns as text."""
    described: Mapping[str, Any] = admin.describe_groups([group])[group]
    for error in _COORDINATOR_STARTS:
        if error.__name__ in str(described["error"] or ""):
            raise error(described["error"])
    return described


def _altered(admin: Any, group: str, requested: Mapping[Any, OffsetAndMetadata]) -> Mapping[Any, Any]:
    """Returns the answer for each partition; raises the first that is an error."""
    answers: Mapping[Any, Any] = admin.alter_group_offsets(group, requested)
    for tp, error in answers.items():
        if issubclass(error, (errors.UnknownMemberIdError, errors.IllegalGenerationError)):
            raise active(group)
        if error is not errors.NoError:
            raise error(f"{to_partition(tp)}")
    return answers


def active(group: str) -> ActiveGroupError:
    """Returns the error of a group that has members."""
    return ActiveGroupError(
        f"an ingest plane reads for group {group}: stop it (`penstock ingest`, `penstock up`, or the driver's "
        "StatefulSet scaled to 0), wait for its session to end, and try again"
    )
