"""Tests the lines and tables of `penstock status`."""

from __future__ import annotations

import pytest

from penstock.cli.render import print_table
from penstock.cli.status import dead_letters_line, long_media_lines, store_warnings, topic_rows
from penstock.cli.system_status import DeadLetterStatus, IndexStatus, SystemStatus, TopicStatus
from penstock.ingest.status import Freshness, PlaneState, PlaneStatus


def system() -> SystemStatus:
    ingest = PlaneStatus(
        PlaneState.RUNNING,
        pid=1,
        updated_ms=0,
        profile="null",
        lanes=1,
        workers={},
        outcomes={"image": {"indexed": 123_456, "deleted": 31, "superseded": 2_048, "dead_lettered": 17}},
        freshness={"image": Freshness(10, 0.5, 1.25, 2.0)},
    )
    return SystemStatus(
        profile="null",
        addresses={},
        topics={"media.image": TopicStatus("image", partitions=1, lag=45_678, records=1_234_567, lost=[])},
        dead_letters=None,
        ingest=ingest,
        search=None,
        disk=None,
        index=None,
        metrics=None,
        problems={},
    )


def test_the_most_advanced_assets_are_shown_and_the_others_counted() -> None:
    videos = {f"default/media.video/video-{number}": 60.0 * number + 5 for number in range(1, 9)}
    lines = list(long_media_lines(videos, {}))
    assert lines[0] == "  in progress: default/media.video/video-8, 8:05 indexed"
    assert len(lines) == 6
    assert lines[-1] == "  in progress: 3 more"


def test_without_assets_in_progress_there_is_no_line() -> None:
    assert not list(long_media_lines({}, {}))


def test_documents_in_progress_are_shown_with_their_pages() -> None:
    books = {f"default/media.document/book-{number}": 500 * number for number in range(1, 8)}
    lines = list(long_media_lines({"default/media.audio/talk": 61.0}, books))
    assert lines[:2] == [
        "  in progress: default/media.audio/talk, 1:01 indexed",
        "  in progress: default/media.document/book-7, 3,500 pages indexed",
    ]
    assert len(lines) == 7
    assert lines[-1] == "  in progress: 2 more documents"


def test_a_topic_shows_every_outcome_of_its_events() -> None:
    (row,) = topic_rows(system())
    assert row["indexed since start"] == 123_456
    assert row["deleted / superseded"] == "31 / 2048"
    assert row["dead letters"] == 17


def test_no_column_of_a_topic_is_cut_in_a_terminal_of_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich treat the output as a terminal
    monkeypatch.setenv("COLUMNS", "80")
    print_table(list(topic_rows(system())))
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row == ["media.image", "1234567", "45678", "123456", "31", "/", "2048", "17", "0.50", "/", "1.25"]


def test_reasons_that_were_counted_for_some_dead_letters_only_say_so() -> None:
    letters = DeadLetterStatus(6_007, {"corrupt": 4_998, "refused": 2}, 5_000)
    assert dead_letters_line(letters) == "dead letters: 6,007 (of the first 5,000: 4,998 corrupt, 2 refused)"


def test_reasons_of_all_dead_letters_have_no_note() -> None:
    letters = DeadLetterStatus(3, {"corrupt": 2, "refused": 1}, 3)
    assert dead_letters_line(letters) == "dead letters: 3 (2 corrupt, 1 refused)"


@pytest.mark.parametrize(
    ("store", "images", "warns"),
    [
        ("milvus_lite-3.2.2", 19_999, False),
        ("milvus_lite-3.2.2", 20_000, True),
        ("milvus v2.3.5-lite", 20_000, False),
        (None, 20_000, False),
    ],
)
def test_an_index_that_has_outgrown_milvus_lite_is_named(store: str | None, images: int, warns: bool) -> None:
    lines = list(store_warnings(IndexStatus(store, {"text": 3, "image": images}, 7)))
    assert [line.startswith("! Milvus Lite") for line in lines] == [True] * warns
