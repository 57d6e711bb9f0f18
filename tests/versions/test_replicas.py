"""Reports of replicas are read while they are young, and a damaged one hides none of the others."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from penstock.assets import AssetStore
from penstock.versions.replicas import (
    FOLDER,
    OUTDATED_AFTER_S,
    REMOVED_AFTER_S,
    ReplicaReport,
    drop_dead_reports,
    drop_report,
    read_reports,
    write_report,
)

NOW_MS = 1_700_000_000_000


@pytest.fixture(params=["memory", "folder"])
def assets(request: pytest.FixtureRequest, tmp_path: Path) -> AssetStore:
    return AssetStore(f"memory://replicas-{uuid.uuid4().hex}" if request.param == "memory" else str(tmp_path / "media"))


def test_reports_are_read_as_they_were_written_until_they_are_dropped(assets: AssetStore) -> None:
    starting = ReplicaReport("aa", (), None, NOW_MS)
    ready = ReplicaReport("bb", (1, 2), 1, NOW_MS, {3: "no weights"})
    assert read_reports(assets, now_ms=NOW_MS) == []
    write_report(assets, starting)
    write_report(assets, ready)
    assert read_reports(assets, now_ms=NOW_MS) == [starting, ready]
    drop_report(assets, "aa")
    assert read_reports(assets, now_ms=NOW_MS) == [ready]
    drop_report(assets, "aa")


def test_the_report_of_a_replica_that_died_is_left_out(assets: AssetStore) -> None:
    write_report(assets, ReplicaReport("aa", (1,), 1, NOW_MS))
    last_ms = NOW_MS + int(OUTDATED_AFTER_S * 1000)
    assert len(read_reports(assets, now_ms=last_ms)) == 1
    assert read_reports(assets, now_ms=last_ms + 1) == []


def test_the_reports_of_replicas_that_died_long_ago_are_removed(assets: AssetStore) -> None:
    for replica, age_s in (("aa", REMOVED_AFTER_S + 1), ("bb", REMOVED_AFTER_S), ("cc", 0)):
        write_report(assets, ReplicaReport(replica, (1,), 1, NOW_MS - int(age_s * 1000)))
    assets.put_note("replicas/dd.json", b"{")
    drop_dead_reports(assets, now_ms=NOW_MS)
    assert sorted(assets.notes(FOLDER)) == ["bb.json", "cc.json", "dd.json"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"replica": "x"}', b'{"replica":"x","holds":3}'])
def test_a_damaged_report_hides_no_other(assets: AssetStore, data: bytes) -> None:
    write_report(assets, ReplicaReport("bb", (1,), 1, NOW_MS))
    assets.put_note("replicas/aa.json", data)
    assert [report.replica for report in read_reports(assets, now_ms=NOW_MS)] == ["bb"]


def test_reports_are_no_media(assets: AssetStore) -> None:
    write_report(assets, ReplicaReport("aa", (1,), 1, NOW_MS))
    assert list(assets.list()) == []
