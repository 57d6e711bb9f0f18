"""What `penstock status` says of topics, dead letters, the ingest plane, and media that are indexed slice by slice."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from penstock.broker import deadletters, topics
from penstock.broker.base import DeadLetter, Partition, PartitionLag
from penstock.cli import status
from penstock.cli.render import print_table
from penstock.cli.status import _dead_letters, _ingest, _letters_line, _long_media, _topic_rows
from penstock.config import load_settings
from penstock.errors import Reason, UnavailableError
from penstock.ingest.status import PlaneStatus, write_status
from penstock.records import Position


def test_those_that_are_furthest_are_shown_and_the_others_counted() -> None:
    lines = list(_long_media({f"default/media.video/film-{number}": 60.0 * number + 5 for number in range(1, 9)}))
    assert lines[0] == "  under way: default/media.video/film-8, 8:05 of it indexed"
    assert len(lines) == 6
    assert lines[-1] == "  under way: 3 more"


def test_nothing_is_said_where_there_are_none() -> None:
    assert not list(_long_media({}))


def gathered() -> dict[str, Any]:
    outcomes = {"indexed": 123_456, "deleted": 31, "superseded": 2_048, "dead_lettered": 17}
    return {
        "topics": {"media.image": {"modality": "image", "records": 1_234_567, "lag": 45_678}},
        "ingest": {"outcomes": {"image": outcomes}, "freshness": {"image": {"p50_s": 0.5, "p95_s": 1.25}}},
    }


def test_a_topic_shows_every_way_in_which_its_events_ended() -> None:
    (row,) = _topic_rows(gathered())
    assert row["indexed since start"] == 123_456
    assert row["deleted / superseded"] == "31 / 2048"
    assert row["dead letters"] == 17


def test_nothing_of_a_topic_is_cut_in_a_terminal_of_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as rich has it: a terminal
    monkeypatch.setenv("COLUMNS", "80")
    print_table(list(_topic_rows(gathered())))
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row == ["media.image", "1234567", "45678", "123456", "31", "/", "2048", "17", "0.50", "/", "1.25"]


def letter(reason: Reason) -> DeadLetter:
    nowhere = Position("media.text", 0, 0)
    return DeadLetter(nowhere, nowhere, reason, "decode", "", 0, 0, None, (), None, 0, None)


def letters_told(monkeypatch: pytest.MonkeyPatch, held: int) -> dict[str, Any]:
    """With a status that reads the first three."""
    lag = PartitionLag(Partition("media.dlq", 0), None, 0, held)
    monkeypatch.setattr(topics, "group_lag", lambda *_: [lag])
    found = [letter(Reason.CORRUPT), letter(Reason.CORRUPT), *[letter(Reason.REFUSED)] * (held - 2)]
    monkeypatch.setattr(deadletters, "scan_dead_letters", lambda _, limit: iter(found[:limit]))
    monkeypatch.setattr(status, "_DEAD_LETTERS_READ", 3)
    return _dead_letters(load_settings())


def test_reasons_of_some_dead_letters_only_are_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    told = letters_told(monkeypatch, 1_007)
    assert told == {"total": 1_007, "by_reason": {"corrupt": 2, "refused": 1}, "counted_by_reason": 3}
    assert _letters_line(told) == "dead letters: 1,007 (of the first 3: 2 corrupt, 1 refused)"


def test_reasons_of_all_dead_letters_are_told_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _letters_line(letters_told(monkeypatch, 3)) == "dead letters: 3 (2 corrupt, 1 refused)"


def test_an_ingest_plane_that_never_ran_can_be_started(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"no ingest plane has run on .*\. Start one with `penstock up`"):
        _ingest(load_settings(data_dir=tmp_path))


def test_an_ingest_plane_that_was_stopped_can_be_started(tmp_path: Path) -> None:
    write_status(tmp_path, PlaneStatus("stopped", 1, time.time_ns() // 1_000_000, "null", 1, {}))
    with pytest.raises(UnavailableError, match=r"the last one was stopped 0 s ago\. Start one with `penstock up`"):
        _ingest(load_settings(data_dir=tmp_path))
