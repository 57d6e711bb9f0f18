"""The control group of a broker in memory."""

from __future__ import annotations

from penstock.broker.base import Partition
from penstock.broker.control import ControlGroupState
from penstock.broker.memory.broker import MemoryBroker
from penstock.broker.memory.consumer import MemoryConsumer
from penstock.errors import UnavailableError


class MemoryControlGroup:
    """A control group of a `MemoryBroker` (`broker.control.ControlGroup`). Sessions do not run out: see `evict`.

    Args:
        broker: has the topic, with one partition.
        group: its name.
        topic: the control topic.
    """

    def __init__(self, broker: MemoryBroker, group: str, topic: str) -> None:
        self.partition = Partition(topic, 0)
        self._broker = broker
        self._group = group

    def state(self) -> ControlGroupState:
        """See `broker.control.ControlGroup.state`."""
        if not self._broker.available:
            raise UnavailableError("could not look up the control group: the broker does not answer.")
        group = self._broker.group(self._group)
        return ControlGroupState(len(group.members), group.notes.get(self.partition, ""))

    def join(self) -> MemoryConsumer:
        """See `broker.control.ControlGroup.join`."""
        return self._broker.consumer(self._group, [self.partition.topic], drain_timeout_s=10.0)

    def close(self) -> None:
        """See `broker.control.ControlGroup.close`."""
