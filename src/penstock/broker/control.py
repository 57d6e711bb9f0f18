"""The interface of a control group: the consumer group that decides which driver may act."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from penstock.broker.base import Consumer, Partition


@dataclass(frozen=True, slots=True)
class ControlGroupState:
    """The state of a control group, seen from outside.

    Attributes:
        members: the number of members, among them those that are gone and whose session has not run out.
        note: the text of the latest commit; empty if there was none.
    """

    members: int
    note: str


class ControlGroup(Protocol):
    """A consumer group of which only the owner of one partition, `partition`, may act. No record is ever in it."""

    partition: Partition

    def state(self) -> ControlGroupState:
        """Returns the present state, without joining.

        Raises:
            UnavailableError: no broker answers.
            ConfigError: it refuses this client.
        """

    def join(self) -> Consumer:
        """Returns a new member, which joins at its first poll."""

    def close(self) -> None:
        """Frees all resources but those of members. Idempotent."""
