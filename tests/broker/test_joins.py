"""Joins of kafka-python's own coordinator without a broker, whose answers a test holds back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.consumer.subscription_state import SubscriptionState
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.base import Generation, MemberState
from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.future import Future
from kafka.net.compat import KafkaNetClient

from penstock.broker.base import Partition
from penstock.broker.rebalances import Rebalances

TOPIC = "media.text"


class HeldAnswers(ConsumerCoordinator):  # type: ignore[misc]  # kafka-python has no types
    """A member that is alone in its group. It assigns when it joins, and receives that once `answer` is called."""

    def __init__(self, client: KafkaNetClient, subscription: SubscriptionState) -> None:
        super().__init__(
            client,
            subscription,
            group_id="g",
            assignors=[CooperativeStickyAssignor],
            enable_auto_commit=False,
            api_version=(3, 9),
        )
        self._answers = Future()
        self.assigned = threading.Event()

    def answer(self) -> None:
        self._net.call_soon_threadsafe(lambda: self._answers.success(None))

    def ensure_coordinator_ready(self, timeout_ms: float | None = None) -> bool:
        return True

    async def ensure_coordinator_ready_async(self, timeout_ms: float | None = None) -> bool:
        return True

    def _maybe_start_heartbeat_loop(self) -> None:
        """There is no broker to send heartbeats to."""

    def poll_heartbeat(self) -> None:
        """There is no broker to send heartbeats to."""

    async def _do_join_and_sync_async(self) -> bytes:
        self.state = MemberState.REBALANCING
        name, metadata = self.group_protocols()[0]
        self._generation = Generation(self._generation.generation_id + 1, "m", name)
        member = SimpleNamespace(member_id="m", metadata=metadata.encode())
        assignment = self._perform_assignment("m", name, [member])["m"].encode()
        self.assigned.set()
        await self._answers
        self._answers = Future()
        return bytes(assignment)


@pytest.fixture
def client() -> Iterator[Any]:
    """Yields what `Rebalances` needs of a consumer, whose network thread runs."""
    network = KafkaNetClient(bootstrap_servers="127.0.0.1:1")
    network._net.start()
    subscription = SubscriptionState("none")
    coordinator = HeldAnswers(network, subscription)
    yield SimpleNamespace(
        _cluster=network.cluster,
        _coordinator=coordinator,
        _subscription=subscription,
        group_metadata=lambda: SimpleNamespace(generation_id=coordinator._generation.generation_id),
        pause=lambda *_: None,
    )
    network._net.stop(2_000)


def set_partitions(client: Any, count: int) -> None:
    """Changes the metadata as a response of a broker does."""
    cluster = client._cluster
    cluster._partitions = {TOPIC: {number: SimpleNamespace(leader_id=0) for number in range(count)}}
    for listener in cluster._listeners:
        listener(cluster)


def poll(client: Any) -> None:
    client._coordinator.poll(timeout_ms=20)


def test_an_assignment_that_arrives_between_two_polls_is_taken(client: Any) -> None:
    coordinator = client._coordinator
    rebalances = Rebalances()
    client._subscription.subscribe([TOPIC], listener=rebalances)
    rebalances.attach(client, holds=lambda _: False)
    for count in (2, 3):  # the first join, and one because a partition was added
        set_partitions(client, count)
        coordinator.assigned.clear()
        poll(client)  # ends before the answer
        assert coordinator.assigned.wait(10)
        poll(client)
        coordinator.answer()
        for _ in range(50):
            poll(client)
        assert client._subscription.assigned_partitions() == {TopicPartition(TOPIC, number) for number in range(count)}
    changes = [(change.kind, sorted(change.partitions)) for change in rebalances.take()]
    assert changes == [
        ("assigned", [Partition(TOPIC, 0), Partition(TOPIC, 1)]),
        ("assigned", [Partition(TOPIC, 2)]),
    ]
