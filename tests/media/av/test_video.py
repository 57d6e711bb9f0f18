from __future__ import annotations

import itertools
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from penstock.errors import BadInputError, Reason
from penstock.media.av.video import Shot, ShotDetector, ShotOptions
from tests.media.recordings import FILM_FORMATS, RARE_FILM_FORMATS, beeps, picture, trimmed, write_film, write_sound

RULES = ShotOptions()


def shots_of(media: Path | bytes, rules: ShotOptions = RULES) -> list[Shot]:
    with ShotDetector(media, rules) as film:
        return list(film.shots())


def times_s(shots: list[Shot]) -> list[tuple[float, float]]:
    return [(shot.start_ms / 1000, shot.end_ms / 1000) for shot in shots]


def shows(shot: Shot, wanted: Image.Image) -> bool:
    """Whether the picture is that one, but for what a codec does to it."""
    one, other = (np.asarray(each.convert("RGB").resize((16, 9)), np.float64) for each in (shot.keyframe, wanted))
    return bool(np.abs(one - other).mean() < 12)


@pytest.mark.parametrize("suffix", FILM_FORMATS)
def test_every_scene_is_a_shot_with_its_times_and_its_picture(suffix: str, tmp_path: Path) -> None:
    scenes = [(2.0, picture(1)), (3.0, picture(2)), (1.0, picture(3))]
    shots = shots_of(write_film(tmp_path / f"a.{suffix}", scenes))
    assert times_s(shots) == [pytest.approx(span, abs=0.11) for span in ((0, 2), (2, 5), (5, 6))]
    assert [shows(shot, scene) for shot, (_, scene) in zip(shots, scenes, strict=True)] == [True] * 3


@pytest.mark.parametrize("suffix", RARE_FILM_FORMATS)
def test_rarer_containers_are_seen_too(suffix: str, tmp_path: Path) -> None:
    path = write_film(tmp_path / f"a.{suffix}", [(2.0, picture(1)), (2.0, picture(2))], per_s=25)
    for media in (path, path.read_bytes()):
        shots = shots_of(media)
        assert [shows(shot, picture(seed)) for seed, shot in enumerate(shots, 1)] == [True, True]


@pytest.mark.parametrize("key_frames", [5, 37, 1_000])
def test_a_cut_is_found_to_the_frame_wherever_the_key_frames_are(key_frames: int, tmp_path: Path) -> None:
    path = write_film(
        tmp_path / "a.mp4", [(3.3, picture(1)), (2.4, picture(2)), (4.0, picture(3))], key_frames=key_frames
    )
    assert times_s(shots_of(path)) == [pytest.approx(span, abs=0.101) for span in ((0, 3.3), (3.3, 5.7), (5.7, 9.7))]


def test_a_scene_that_comes_and_goes_between_two_alike_key_frames_is_seen_where_they_are_far_apart(
    tmp_path: Path,
) -> None:
    scenes = [(2.0, picture(1)), (2.0, picture(2)), (4.0, picture(1))]
    path = write_film(tmp_path / "a.mp4", scenes, key_frames=60)
    assert len(shots_of(path, ShotOptions(max_sample_gap_ms=5_000))) == 3


def test_what_stays_the_same_is_one_shot_however_long(tmp_path: Path) -> None:
    assert times_s(shots_of(write_film(tmp_path / "a.mp4", [(60.0, picture(1))], per_s=5))) == [
        pytest.approx((0, 60), abs=0.3)
    ]


def test_a_picture_that_changes_slowly_is_a_new_shot_in_time(tmp_path: Path) -> None:
    one, other = picture(1), picture(2)
    scenes = [(0.1, Image.blend(one, other, step / 100)) for step in range(101)]
    shots = shots_of(write_film(tmp_path / "a.mp4", scenes))
    assert 2 <= len(shots) <= 12
    assert shows(shots[0], one)
    assert all(earlier.end_ms == later.start_ms for earlier, later in itertools.pairwise(shots))


def test_ten_cuts_a_second_are_two_shots_a_second_at_most(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", [(0.1, picture(seed)) for seed in range(100)])
    shots = shots_of(path)
    assert 10 <= len(shots) <= 20
    assert min(shot.end_ms - shot.start_ms for shot in shots[:-1]) >= 500


def test_a_flash_is_no_shot_and_not_the_picture_of_one(tmp_path: Path) -> None:
    scenes = [(0.2, picture(1)), (0.1, Image.new("RGB", (160, 90), "white")), (2.0, picture(1))]
    [shot] = shots_of(write_film(tmp_path / "a.mp4", scenes))
    assert shows(shot, picture(1))


def test_frames_are_where_the_player_shows_them_at_any_rate_and_start(tmp_path: Path) -> None:
    path = write_film(
        tmp_path / "a.mkv",
        [(2.0, picture(1)), (2.0, picture(2))],
        starts_s=100.0,
        frames_left_out=lambda number: 3 < number < 17 or number % 7 == 5,
    )
    shots = shots_of(path)
    assert times_s(shots)[0] == pytest.approx((0, 2), abs=0.11)
    assert shots[1].end_ms == pytest.approx(4_000, abs=210)


def test_a_film_that_was_trimmed_between_two_key_frames_is_seen_from_its_first_frame_on(tmp_path: Path) -> None:
    whole = write_film(tmp_path / "whole.mp4", [(2.4, picture(1)), (3.6, picture(2))], per_s=25, key_frames=100)
    shots = shots_of(trimmed(tmp_path / "trimmed.mp4", whole, begin_s=1.5))
    assert times_s(shots) == [pytest.approx(span, abs=0.041) for span in ((0, 0.9), (0.9, 4.5))]
    assert shows(shots[0], picture(1))


def test_bytes_are_read_as_files_are(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", [(1.0, picture(1)), (1.0, picture(2))], key_frames=1_000)
    assert times_s(shots_of(path.read_bytes())) == times_s(shots_of(path))


def test_pixels_that_are_not_square_are_shown_as_the_player_shows_them(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mkv", [(1.0, picture(1))], pixel_ratio=Fraction(2, 1))
    assert shots_of(path)[0].keyframe.size == (320, 90)


def test_a_film_that_was_held_upright_is_turned_upright(tmp_path: Path) -> None:
    """The display matrix in the track's header, as phones write it: 90° clockwise (ISO/IEC 14496-12, 8.3.2)."""
    path = write_film(tmp_path / "a.mp4", [(1.0, picture(1))])
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 65_536, 0, -65_536, 0, 0, 0, 0, 1 << 30)
    [shot] = shots_of(bytes(data))
    assert shot.keyframe.size == (90, 160)
    assert shows(Shot(0, 0, shot.keyframe.rotate(90, expand=True)), picture(1))


def test_large_frames_are_made_smaller(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", [(0.5, picture(1, (1920, 1080)))])
    assert shots_of(path)[0].keyframe.size == (640, 360)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "mpg", "flv"])
def test_frames_of_too_many_pixels_are_refused_before_they_are_decoded(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_film(tmp_path / f"a.{suffix}", [(0.4, picture(1, (320, 180)))], per_s=25)
    monkeypatch.setattr("penstock.media.av.video.MAX_FRAME_PIXELS", 320 * 180 - 1)
    with pytest.raises(BadInputError, match="320 × 180 pixels") as caught:
        ShotDetector(path, RULES)
    assert caught.value.reason is Reason.TOO_LARGE


def test_frames_that_are_larger_than_the_header_says_do_not_decode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = write_film(tmp_path / "small.ts", [(1.0, picture(1, (160, 90)))], per_s=25)
    large = write_film(tmp_path / "large.ts", [(1.0, picture(2, (1600, 900)))], per_s=25)
    monkeypatch.setattr("penstock.media.av.video.MAX_FRAME_PIXELS", 1_000_000)
    shots = shots_of(small.read_bytes() + large.read_bytes())
    assert [shows(shot, picture(1)) for shot in shots] == [True]


def test_sound_alone_has_no_shots(tmp_path: Path) -> None:
    assert shots_of(write_sound(tmp_path / "a.m4a", beeps(1))) == []


def test_of_a_film_that_was_cut_off_all_that_is_there_is_seen(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mkv", [(3.0, picture(seed)) for seed in range(6)])
    data = path.read_bytes()
    shots = shots_of(data[: len(data) // 2])
    assert 2 <= len(shots) <= 4
    assert shows(shots[0], picture(0))


def test_a_track_that_appears_in_the_midst_of_a_stream_hides_nothing_of_the_first_one(tmp_path: Path) -> None:
    one, other, last = (
        write_film(tmp_path / f"{seed}.ts", [(2.0, picture(seed))], per_s=25, first_id=first_id).read_bytes()
        for seed, first_id in ((1, 0x100), (2, 0x200), (3, 0x100))
    )
    far = 40_000 * (b"\x47\x1f\xff\x10" + 184 * b"\xff")  # empty packets, more than are looked at for tracks
    shots = shots_of(one + far + other + far + last)
    assert times_s(shots) == [pytest.approx(span, abs=0.1) for span in ((0, 2), (2, 4))]
    assert [shows(shot, picture(seed)) for shot, seed in zip(shots, (1, 3), strict=True)] == [True, True]


def test_what_is_no_film_is_corrupt() -> None:
    with pytest.raises(BadInputError) as caught:
        shots_of(np.random.default_rng(0).bytes(50_000))
    assert caught.value.reason is Reason.CORRUPT
