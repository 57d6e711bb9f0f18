from __future__ import annotations

import itertools
import struct
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from penstock.errors import BadInputError, Reason
from penstock.media.av.video import Shot, ShotDetector, ShotOptions
from tests.media.media_files import (
    RARE_VIDEO_FORMATS,
    VIDEO_FORMATS,
    beeps,
    scene_image,
    trimmed,
    write_audio,
    write_video,
)

OPTIONS = ShotOptions()


def shots_of(media: Path | bytes, options: ShotOptions = OPTIONS) -> list[Shot]:
    with closing(ShotDetector(media, options)) as detector:
        return list(detector.shots())


def times_s(shots: list[Shot]) -> list[tuple[float, float]]:
    return [(shot.start_ms / 1000, shot.end_ms / 1000) for shot in shots]


def shows(shot: Shot, expected: Image.Image) -> bool:
    """Returns whether the keyframe is the expected image, apart from artefacts of the codec."""
    small = [image.convert("RGB").resize((16, 9)) for image in (shot.keyframe, expected)]
    keyframe, reference = (np.asarray(image, np.float64) for image in small)
    return bool(np.abs(keyframe - reference).mean() < 12)


@pytest.mark.parametrize("suffix", VIDEO_FORMATS)
def test_every_scene_is_a_shot_with_its_times_and_keyframe(suffix: str, tmp_path: Path) -> None:
    scenes = [(2.0, scene_image(1)), (3.0, scene_image(2)), (1.0, scene_image(3))]
    shots = shots_of(write_video(tmp_path / f"a.{suffix}", scenes))
    assert times_s(shots) == [pytest.approx(span, abs=0.11) for span in ((0, 2), (2, 5), (5, 6))]
    assert [shows(shot, scene) for shot, (_, scene) in zip(shots, scenes, strict=True)] == [True] * 3


@pytest.mark.parametrize("suffix", RARE_VIDEO_FORMATS)
def test_rarer_containers_are_decoded(suffix: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / f"a.{suffix}", [(2.0, scene_image(1)), (2.0, scene_image(2))], frames_per_s=25)
    for media in (path, path.read_bytes()):
        shots = shots_of(media)
        assert [shows(shot, scene_image(seed)) for seed, shot in enumerate(shots, 1)] == [True, True]


@pytest.mark.parametrize("iframe_interval", [5, 37, 1_000])
def test_a_cut_is_found_to_the_frame_at_any_interval_of_iframes(iframe_interval: int, tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "a.mp4",
        [(3.3, scene_image(1)), (2.4, scene_image(2)), (4.0, scene_image(3))],
        iframe_interval=iframe_interval,
    )
    assert times_s(shots_of(path)) == [pytest.approx(span, abs=0.101) for span in ((0, 3.3), (3.3, 5.7), (5.7, 9.7))]


def test_a_scene_between_two_equal_iframes_is_found_if_they_are_far_apart(
    tmp_path: Path,
) -> None:
    scenes = [(2.0, scene_image(1)), (2.0, scene_image(2)), (4.0, scene_image(1))]
    path = write_video(tmp_path / "a.mp4", scenes, iframe_interval=60)
    assert len(shots_of(path, ShotOptions(max_sample_gap_ms=5_000))) == 3


def test_a_constant_image_is_one_shot_of_any_length(tmp_path: Path) -> None:
    assert times_s(shots_of(write_video(tmp_path / "a.mp4", [(60.0, scene_image(1))], frames_per_s=5))) == [
        pytest.approx((0, 60), abs=0.3)
    ]


def test_an_image_that_changes_slowly_becomes_a_new_shot(tmp_path: Path) -> None:
    first, last = scene_image(1), scene_image(2)
    scenes = [(0.1, Image.blend(first, last, step / 100)) for step in range(101)]
    shots = shots_of(write_video(tmp_path / "a.mp4", scenes))
    assert 2 <= len(shots) <= 12
    assert shows(shots[0], first)
    assert all(earlier.end_ms == later.start_ms for earlier, later in itertools.pairwise(shots))


def test_ten_cuts_a_second_are_two_shots_a_second_at_most(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [(0.1, scene_image(seed)) for seed in range(100)])
    shots = shots_of(path)
    assert 10 <= len(shots) <= 20
    assert min(shot.end_ms - shot.start_ms for shot in shots[:-1]) >= 500


def test_a_flash_is_neither_a_shot_nor_a_keyframe(tmp_path: Path) -> None:
    scenes = [(0.2, scene_image(1)), (0.1, Image.new("RGB", (160, 90), "white")), (2.0, scene_image(1))]
    [shot] = shots_of(write_video(tmp_path / "a.mp4", scenes))
    assert shows(shot, scene_image(1))


def test_frames_have_the_times_of_the_player_at_any_rate_and_start(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "a.mkv",
        [(2.0, scene_image(1)), (2.0, scene_image(2))],
        start_s=100.0,
        skip_frame=lambda number: 3 < number < 17 or number % 7 == 5,
    )
    shots = shots_of(path)
    assert times_s(shots)[0] == pytest.approx((0, 2), abs=0.11)
    assert shots[1].end_ms == pytest.approx(4_000, abs=210)


def test_a_video_trimmed_between_two_iframes_is_read_from_its_first_frame(tmp_path: Path) -> None:
    whole = write_video(
        tmp_path / "whole.mp4", [(2.4, scene_image(1)), (3.6, scene_image(2))], frames_per_s=25, iframe_interval=100
    )
    shots = shots_of(trimmed(tmp_path / "trimmed.mp4", whole, begin_s=1.5))
    assert times_s(shots) == [pytest.approx(span, abs=0.041) for span in ((0, 0.9), (0.9, 4.5))]
    assert shows(shots[0], scene_image(1))


def test_bytes_are_read_as_files_are(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [(1.0, scene_image(1)), (1.0, scene_image(2))], iframe_interval=1_000)
    assert times_s(shots_of(path.read_bytes())) == times_s(shots_of(path))


def test_pixels_that_are_not_square_are_scaled(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [(1.0, scene_image(1))], pixel_ratio=Fraction(2, 1))
    assert shots_of(path)[0].keyframe.size == (320, 90)


def test_a_video_with_a_rotation_is_turned_upright(tmp_path: Path) -> None:
    """The display matrix in the track's header, as phones write it: 90° clockwise (ISO/IEC 14496-12, 8.3.2)."""
    path = write_video(tmp_path / "a.mp4", [(1.0, scene_image(1))])
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 65_536, 0, -65_536, 0, 0, 0, 0, 1 << 30)
    [shot] = shots_of(bytes(data))
    assert shot.keyframe.size == (90, 160)
    assert shows(Shot(0, 0, shot.keyframe.rotate(90, expand=True)), scene_image(1))


@pytest.mark.parametrize("x", [(1, 0), (-1, 0), (0, 1), (0, -1)])
@pytest.mark.parametrize("y", [1, -1])
def test_a_frame_is_shown_by_the_display_matrix(x: tuple[int, int], y: int, tmp_path: Path) -> None:
    """Each quarter turn, plain and mirrored. The right image is made pixel by pixel, by where the matrix puts it."""
    path = write_video(tmp_path / "a.mp4", [(1.0, scene_image(1))])
    a, b = x
    c, d = -b * y, a * y
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    [shot] = shots_of(bytes(data))
    frame = np.asarray(scene_image(1).resize((160, 90)))
    rows, columns = np.indices(frame.shape[:2])
    shown_x, shown_y = columns * a + rows * c, columns * b + rows * d
    shown_x, shown_y = shown_x - shown_x.min(), shown_y - shown_y.min()
    right = np.zeros((shown_y.max() + 1, shown_x.max() + 1, 3), np.uint8)
    right[shown_y, shown_x] = frame
    keyframe = np.asarray(shot.keyframe)
    assert keyframe.shape == right.shape
    assert np.abs(keyframe.astype(int) - right).mean() < 12


def test_large_frames_are_scaled_down(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [(0.5, scene_image(1, (1920, 1080)))])
    assert shots_of(path)[0].keyframe.size == (640, 360)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "mpg", "flv"])
def test_frames_of_too_many_pixels_are_rejected_before_they_are_decoded(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / f"a.{suffix}", [(0.4, scene_image(1, (320, 180)))], frames_per_s=25)
    monkeypatch.setattr("penstock.media.av.frames.MAX_FRAME_PIXELS", 320 * 180 - 1)
    with pytest.raises(BadInputError, match="320 × 180 pixels") as caught:
        ShotDetector(path, OPTIONS)
    assert caught.value.reason is Reason.TOO_LARGE


def test_frames_larger_than_the_header_states_do_not_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = write_video(tmp_path / "small.ts", [(1.0, scene_image(1, (160, 90)))], frames_per_s=25)
    large = write_video(tmp_path / "large.ts", [(1.0, scene_image(2, (1600, 900)))], frames_per_s=25)
    monkeypatch.setattr("penstock.media.av.frames.MAX_FRAME_PIXELS", 1_000_000)
    shots = shots_of(small.read_bytes() + large.read_bytes())
    assert [shows(shot, scene_image(1)) for shot in shots] == [True]


def test_audio_alone_has_no_shots(tmp_path: Path) -> None:
    assert shots_of(write_audio(tmp_path / "a.m4a", beeps(1))) == []


def test_a_video_that_was_cut_off_is_read_up_to_its_end(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [(3.0, scene_image(seed)) for seed in range(6)])
    data = path.read_bytes()
    shots = shots_of(data[: len(data) // 2])
    assert 2 <= len(shots) <= 4
    assert shows(shots[0], scene_image(0))


def test_a_track_that_appears_later_in_a_stream_hides_nothing_of_the_first(tmp_path: Path) -> None:
    first, other, last = (
        write_video(
            tmp_path / f"{seed}.ts", [(2.0, scene_image(seed))], frames_per_s=25, first_id=first_id
        ).read_bytes()
        for seed, first_id in ((1, 0x100), (2, 0x200), (3, 0x100))
    )
    gap = 40_000 * (b"\x47\x1f\xff\x10" + 184 * b"\xff")  # empty packets, more than are looked at for tracks
    shots = shots_of(first + gap + other + gap + last)
    assert times_s(shots) == [pytest.approx(span, abs=0.1) for span in ((0, 2), (2, 4))]
    assert [shows(shot, scene_image(seed)) for shot, seed in zip(shots, (1, 3), strict=True)] == [True, True]


def test_a_file_that_is_no_video_is_corrupt() -> None:
    with pytest.raises(BadInputError) as caught:
        shots_of(np.random.default_rng(0).bytes(50_000))
    assert caught.value.reason is Reason.CORRUPT
