"""Media that stay open between segments, and their temporary files."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from penstock.errors import UnavailableError
from penstock.records import (
    Collection,
    Event,
    FetchedMedia,
    Float32,
    Modality,
    Rejected,
)
from tests.media.media_files import write_video
from tests.media.segments.harness import SCENES, DecoderHarness, FetchedOf, clip, talk


def test_the_next_process_removes_the_files_of_a_killed_one(harness: DecoderHarness, tmp_path: Path) -> None:
    leftover = tmp_path / "open" / "999999999-abc"
    leftover.mkdir()
    (leftover / "x.media").write_bytes(b"1")
    harness.restart()
    assert not leftover.exists()


def test_a_thumbnail_that_cannot_be_stored_leaves_nothing_open(
    harness: DecoderHarness, fetched_of: FetchedOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(_: bytes) -> str:
        raise UnavailableError("unavailable")

    event = harness.add(fetched_of(write_video(tmp_path / "video.mp4", SCENES).read_bytes()))
    with monkeypatch.context() as patched:
        patched.setattr(harness.decoder, "_put_thumbnail", unavailable)
        with pytest.raises(UnavailableError):
            harness.decode(event)
    assert not harness.decoder._readers._kept
    assert harness.decode_all(event)[1][-1].counts == {Collection.FRAME: 4}


def test_the_least_recently_used_media_are_closed_above_the_limit(
    fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    harness = DecoderHarness(tmp_path, first_segment_s=10, segment_s=10, max_open=2)
    events = [harness.add(clip(tmp_path, fetched_of, talk(spoken, 25), "wav")) for _ in range(4)]
    decoded, _ = harness.decode(*events)
    assert len(decoded.checkpoints) == 4
    decoded, _ = harness.decode(*events[2:], checkpoints=decoded.checkpoints)
    assert harness.fetches == 4
    harness.decode(events[0], checkpoints=decoded.checkpoints)
    assert harness.fetches == 5


def test_media_are_closed_after_a_segment_unless_they_are_kept_open(
    harness: DecoderHarness, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    event = harness.add(clip(tmp_path, fetched_of, talk(spoken, 60), "wav"))
    harness.decoder.decode([event], (), harness.fetch, keep_open=False)
    assert not harness.decoder._readers._kept
    assert not list((tmp_path / "open").rglob("*.media"))


def test_a_batch_that_fails_leaves_nothing_open(
    harness: DecoderHarness, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    long = harness.add(clip(tmp_path, fetched_of, talk(spoken, 60), "wav"))
    other = fetched_of(b"ID3", modality=Modality.AUDIO).event

    def fetch(event: Event) -> FetchedMedia | Rejected:
        if event is other:
            raise UnavailableError("unavailable")
        return harness.fetch(event)

    with pytest.raises(UnavailableError):
        harness.decoder.decode([long, other], (), fetch, keep_open=False)
    assert not harness.decoder._readers._kept


def test_a_full_disk_is_a_transient_failure(
    harness: DecoderHarness, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = harness.add(clip(tmp_path, fetched_of, talk(spoken, 60), "wav"))
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        write(path, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(UnavailableError, match="No space left"):
            harness.decode(event)
    assert not list((tmp_path / "open").rglob("*.media"))
    assert harness.decode(event)[0].checkpoints


def test_large_media_are_in_a_file_while_they_are_open(
    harness: DecoderHarness, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    event = harness.add(clip(tmp_path, fetched_of, talk(spoken, 60), "wav"))
    harness.decode(event)
    [file] = (tmp_path / "open").rglob("*.media")
    harness.decoder.close()
    assert not file.exists()
