from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kafka.cluster import ClusterMetadata
from kafka.errors import TopicAuthorizationFailedError
from kafka.util import WeakMethod

from penstock.broker.base import Partition
from penstock.broker.rebalances import HeldRevocations, Rebalances

FIRST, SECOND = Partition("media.text", 0), Partition("media.text", 1)


def test_a_held_revocation_expires_at_its_deadline() -> None:
    held = HeldRevocations()
    held.add(FIRST, deadline_s=5.0, generation=1)
    held.add(SECOND, deadline_s=9.0, generation=1)
    assert held.expired(4.9) == []
    assert held.expired(5.0) == [FIRST]
    assert held.discard(FIRST)
    assert not held.discard(FIRST)
    assert held.expired(9.0) == [SECOND]


def test_a_revocation_counts_only_in_the_generation_that_revoked() -> None:
    held = HeldRevocations()
    held.add(FIRST, deadline_s=5.0, generation=1)
    held.add(SECOND, deadline_s=5.0, generation=2)
    assert held.any_in(1)
    assert held.any_in(2)
    assert not held.any_in(-1)  # the member was removed from the group
    assert held.outdated(2) == [FIRST]
    held.clear()
    assert not held.any_in(1)
    assert FIRST not in held


class Coordinator:
    """Follows metadata as kafka-python's does, which refuses all of them while one topic may not be described."""

    def __init__(self, cluster: ClusterMetadata) -> None:
        self._metadata_snapshot: dict[str, set[int]] = {"hidden": {0}}
        self._join_task: Any = None
        self.rejoining = False
        cluster.add_listener(WeakMethod(self._handle_metadata_update))

    def need_rejoin(self) -> bool:
        return False

    def _handle_metadata_update(self, cluster: Any) -> None:
        if cluster.unauthorized_topics:
            raise TopicAuthorizationFailedError(cluster.unauthorized_topics)
        self._metadata_snapshot = {"text": {0, 1}, "hidden": set()}


def client_of(cluster: ClusterMetadata, coordinator: Coordinator) -> Any:
    metadata = SimpleNamespace(generation_id=7)
    return SimpleNamespace(_cluster=cluster, _coordinator=coordinator, group_metadata=lambda: metadata)


def test_a_join_that_was_begun_is_needed_until_it_ends_or_a_revocation_is_held() -> None:
    """Between the assignment and its arrival kafka-python sees no change of metadata any more."""
    cluster, held = ClusterMetadata(), set[int]()
    coordinator = Coordinator(cluster)
    Rebalances().attach(client_of(cluster, coordinator), holds=held.__contains__)
    assert not coordinator.need_rejoin()
    coordinator.rejoining = True
    assert coordinator.need_rejoin()
    held.add(7)
    assert not coordinator.need_rejoin()


def test_the_metadata_of_other_topics_are_followed_while_one_may_not_be_described() -> None:
    """Each listener of the metadata is called, in any order: one that raises may not be left among them."""
    cluster = ClusterMetadata()
    coordinator = Coordinator(cluster)
    rebalances = Rebalances()
    rebalances.attach(client_of(cluster, coordinator), holds=lambda _: False)
    cluster.unauthorized_topics = {"hidden"}
    for listener in cluster._listeners:
        listener(cluster)
    assert coordinator._metadata_snapshot == {"text": {0, 1}, "hidden": {0}}
    assert rebalances.hidden_topics == {"hidden"}
