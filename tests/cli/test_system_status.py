"""Tests how `penstock status` collects the status of topics, dead letters and the ingest plane."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from penstock.broker import deadletters, topics
from penstock.broker.base import DeadLetter, Partition, PartitionLag
from penstock.cli import system_status
from penstock.cli.system_status import DeadLetterStatus, dead_letter_status, ingest_status, topic_statuses
from penstock.config import load_settings
from penstock.errors import Reason, UnavailableError
from penstock.ingest.status import PlaneState, PlaneStatus, write_status
from penstock.records import Position


def letter(reason: Reason) -> DeadLetter:
    nowhere = Position("media.text", 0, 0)
    return DeadLetter(nowhere, nowhere, reason, "decode", "", 0, 0, None, (), None, 0, None)


def count_dead_letters(monkeypatch: pytest.MonkeyPatch, total: int) -> DeadLetterStatus:
    """Returns the status of a topic with two corrupt dead letters and refused ones, of which three are read."""
    lag = PartitionLag(Partition("media.dlq", 0), None, 0, total)
    monkeypatch.setattr(topics, "group_lag", lambda *_: [lag])
    letters = [letter(Reason.CORRUPT), letter(Reason.CORRUPT), *[letter(Reason.REFUSED)] * (total - 2)]
    monkeypatch.setattr(deadletters, "scan_dead_letters", lambda _, limit: iter(letters[:limit]))
    monkeypatch.setattr(system_status, "MAX_DEAD_LETTERS_READ", 3)
    return dead_letter_status(load_settings())


def test_reasons_are_counted_among_the_first_dead_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    status = count_dead_letters(monkeypatch, 1_007)
    assert status == DeadLetterStatus(1_007, {"corrupt": 2, "refused": 1}, 3)


def test_a_topic_sums_its_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    lags = [PartitionLag(Partition("media.text", 0), 3, 0, 10), PartitionLag(Partition("media.text", 1), 5, 5, 5)]
    monkeypatch.setattr(topics, "group_lag", lambda *_: lags)
    text, image = (topic_statuses(load_settings())[f"media.{modality}"] for modality in ("text", "image"))
    assert (text.modality, text.partitions, text.lag, text.records) == ("text", 2, 7, 10)
    assert (image.partitions, image.lag, image.records) == (0, 0, 0)


def test_an_ingest_plane_that_never_ran_can_be_started(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"no ingest plane has run on .*\. Start one with `penstock up`"):
        ingest_status(load_settings(data_dir=tmp_path))


def test_an_ingest_plane_that_was_stopped_can_be_started(tmp_path: Path) -> None:
    write_status(tmp_path, "penstock", PlaneStatus(PlaneState.STOPPED, 1, time.time_ns() // 1_000_000, "null", 1, {}))
    with pytest.raises(UnavailableError, match=r"the last one was stopped 0 s ago\. Start one with `penstock up`"):
        ingest_status(load_settings(data_dir=tmp_path))
