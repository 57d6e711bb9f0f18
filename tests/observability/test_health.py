"""Checks the answers to probes, over HTTP from a node's endpoint, by the time of the driver's last turn."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from penstock.observability.exposition import Endpoint, is_served
from penstock.observability.health import (
    LIVE_FOR_MS,
    Health,
    answer,
    read_health,
    remove_ended,
    replace_text,
    write_health,
)

TURN_MS = 1_000_000


def turn(
    directory: Path, *reasons: str, group: str = "ours", state: str = "running", at_ms: int = TURN_MS, lanes: int = 1
) -> None:
    status = {"state": state, "lanes": lanes}
    write_health(directory, Health(group, state, reasons, at_ms, at_ms + LIVE_FOR_MS, status))


def code(path: str, directory: Path, *, after_s: float = 0.0, group: str = "") -> int:
    given = answer(path, directory, TURN_MS + int(after_s * 1000), group)
    assert given is not None
    return given.code


def test_a_plane_is_live_for_a_minute_after_its_last_turn(tmp_path: Path) -> None:
    turn(tmp_path)
    assert [code("/livez", tmp_path, after_s=s) for s in (0, 59, 61)] == [200, 200, 503]


def test_an_unready_plane_says_why_and_is_live(tmp_path: Path) -> None:
    turn(tmp_path, "store: it does not answer")
    unready = answer("/readyz", tmp_path, TURN_MS)
    assert unready is not None
    assert (unready.code, unready.document["reasons"]) == (503, ["store: it does not answer"])
    assert code("/livez", tmp_path, after_s=0) == 200


def test_a_ready_plane_whose_driver_does_not_turn_is_unready_within_ten_seconds(tmp_path: Path) -> None:
    turn(tmp_path)
    assert [code("/readyz", tmp_path, after_s=s) for s in (0, 10, 10.1)] == [200, 200, 503]


def test_a_node_without_a_plane_is_neither(tmp_path: Path) -> None:
    for path in ("/livez", "/readyz", "/status"):
        assert code(path, tmp_path, after_s=0) == 404
    assert answer("/other", tmp_path, TURN_MS) is None


def test_each_plane_of_a_node_answers_for_itself_and_all_of_them_for_the_node(tmp_path: Path) -> None:
    turn(tmp_path, group="ours")
    turn(tmp_path, "store: it does not answer", group="theirs")
    assert [code("/readyz", tmp_path, group=group) for group in ("ours", "theirs", "nobody's", "")] == [
        200,
        503,
        404,
        503,
    ]
    assert [code("/livez", tmp_path, group=group) for group in ("ours", "theirs", "")] == [200, 200, 200]
    of_all = answer("/readyz", tmp_path, TURN_MS)
    assert of_all is not None
    assert of_all.document["reasons"] == ["theirs: store: it does not answer"]
    turn(tmp_path, group="theirs", at_ms=TURN_MS - LIVE_FOR_MS - 1)
    assert [code("/livez", tmp_path, group=group) for group in ("ours", "theirs", "")] == [200, 503, 503]


def test_the_status_of_several_planes_asks_for_a_group(tmp_path: Path) -> None:
    turn(tmp_path, group="ours", lanes=3)
    turn(tmp_path, group="theirs")
    which = answer("/status", tmp_path, TURN_MS)
    assert which is not None
    assert (which.code, which.document) == (
        400,
        {"reasons": ["several ingest planes run on this node; add ?group= with one of: ours, theirs"]},
    )
    of_ours = answer("/status", tmp_path, TURN_MS, "ours")
    assert of_ours is not None
    assert (of_ours.code, of_ours.document["lanes"]) == (200, 3)


def test_planes_that_ended_are_forgotten_when_the_next_one_starts(tmp_path: Path) -> None:
    turn(tmp_path, group="ended")
    turn(tmp_path, group="lives", at_ms=TURN_MS + 1)
    (tmp_path / "health" / "0.json").write_text('{"of": "another version"}')
    remove_ended(tmp_path, TURN_MS + LIVE_FOR_MS + 1)
    assert read_health(tmp_path, "ended") is None
    assert read_health(tmp_path, "lives") is not None
    assert len(list((tmp_path / "health").iterdir())) == 1


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    endpoint = Endpoint(tmp_path, "127.0.0.1", 0)
    assert not is_served(tmp_path)
    endpoint.ensure()
    assert is_served(tmp_path)
    yield endpoint.url.removesuffix("/metrics")
    endpoint.close()
    assert not is_served(tmp_path)


def test_the_endpoint_of_a_node_answers_beside_its_metrics(url: str, tmp_path: Path) -> None:
    assert httpx.get(f"{url}/readyz").status_code == 404
    turn(tmp_path, at_ms=time.time_ns() // 1_000_000)
    for path, field, value in (("/livez", "live", True), ("/readyz", "ready", True), ("/status", "lanes", 1)):
        given = httpx.get(url + path)
        assert (given.status_code, given.headers["content-type"]) == (200, "application/json; charset=utf-8")
        assert given.json()[field] == value
    turn(tmp_path, group="a+b & c", at_ms=time.time_ns() // 1_000_000, lanes=4)
    assert httpx.get(f"{url}/status").status_code == 400
    assert httpx.get(f"{url}/status", params={"group": "a+b & c"}).json()["lanes"] == 4
    assert httpx.get(f"{url}/metrics").headers["content-type"].startswith("text/plain")
    missing = httpx.get(f"{url}/nothing")
    assert (missing.status_code, missing.json()) == (404, {"reasons": ["there is no /nothing here"]})


def test_processes_that_replace_one_file_have_temporary_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "folder" / "health.json"
    written: list[Path] = []
    replace = Path.replace

    def replaced(temporary: Path, over: Path) -> Path:
        written.append(temporary)
        return replace(temporary, over)

    monkeypatch.setattr(Path, "replace", replaced)
    for pid in (1, 2):
        monkeypatch.setattr(os, "getpid", lambda of=pid: of)
        replace_text(target, f"by {pid}")
    assert len(set(written)) == 2
    assert target.read_text() == "by 2"
    assert list(target.parent.iterdir()) == [target]


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "health.json"
    target.mkdir()
    with pytest.raises(OSError, match=r"health\.json"):
        replace_text(target, "text")
    assert list(tmp_path.iterdir()) == [target]
