"""The offsets of a group in memory, for a program that is no member of it."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.broker.base import Partition
from penstock.broker.group_offsets import active
from penstock.broker.memory.broker import MemoryBroker
from penstock.errors import UnavailableError


class MemoryGroupOffsets:
    """The offsets of a group of a `MemoryBroker` (`broker.group_offsets.GroupOffsets`).

    Args:
        broker: has the group.
        group: its name.
    """

    def __init__(self, broker: MemoryBroker, group: str) -> None:
        self._broker = broker
        self._group = group

    def members(self) -> int:
        """See `broker.group_offsets.GroupOffsets.members`."""
        self._check_available()
        return len(self._broker.group(self._group).members)

    def set(self, offsets: Mapping[Partition, int]) -> None:
        """See `broker.group_offsets.GroupOffsets.set`."""
        if offsets and self.members():
            raise active(self._group)
        self._check_available()
        self._broker.group(self._group).committed.update(offsets)

    def _check_available(self) -> None:
        if not self._broker.available:
            raise UnavailableError("could not set offsets: the broker does not answer.")
