"""Tests the file that says how far each source has been sent, and what of it survives a crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.config import Settings, load_settings
from penstock.errors import UsageError
from penstock.produce.items import MAX_NAMED, ProduceOptions, RefusalCount, RefusedSource, SourceMark
from penstock.produce.state import ProduceState, default_path, request_of, target_of
from tests.clock import Clock

TARGET = target_of(Settings())
REQUEST = request_of(["s3://b/photos"], ProduceOptions(), TARGET)


def mark(number: int) -> SourceMark:
    return SourceMark("s3://b/photos", {"path": f"b/photos/{number}", "done": number}, number)


def test_a_run_continues_behind_what_the_last_one_settled(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.json"
    state = ProduceState(path, REQUEST)
    assert not state.continues
    assert state.cursor_of("s3://b/photos") is None
    state.settled(mark(1))
    state.settled(mark(2))
    state.write()
    again = ProduceState(path, REQUEST)
    assert again.continues
    assert again.cursor_of("s3://b/photos") == {"path": "b/photos/2", "done": 2}
    assert again.done_of("s3://b/photos") == 2
    assert again.cursor_of("s3://b/other") is None
    assert not ProduceState(path, REQUEST, restart=True).continues
    again.remove()
    assert not path.exists()
    again.remove()


def test_the_file_is_written_from_time_to_time_and_not_for_each_event(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "state.json"
    state = ProduceState(path, REQUEST, clock=clock)
    state.settled(mark(1))
    assert not path.exists()
    clock.now_s += 1.0
    state.settled(mark(2))
    assert ProduceState(path, REQUEST).done_of("s3://b/photos") == 2
    state.settled(mark(3))
    assert ProduceState(path, REQUEST).done_of("s3://b/photos") == 2
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


def test_refusals_are_kept_up_to_the_place_and_added_up(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    refused = [RefusedSource(f"row {number}", "is empty") for number in range(70)]
    state = ProduceState(path, REQUEST)
    state.settled(mark(1), refused[:1])
    state.settled(mark(2), refused[:60], [RefusedSource("row x", "too large")])
    state.write()
    again = ProduceState(path, REQUEST)
    assert (again.refused.count, len(again.refused.first)) == (60, MAX_NAMED)
    assert again.refused.first[0] == RefusedSource("row 0", "is empty")
    assert again.failed == RefusalCount(1, (RefusedSource("row x", "too large"),))
    again.settled(mark(3), refused[60:62])
    again.settled(mark(4), refused[60:])
    again.write()
    assert again.refused.count == 60, "those of earlier runs"
    assert ProduceState(path, REQUEST).refused.count == 70
    assert ProduceState(path, REQUEST, restart=True).refused == RefusalCount()


def test_a_file_of_another_request_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    state = ProduceState(path, REQUEST)
    state.settled(mark(1))
    state.write()
    with pytest.raises(UsageError, match="other sources, options or servers"):
        ProduceState(path, request_of(["s3://b/photos"], ProduceOptions(tenant="acme"), TARGET))
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "schema": 3}))
    with pytest.raises(UsageError, match="another version"):
        ProduceState(path, REQUEST)
    for broken in ("", "[]", '{"schema": 2}'):
        path.write_text(broken)
        with pytest.raises(UsageError, match="no state"):
            ProduceState(path, REQUEST)
    assert not ProduceState(path, REQUEST, restart=True).continues


def test_each_request_has_a_file_of_its_own(tmp_path: Path) -> None:
    requests = [
        REQUEST,
        request_of(["s3://b/photos", "s3://b/more"], ProduceOptions(), TARGET),
        request_of(["s3://b/photos"], ProduceOptions(columns={"text": "a"}), TARGET),
        request_of(["s3://b/photos"], ProduceOptions(acl=["hr"]), TARGET),
    ]
    assert len({default_path(tmp_path, request) for request in requests}) == len(requests)
    assert request_of(["s3://b/photos"], ProduceOptions(), target_of(Settings())) == REQUEST


def test_the_same_command_to_another_place_is_another_request() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"kafka": {"bootstrap_servers": "a:9092,b:9092"}},
        {"kafka": {"bootstrap_servers": "c:9092"}},
        {"kafka": {"image_topic": "other.image"}},
        {"kafka": {"tenants": "media.{tenant}.{modality}"}},
        {"kafka": {"tenants": {"media.text": "acme"}}},
        {"tenant": "acme"},
        {"fetch": {"s3_endpoint": "http://127.0.0.1:9000"}},
    ]
    targets = [target_of(load_settings(**change)) for change in changes]
    requests = {request_of(["s3://b/photos"], ProduceOptions(), target) for target in targets}
    assert len(requests) == len(changes)
    turned = target_of(load_settings(kafka={"bootstrap_servers": "b:9092,a:9092"}))
    assert turned == targets[1], "the order of servers names no other cluster"
