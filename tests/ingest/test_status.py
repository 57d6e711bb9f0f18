from __future__ import annotations

from pathlib import Path

from penstock.ingest.lane.status import LaneStatus
from penstock.ingest.status import read_status, summed, write_status
from penstock.records import Modality, Outcome


def lane(name: str, indexed: int, freshness_s: tuple[float, ...]) -> LaneStatus:
    return LaneStatus(
        name,
        outcomes={(Modality.IMAGE, Outcome.INDEXED): indexed},
        dead_letters={"corrupt": 1},
        freshness_s={Modality.IMAGE: freshness_s},
        step_s={"write": 1.5},
    )


def test_lanes_are_summed_and_read_back_as_plain_values(tmp_path: Path) -> None:
    lanes = [lane("a", 3, (0.1, 0.2)), lane("b", 4, (0.3,))]
    plane = summed(lanes, state="running", updated_ms=7, profile="null", workers={"decode": 1}, busy={"decode": 0.5})
    write_status(tmp_path, plane)
    status = read_status(tmp_path)
    assert status is not None
    assert status["outcomes"] == {"image": {"indexed": 7}}
    assert status["dead_letters"] == {"corrupt": 2}
    assert status["step_s"] == {"write": 3.0}
    assert status["freshness"]["image"] == {"events": 3, "p50_s": 0.2, "p95_s": 0.3, "max_s": 0.3}


def test_a_folder_without_a_plane_has_no_status(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None
