"""A new version has what the topics no longer hold, in the version and with the words that the old one has, whatever
happens in that time; what is not available is named; the version that is served is not written again."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from penstock.broker.base import Partition
from penstock.ingest.reindex import filling
from penstock.ingest.reindex.filling import StoppedFillError
from penstock.records import Outcome
from penstock.versions import Phase, read_missing, read_progress, read_reindex
from tests.ingest.builders import TOPIC
from tests.ingest.lane.harness import running
from tests.ingest.reindex.twin import TwinPlant


@pytest.fixture
def plant(tmp_path: Path) -> TwinPlant:
    return TwinPlant(tmp_path / "assets")


def test_a_fill_makes_the_assets_again_that_the_topics_no_longer_have(plant: TwinPlant) -> None:
    plant.append(
        "a",
        b"parts:3",
        ce_title="A title",
        ce_attributes='{"lang":"de"}',
        ce_acl='["group:legal"]',
        ce_time="2024-05-01T10:00:00Z",
    )
    plant.append("b", b"plain")
    with running(plant.started()):
        plant.settled()
        before = plant.rows_old()
        plant.retain()
        plant.append("c", b"still there")
        with running(plant.started_new()):
            plant.filler().fill()
            plant.settled_new()
        plant.settled()
    assert plant.rows_old().items() >= before.items()
    new = plant.rows_new()
    assert {key: row.version for key, row in new.items()} == {key: row.version for key, row in plant.rows_old().items()}
    assert (len(plant.entries_new()["a"]), len(plant.entries_new()["b"])) == (3, 1)
    entry = plant.entries_new()["a"][0]
    assert (entry.title, json.loads(entry.attributes_json)) == ("A title", {"lang": "de"})
    assert entry.acl == ("group:legal",)
    assert entry.event_time_ms == 1_714_557_600_000
    assert plant.audit().balanced
    report = plant.audit_new()
    assert (report.balanced, report.problems) == (True, ())
    assert plant.media.fetched == []  # the plane of the served version settles refills without reading their media
    assert sorted(plant.media.decoded) == ["a", "b", "c"]


def test_a_version_whose_events_are_all_in_the_topics_is_filled_without_any_refill(plant: TwinPlant) -> None:
    for number in range(20):
        plant.append(f"k{number}", b"v")
    with running(plant.started(), plant.started_new()):
        plant.settled()
        plant.filler().fill()
    assert plant.log_end() == 20
    assert len(plant.rows_new()) == 20
    reindex, progress = read_reindex(plant.assets), read_progress(plant.assets)
    assert reindex is not None
    assert reindex.phase is Phase.READY
    assert progress is not None
    assert (progress.done, progress.total, progress.missing, progress.filled) == (20, 20, 0, True)


def test_newer_events_and_deletions_win_over_refills_wherever_they_arrive(plant: TwinPlant) -> None:
    for key in ("updated", "deleted", "moved"):
        plant.append(key, b"old", partition=0)
    with running(plant.started()):
        plant.settled()
        plant.retain()
        with running(plant.started_new()):
            plant.settled_new()
            plant.append("moved", b"parts:2", partition=1)  # read before the refill, and newer than it
            plant.settled_new()
            plant.filler().fill()
            plant.append("updated", b"parts:2", partition=0)
            plant.append("deleted", None, partition=0)
            plant.settled_new()
        plant.settled()
    assert {key: row.outcome for key, row in plant.rows_new().items()} == {
        "updated": Outcome.INDEXED,
        "deleted": Outcome.DELETED,
        "moved": Outcome.INDEXED,
    }
    assert {key: len(entries) for key, entries in plant.entries_new().items()} == {"updated": 2, "moved": 2}
    assert plant.audit().balanced
    assert plant.audit_new().balanced


def test_what_cannot_be_had_is_named_and_the_rest_is_filled(plant: TwinPlant) -> None:
    for key in ("kept", "swept", "spoilt"):
        plant.append(key, key.encode())
    with running(plant.started()):
        plant.settled()
        plant.retain()
        rows = plant.rows_old()
        plant.assets.delete(rows["swept"].uri.removeprefix("asset:"))
        plant.new_media.spoils = {"spoilt"}
        with running(plant.started_new()):
            plant.filler().fill()
            plant.settled_new()
    assert plant.rows_new().keys() == {"kept"}
    reasons = {missing.asset.key: missing.reason for missing in read_missing(plant.assets)}
    assert reasons.keys() == {"swept", "spoilt"}
    assert "not in the asset store" in reasons["swept"]
    assert "deadletters list" in reasons["spoilt"]
    progress = read_progress(plant.assets)
    assert progress is not None
    assert (progress.missing, progress.done, progress.total) == (2, 3, 3)


def test_an_asset_of_a_topic_that_was_created_again_is_missing(plant: TwinPlant) -> None:
    for number in range(8):
        plant.append(f"k{number}", b"v", partition=0)
    with running(plant.started()):
        plant.settled()
    plant.broker.truncate_to(Partition(TOPIC, 0), 0)
    with running(plant.started_new()):
        plant.filler().fill()
    missing = read_missing(plant.assets)
    assert len(missing) == 8
    assert all("created again" in entry.reason for entry in missing)


def test_what_could_not_be_had_is_not_missing_any_more_once_it_is_there(plant: TwinPlant) -> None:
    plant.append("a", b"v")
    with running(plant.started()):
        plant.settled()
        plant.retain()
        uri = plant.rows_old()["a"].uri
        plant.assets.delete(uri.removeprefix("asset:"))
        with running(plant.started_new()):
            plant.filler().fill()
            assert [entry.asset.key for entry in read_missing(plant.assets)] == ["a"]
            plant.append("a", b"again")
            plant.settled()
            plant.settled_new()
            plant.filler().look_again()
    assert read_missing(plant.assets) == []


def test_what_is_missing_stays_listed_while_it_is_looked_at_again(
    plant: TwinPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps the version from being served, as the version is filled in that time."""
    monkeypatch.setattr(filling, "_PAGE", 1)
    monkeypatch.setattr(filling, "_COUNT_EVERY_S", 0.0)
    for number in range(4):
        plant.append(f"k{number}", b"v")
    seen: list[tuple[int, int]] = []

    def look(_seconds: float) -> bool:
        progress = read_progress(plant.assets)
        assert progress is not None
        seen.append((progress.missing, len(read_missing(plant.assets))))
        return len(seen) == 7  # the plane stops within the second look

    with running(plant.started()):
        plant.settled()
        plant.retain()
        for row in plant.rows_old().values():
            plant.assets.delete(row.uri.removeprefix("asset:"))
        with running(plant.started_new()):
            plant.filler().fill()
            plant.append("k0", b"again")
            plant.settled()
            plant.settled_new()
            plant.filler(sleep=look).look_again()
            assert seen == [(4, 4)] * 4
            assert [entry.asset.key for entry in read_missing(plant.assets)] == sorted(
                ["k1", "k2", "k3"], key=lambda key: plant.rows_old()[key].asset.id
            )
            with pytest.raises(StoppedFillError):
                plant.filler(sleep=look).look_again()
    assert seen[4:] == [(3, 3)] * 3
    progress = read_progress(plant.assets)
    assert progress is not None
    assert (progress.missing, len(read_missing(plant.assets)), progress.filled) == (3, 3, True)


@pytest.mark.parametrize("ends_at", range(0, 9))
def test_a_fill_that_ended_anywhere_is_continued(plant: TwinPlant, ends_at: int) -> None:
    for number in range(12):
        plant.append(f"k{number}", b"v")
    plant.append("lost", b"lost")
    with running(plant.started()):
        plant.settled()
        plant.assets.delete(plant.rows_old()["lost"].uri.removeprefix("asset:"))
        plant.retain()
        calls = iter(range(1_000_000))

        def stops(seconds: float) -> bool:
            time.sleep(min(seconds, 0.005))
            return next(calls) == ends_at

        with running(plant.started_new()):
            for _ in range(3):
                try:
                    plant.filler(sleep=stops).fill()
                    break
                except StoppedFillError:
                    continue
            plant.settled_new()
        plant.settled()
    assert len(plant.rows_new()) == 12
    assert [entry.asset.key for entry in read_missing(plant.assets)] == ["lost"]
    progress = read_progress(plant.assets)
    assert progress is not None
    assert progress.missing == 1
    assert plant.audit().balanced
    assert plant.audit_new().balanced
    assert sorted(plant.media.decoded) == sorted({*plant.rows_new(), "lost"})  # each asset one time


def test_events_that_retention_takes_before_the_group_reads_them_are_filled(plant: TwinPlant) -> None:
    for number in range(10):
        plant.append(f"k{number}", b"v", partition=0)
    with running(plant.started()):
        plant.settled()
        with running(plant.started_new()):
            plant.settled_new()
        for number in range(10, 20):
            plant.append(f"k{number}", b"v", partition=0)
        plant.settled()
        plant.broker.expire(Partition(TOPIC, 0), 15)  # the new group stands at 10
        with running(plant.started_new()):
            plant.filler().fill()
            plant.settled_new()
    assert len(plant.rows_new()) == 20
