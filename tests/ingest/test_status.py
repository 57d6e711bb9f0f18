from __future__ import annotations

from pathlib import Path

from penstock.ingest.lane.status import LaneStatus
from penstock.ingest.status import Freshness, PlaneState, PlaneStatus, read_status, status_file, sum_lanes, write_status
from penstock.records import Modality, Outcome


def lane(name: str, indexed: int, freshness_s: tuple[float, ...]) -> LaneStatus:
    return LaneStatus(
        name,
        outcomes={(Modality.IMAGE, Outcome.INDEXED): indexed},
        dead_letters={"corrupt": 1},
        freshness_s={Modality.IMAGE: freshness_s},
        step_s={"write": 1.5},
    )


def plane(*lanes: LaneStatus) -> PlaneStatus:
    state = PlaneState.RUNNING
    return sum_lanes(lanes, state=state, updated_ms=7, profile="null", workers={"decode": 1}, busy={"decode": 0.5})


def test_lanes_are_summed() -> None:
    status = plane(lane("a", 3, (0.1, 0.2)), lane("b", 4, (0.3,)))
    assert status.outcomes == {"image": {"indexed": 7}}
    assert status.dead_letters == {"corrupt": 2}
    assert status.step_s == {"write": 3.0}
    assert status.freshness["image"] == Freshness(events=3, p50_s=0.2, p95_s=0.3, max_s=0.3)


def test_a_status_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = plane(lane("a", 3, (0.1, 0.2)))
    write_status(tmp_path, "ours", written)
    read = read_status(tmp_path, "ours")
    assert read is not None
    assert (read.state, read.outcomes, read.freshness) == (written.state, written.outcomes, written.freshness)
    assert list(read.assignments["a"]) == []
    assert read_status(tmp_path, "theirs") is None


def test_a_folder_without_a_plane_has_no_status(tmp_path: Path) -> None:
    assert read_status(tmp_path, "ours") is None


def test_a_status_that_cannot_be_understood_counts_as_none(tmp_path: Path) -> None:
    status_file(tmp_path, "ours").parent.mkdir()
    status_file(tmp_path, "ours").write_text('{"state": "running"}')
    assert read_status(tmp_path, "ours") is None
