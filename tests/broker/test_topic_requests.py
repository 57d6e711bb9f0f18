"""Tests the requests to create topics and to read committed offsets that depend on the state of the cluster.

The broker of the other tests never gives the answers of a cluster with several nodes, or of one that is starting, on
demand; an admin client that gives them stands in for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition, errors

from penstock.broker.topics import _committed, _create
from penstock.config import KafkaSettings

TP = TopicPartition("media.text", 0)


class Admin:
    """Answers with these errors first, and records the topics to create."""

    def __init__(self, *failures: type[Exception]) -> None:
        self.failures = list(failures)
        self.created: dict[str, Mapping[str, Any]] = {}

    def create_topics(self, topics: Mapping[str, Mapping[str, Any]], **_: object) -> None:
        self.created |= topics

    def list_group_offsets(self, groups: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.failures:
            raise self.failures.pop(0)
        return {group: {TP: SimpleNamespace(offset=7)} for group in groups}


@pytest.mark.parametrize(("configured", "requested"), [(None, -1), (3, 3)])
def test_an_unset_replication_factor_is_left_to_the_broker(configured: int | None, requested: int) -> None:
    admin = Admin()
    assert _create(admin, {"media.text": {}}, KafkaSettings(replication_factor=configured)) == ["media.text"]
    assert admin.created["media.text"]["replication_factor"] == requested


def test_a_coordinator_that_is_starting_is_waited_for() -> None:
    admin = Admin(
        errors.CoordinatorNotAvailableError, errors.NotCoordinatorError, errors.CoordinatorLoadInProgressError
    )
    assert _committed(admin, "penstock", [TP]) == {TP: 7}
    assert admin.failures == []


def test_other_errors_of_the_coordinator_are_raised_immediately() -> None:
    with pytest.raises(errors.GroupAuthorizationFailedError):
        _committed(Admin(errors.GroupAuthorizationFailedError), "penstock", [TP])
