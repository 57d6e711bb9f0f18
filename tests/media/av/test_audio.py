from __future__ import annotations

import io
import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from penstock.errors import BadInputError, Reason
from penstock.media.av.audio import RATE_HZ, AudioTrack, Block
from penstock.media.sniff import sniff
from penstock.records import Float32, Modality
from tests.media.recordings import RARE_SOUND_FORMATS, SOUND_FORMATS, beeps, edges_s, write_channels, write_sound

BEEPS_S = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
"""The edges of four seconds of beeps, but for the first, which no loudness comes before."""


def blocks_of(media: Path | io.BytesIO) -> list[Block]:
    with AudioTrack(media) as sound:
        return list(sound.blocks())


def whole(blocks: list[Block]) -> Float32:
    """On the player's clock, gaps as silence."""
    samples = np.zeros(blocks[-1].end, np.float32)
    for block in blocks:
        samples[block.start : block.end] = block.samples
    return samples


@pytest.mark.parametrize("suffix", SOUND_FORMATS)
@pytest.mark.parametrize(("rate_hz", "layout"), [(48_000, "stereo"), (16_000, "mono")])
def test_every_container_gives_the_same_sound_at_the_same_time(
    suffix: str, rate_hz: int, layout: str, tmp_path: Path
) -> None:
    path = write_sound(tmp_path / f"a.{suffix}", beeps(4, rate_hz), rate_hz=rate_hz, layout=layout)
    blocks = blocks_of(path)
    assert blocks[0].start == 0
    assert all(one.end == other.start for one, other in itertools.pairwise(blocks))
    samples = whole(blocks)
    assert samples.dtype == np.float32
    assert edges_s(samples) == pytest.approx(BEEPS_S, abs=0.02)
    assert len(samples) / RATE_HZ == pytest.approx(4, abs=0.1)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("suffix", RARE_SOUND_FORMATS)
def test_rarer_containers_are_heard_too(suffix: str, tmp_path: Path) -> None:
    rate_hz = 48_000
    path = write_sound(tmp_path / f"a.{suffix}", beeps(2, rate_hz), rate_hz=rate_hz)
    for media in (path, io.BytesIO(path.read_bytes())):
        assert edges_s(whole(blocks_of(media)))[-3:] == pytest.approx([0.5, 1.0, 1.5], abs=0.07)


def test_amr_is_heard_too() -> None:
    frames = 50 * (b"\x3c" + bytes(31))  # of 20 ms each
    assert blocks_of(io.BytesIO(b"#!AMR\n" + frames))[-1].end == RATE_HZ


def test_blocks_stay_small_however_long_the_file(tmp_path: Path) -> None:
    blocks = blocks_of(write_sound(tmp_path / "a.flac", beeps(60)))
    assert max(len(block.samples) for block in blocks) < RATE_HZ
    assert blocks[-1].end == 60 * RATE_HZ


@pytest.mark.parametrize("suffix", ["wv", "wav", "caf", "avi"])
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_blocks_stay_small_however_long_the_frames(suffix: str, layout: str, tmp_path: Path) -> None:
    path = write_sound(tmp_path / f"a.{suffix}", beeps(40, 1_000), rate_hz=1_000, layout=layout, frame=20_000)
    blocks = blocks_of(path)
    assert max(len(block.samples) for block in blocks) < RATE_HZ
    assert all(one.end == other.start for one, other in itertools.pairwise(blocks))
    assert edges_s(whole(blocks))[:79] == pytest.approx(np.arange(0.5, 40, 0.5), abs=0.02)


@pytest.mark.parametrize("channels", [9, 32, 64])
def test_channels_that_nobody_knows_how_to_mix_are_unsupported(channels: int, tmp_path: Path) -> None:
    path = write_channels(tmp_path / "a.wav", channels)
    with pytest.raises(BadInputError, match=f"{channels} channels") as caught:
        blocks_of(path)
    assert caught.value.reason is Reason.UNSUPPORTED


@pytest.mark.parametrize("rate_hz", [8, 999, 1_000_001, 2**31 - 1])
@pytest.mark.parametrize("suffix", ["wv", "wav"])
def test_sound_at_a_rate_that_nothing_is_recorded_at_is_corrupt(suffix: str, rate_hz: int, tmp_path: Path) -> None:
    path = write_sound(tmp_path / f"a.{suffix}", np.zeros(8_000, np.float32), rate_hz=rate_hz)
    with pytest.raises(BadInputError, match="rate") as caught:
        blocks_of(path)
    assert caught.value.reason is Reason.CORRUPT


def test_bytes_are_read_as_files_are(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mp3", beeps(2))
    assert np.array_equal(whole(blocks_of(io.BytesIO(path.read_bytes()))), whole(blocks_of(path)))


def test_a_gap_in_the_timestamps_is_a_gap_and_no_silence_is_made_up(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mkv", beeps(4), starts_s=((0.0, 0.0), (2.048, 3_602.048)))
    blocks = blocks_of(path)
    assert sum(len(block.samples) for block in blocks) == pytest.approx(4 * RATE_HZ, abs=2_000)
    assert edges_s(whole(blocks))[-3:] == pytest.approx([3_602.5, 3_603.0, 3_603.5], abs=0.07)


def test_timestamps_that_go_back_do_not_undo_what_was_heard(tmp_path: Path) -> None:
    blocks = blocks_of(write_sound(tmp_path / "a.mkv", beeps(4), starts_s=((0.0, 5.0), (2.048, 7.048))))
    assert all(one.end <= other.start for one, other in itertools.pairwise(blocks))


@pytest.mark.parametrize("begin_s", [0.0, 4.2, 8.2])
def test_where_recordings_were_joined_times_go_on_for_all_tracks_alike(begin_s: float, tmp_path: Path) -> None:
    one = write_sound(tmp_path / "a.ts", beeps(2), picture_s=4.0).read_bytes()
    early_s = 0.064  # AAC begins so much before the picture
    with AudioTrack(io.BytesIO(3 * one), start=round(begin_s * RATE_HZ)) as sound:
        edges = edges_s(whole(list(sound.blocks())))
    starts_s = [early_s + number * (4 + early_s) for number in range(3)]
    expected = [at_s + edge_s for at_s in starts_s for edge_s in (0.5, 1.0, 1.5) if at_s + edge_s > begin_s]
    assert [edge for edge in edges if 0.3 < edge % 4 < 2] == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_track_that_begins_after_the_film_is_heard_when_the_player_plays_it(suffix: str, tmp_path: Path) -> None:
    path = write_sound(tmp_path / f"a.{suffix}", beeps(2), starts_s=((0.0, 2.0),), picture_s=4.0)
    assert blocks_of(path)[0].start / RATE_HZ == pytest.approx(2.0, abs=0.07)


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_a_container_that_starts_late_starts_at_zero_on_the_players_clock(suffix: str, tmp_path: Path) -> None:
    path = write_sound(tmp_path / f"a.{suffix}", beeps(2), starts_s=((0.0, 100.0),))
    assert blocks_of(path)[0].start == pytest.approx(0, abs=0.03 * RATE_HZ)


def test_a_film_without_sound_has_no_blocks(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mp4", beeps(0), picture_s=1.0)
    with AudioTrack(path) as sound:
        assert list(sound.blocks()) == []


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "flac", "webm", "wav"])
def test_of_a_file_that_was_cut_off_all_that_is_there_is_heard(suffix: str, tmp_path: Path) -> None:
    path = write_sound(tmp_path / f"a.{suffix}", beeps(20))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert 5 < blocks_of(path)[-1].end / RATE_HZ < 15


def test_of_a_file_with_a_hole_the_rest_is_heard_at_its_time(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mkv", beeps(20))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    path.write_bytes(data)
    blocks = blocks_of(path)
    assert blocks[-1].end / RATE_HZ == pytest.approx(20, abs=0.2)
    assert edges_s(whole(blocks))[-3:] == pytest.approx([18.5, 19.0, 19.5], abs=0.1)


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 10_000, np.random.default_rng(0).bytes(50_000), b"plain words " * 100], ids=len
)
def test_what_is_no_media_is_corrupt(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    with pytest.raises(BadInputError) as caught:
        blocks_of(path)
    assert caught.value.reason is Reason.CORRUPT


ELSEWHERE = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 49170 RTP/AVP 0\n"
"""A session description: sound that comes over the network (RFC 8866)."""


@pytest.mark.parametrize("looks_like", [b"caff\n", b"ID3\n", b"wvpk\n", b"FLV\1\n", b"\xff\xf1P\x80\n", b"OggS\n"])
def test_what_names_an_address_is_corrupt_and_nobody_listens_there(looks_like: bytes) -> None:
    data = looks_like + ELSEWHERE
    assert sniff(data, declared=None).modality in (Modality.AUDIO, Modality.VIDEO)
    begins_s = time.monotonic()
    with pytest.raises(BadInputError) as caught:
        blocks_of(io.BytesIO(data))
    assert caught.value.reason is Reason.CORRUPT
    assert time.monotonic() - begins_s < 2  # whoever listens does so for 10 s


@pytest.mark.parametrize(
    "data", [b"ffconcat version 1.0\nfile a.wav\n", b"#EXTM3U\n#EXTINF:10,\na.wav\n#EXT-X-ENDLIST\n"], ids=len
)
def test_what_names_other_files_is_corrupt_and_they_are_not_read(data: bytes, tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", beeps(1))
    path = tmp_path / "list.wav"
    path.write_bytes(data)
    with pytest.raises(BadInputError, match="does not open"):
        blocks_of(path)


def test_an_mp4_without_its_table_of_contents_is_corrupt(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mp4", beeps(5))
    path.write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(BadInputError, match="does not open") as caught:
        blocks_of(path)
    assert caught.value.reason is Reason.CORRUPT
