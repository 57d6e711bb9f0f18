"""The metrics of lag and age, measured one time at a time."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping

import pytest

from penstock.broker.base import Partition, PartitionLag
from penstock.errors import UnavailableError
from penstock.ingest.lag import LagMonitor
from penstock.observability import metrics

NOW_S = 1_000.0
P0, P1, OTHER = Partition("a", 0), Partition("a", 1), Partition("b", 0)


class Broker:
    """Answers with these lags and timestamps, and records which records were read."""

    def __init__(self) -> None:
        metrics.LAG.clear()
        metrics.OLDEST_UNSETTLED.clear()
        self.lags: list[PartitionLag] = []
        self.times: dict[Partition, int] = {}
        self.read: list[Mapping[Partition, int]] = []
        self.away = False
        self.monitor = LagMonitor(self.read_lag, threading.Event(), read_times=self.read_times, wall_s=lambda: NOW_S)

    def read_lag(self) -> list[PartitionLag]:
        if self.away:
            raise UnavailableError("away")
        return self.lags

    def read_times(self, offsets: Mapping[Partition, int]) -> Mapping[Partition, int]:
        self.read.append(offsets)
        return {partition: self.times[partition] for partition in offsets if partition in self.times}


@pytest.fixture
def broker() -> Broker:
    return Broker()


def exported(metric: metrics.Metric, *labels: str) -> Mapping[tuple[str, ...], float]:
    """Returns the values that would be exported."""
    (family,) = metric.collect()
    samples = {tuple(sample.labels[label] for label in labels): sample.value for sample in family.samples}
    return {key: value for key, value in samples.items() if not math.isnan(value)}


def ages() -> Mapping[tuple[str, ...], float]:
    return exported(metrics.OLDEST_UNSETTLED, "topic")


def test_the_oldest_record_of_a_topic_counts_and_each_is_read_one_time(broker: Broker) -> None:
    broker.lags = [PartitionLag(P0, 3, 0, 9), PartitionLag(P1, None, 2, 9), PartitionLag(OTHER, 5, 0, 5)]
    broker.times = {P0: 990_000, P1: 940_000}
    broker.monitor.measure()
    assert ages() == {("a",): 60.0, ("b",): 0.0}
    broker.monitor.measure()
    assert broker.read == [{P0: 3, P1: 2}]
    broker.lags[1] = PartitionLag(P1, 9, 2, 9)
    broker.lags[0] = PartitionLag(P0, 4, 0, 9)
    broker.times[P0] = 995_000
    broker.monitor.measure()
    assert broker.read[1:] == [{P0: 4}]
    assert ages() == {("a",): 5.0, ("b",): 0.0}


def test_lag_and_age_have_no_value_while_the_broker_is_away(broker: Broker) -> None:
    broker.lags, broker.times = [PartitionLag(P0, 3, 0, 9)], {P0: 990_000}
    broker.monitor.measure()
    assert exported(metrics.LAG, "topic", "partition") == {("a", "0"): 6}
    assert broker.monitor.partitions() == {P0}
    broker.away = True
    broker.monitor.measure()
    assert exported(metrics.LAG, "topic", "partition") == {}
    assert ages() == {}
    assert broker.monitor.partitions() is None
    broker.away = False
    broker.monitor.measure()
    assert exported(metrics.LAG, "topic", "partition") == {("a", "0"): 6}
    assert ages() == {("a",): 10.0}


def test_an_age_that_cannot_be_read_has_no_value_while_the_lag_has(broker: Broker) -> None:
    broker.lags = [PartitionLag(P0, 3, 0, 9)]
    broker.monitor.measure()
    assert ages() == {}
    assert exported(metrics.LAG, "topic", "partition") == {("a", "0"): 6}


def test_the_lag_of_a_topic_that_is_gone_has_no_value(broker: Broker) -> None:
    broker.lags = [PartitionLag(P0, 3, 0, 9), PartitionLag(OTHER, 5, 0, 5)]
    broker.monitor.measure()
    del broker.lags[1]
    broker.monitor.measure()
    assert exported(metrics.LAG, "topic", "partition") == {("a", "0"): 6}


def test_a_record_of_the_future_is_of_no_age(broker: Broker) -> None:
    broker.lags, broker.times = [PartitionLag(P0, 3, 0, 9)], {P0: 2_000_000}
    broker.monitor.measure()
    assert ages() == {("a",): 0.0}


def test_a_broker_that_is_away_is_logged_one_time_and_so_is_its_return(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for away in (True, True, True, False, False):
        broker.away = away
        broker.monitor.measure()
    assert [record.getMessage() for record in caplog.records] == [
        "the lag could not be read and will be read again: away",
        "the lag can be read again",
    ]
