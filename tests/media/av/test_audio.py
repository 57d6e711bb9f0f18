from __future__ import annotations

import itertools
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from penstock.errors import BadInputError, Reason
from penstock.media.av.audio import RATE_HZ, AudioTrack, Block
from penstock.records import Float32
from tests.media.media_files import AUDIO_FORMATS, RARE_AUDIO_FORMATS, beeps, edges_s, write_audio, write_channels

# The edges of four seconds of beeps, without the first, which no silence precedes.
BEEPS_S = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]


def blocks_of(media: Path | bytes) -> list[Block]:
    with closing(AudioTrack(media)) as track:
        return list(track.blocks())


def whole(blocks: list[Block]) -> Float32:
    """Joins blocks on the player's clock, with gaps as silence."""
    samples = np.zeros(blocks[-1].end, np.float32)
    for block in blocks:
        samples[block.start : block.end] = block.samples
    return samples


@pytest.mark.parametrize("suffix", AUDIO_FORMATS)
@pytest.mark.parametrize(("rate_hz", "layout"), [(48_000, "stereo"), (16_000, "mono")])
def test_every_container_gives_the_same_audio_at_the_same_time(
    suffix: str, rate_hz: int, layout: str, tmp_path: Path
) -> None:
    path = write_audio(tmp_path / f"a.{suffix}", beeps(4, rate_hz), rate_hz=rate_hz, layout=layout)
    blocks = blocks_of(path)
    assert blocks[0].start == 0
    assert all(block.end == after.start for block, after in itertools.pairwise(blocks))
    samples = whole(blocks)
    assert samples.dtype == np.float32
    assert edges_s(samples) == pytest.approx(BEEPS_S, abs=0.02)
    assert len(samples) / RATE_HZ == pytest.approx(4, abs=0.1)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("suffix", RARE_AUDIO_FORMATS)
def test_rarer_containers_are_decoded(suffix: str, tmp_path: Path) -> None:
    rate_hz = 48_000
    path = write_audio(tmp_path / f"a.{suffix}", beeps(2, rate_hz), rate_hz=rate_hz)
    for media in (path, path.read_bytes()):
        assert edges_s(whole(blocks_of(media)))[-3:] == pytest.approx([0.5, 1.0, 1.5], abs=0.07)


def test_amr_is_decoded() -> None:
    frames = 50 * (b"\x3c" + bytes(31))  # of 20 ms each
    assert blocks_of(b"#!AMR\n" + frames)[-1].end == RATE_HZ


def test_blocks_stay_small_however_long_the_file(tmp_path: Path) -> None:
    blocks = blocks_of(write_audio(tmp_path / "a.flac", beeps(60)))
    assert max(len(block.samples) for block in blocks) < RATE_HZ
    assert blocks[-1].end == 60 * RATE_HZ


@pytest.mark.parametrize("suffix", ["wv", "wav", "caf", "avi"])
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_blocks_stay_small_however_long_the_frames(suffix: str, layout: str, tmp_path: Path) -> None:
    path = write_audio(tmp_path / f"a.{suffix}", beeps(40, 1_000), rate_hz=1_000, layout=layout, frame=20_000)
    blocks = blocks_of(path)
    assert max(len(block.samples) for block in blocks) < RATE_HZ
    assert all(block.end == after.start for block, after in itertools.pairwise(blocks))
    assert edges_s(whole(blocks))[:79] == pytest.approx(np.arange(0.5, 40, 0.5), abs=0.02)


@pytest.mark.parametrize("channels", [9, 32, 64])
def test_channels_without_a_known_layout_are_unsupported(channels: int, tmp_path: Path) -> None:
    path = write_channels(tmp_path / "a.wav", channels)
    with pytest.raises(BadInputError, match=f"{channels} channels") as caught:
        blocks_of(path)
    assert caught.value.reason is Reason.UNSUPPORTED


@pytest.mark.parametrize("rate_hz", [8, 999, 1_000_001, 2**31 - 1])
@pytest.mark.parametrize("suffix", ["wv", "wav"])
def test_a_rate_at_which_nothing_is_recorded_is_corrupt(suffix: str, rate_hz: int, tmp_path: Path) -> None:
    path = write_audio(tmp_path / f"a.{suffix}", np.zeros(8_000, np.float32), rate_hz=rate_hz)
    with pytest.raises(BadInputError, match="rate") as caught:
        blocks_of(path)
    assert caught.value.reason is Reason.CORRUPT


def test_bytes_are_read_as_files_are(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.mp3", beeps(2))
    assert np.array_equal(whole(blocks_of(path.read_bytes())), whole(blocks_of(path)))


def test_a_gap_between_timestamps_is_not_filled_with_silence(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.mkv", beeps(4), starts_s=((0.0, 0.0), (2.048, 3_602.048)))
    blocks = blocks_of(path)
    assert sum(len(block.samples) for block in blocks) == pytest.approx(4 * RATE_HZ, abs=2_000)
    assert edges_s(whole(blocks))[-3:] == pytest.approx([3_602.5, 3_603.0, 3_603.5], abs=0.07)


def test_timestamps_that_go_back_do_not_repeat_audio(tmp_path: Path) -> None:
    blocks = blocks_of(write_audio(tmp_path / "a.mkv", beeps(4), starts_s=((0.0, 5.0), (2.048, 7.048))))
    assert all(block.end <= after.start for block, after in itertools.pairwise(blocks))


@pytest.mark.parametrize("begin_s", [0.0, 4.2, 8.2])
def test_times_continue_for_all_tracks_where_files_were_joined(begin_s: float, tmp_path: Path) -> None:
    joint = write_audio(tmp_path / "a.ts", beeps(2), video_s=4.0).read_bytes()
    early_s = 0.064  # by which AAC starts before the video
    with closing(AudioTrack(3 * joint, start=round(begin_s * RATE_HZ))) as track:
        edges = edges_s(whole(list(track.blocks())))
    starts_s = [early_s + number * (4 + early_s) for number in range(3)]
    expected = [at_s + edge_s for at_s in starts_s for edge_s in (0.5, 1.0, 1.5) if at_s + edge_s > begin_s]
    assert [edge for edge in edges if 0.3 < edge % 4 < 2] == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_an_audio_track_that_starts_after_the_video_has_the_times_of_the_player(suffix: str, tmp_path: Path) -> None:
    path = write_audio(tmp_path / f"a.{suffix}", beeps(2), starts_s=((0.0, 2.0),), video_s=4.0)
    assert blocks_of(path)[0].start / RATE_HZ == pytest.approx(2.0, abs=0.07)


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_a_container_that_starts_late_starts_at_zero_on_the_players_clock(suffix: str, tmp_path: Path) -> None:
    path = write_audio(tmp_path / f"a.{suffix}", beeps(2), starts_s=((0.0, 100.0),))
    assert blocks_of(path)[0].start == pytest.approx(0, abs=0.03 * RATE_HZ)


def test_a_video_without_audio_has_no_blocks(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.mp4", beeps(0), video_s=1.0)
    assert blocks_of(path) == []


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "flac", "webm", "wav"])
def test_a_file_that_was_cut_off_is_decoded_up_to_its_end(suffix: str, tmp_path: Path) -> None:
    path = write_audio(tmp_path / f"a.{suffix}", beeps(20))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert 5 < blocks_of(path)[-1].end / RATE_HZ < 15


def test_a_file_with_a_hole_keeps_the_times_of_the_rest(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.mkv", beeps(20))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    path.write_bytes(data)
    blocks = blocks_of(path)
    assert blocks[-1].end / RATE_HZ == pytest.approx(20, abs=0.2)
    assert edges_s(whole(blocks))[-3:] == pytest.approx([18.5, 19.0, 19.5], abs=0.1)
