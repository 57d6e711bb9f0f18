"""Media read a stretch at a time: by one process, or by one after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from penstock.errors import BadInputError, Reason
from penstock.media.av.audio import RATE_HZ
from penstock.media.av.reader import AVReader, Chunk
from penstock.media.av.vad import VadOptions
from penstock.media.av.video import ShotDetector, ShotOptions
from penstock.records import Float32, MediaPosition
from tests.media.recordings import beeps, picture, write_film, write_sound
from tools.reference_models.speech_synthesis import SpeechSynthesizer

VOICE, SHOTS = VadOptions(min_silence_ms=700), ShotOptions()


@pytest.fixture(scope="module")
def talk() -> tuple[Float32, list[tuple[float, float]]]:
    """A minute in which a sentence is spoken every 8 s, and when each is."""
    samples, spoken_s = np.zeros(60 * RATE_HZ, np.float32), []
    sentence = SpeechSynthesizer().synthesize("the red fox waits near the river").samples
    for start in range(2 * RATE_HZ, 55 * RATE_HZ, 8 * RATE_HZ):
        samples[start : start + len(sentence)] = sentence
        spoken_s.append((start / RATE_HZ, (start + len(sentence)) / RATE_HZ))
    return samples, spoken_s


def test_a_recording_read_at_once_and_in_stretches_holds_the_same_speech(
    talk: tuple[Float32, list[tuple[float, float]]], tmp_path: Path
) -> None:
    samples, spoken_s = talk
    write_sound(tmp_path / "talk.mp3", samples)
    with AVReader(tmp_path / "talk.mp3", VOICE, None) as reel:
        whole = reel.read()
    with AVReader(tmp_path / "talk.mp3", VOICE, None) as reel:
        stretches = [reel.read(10_000) for _ in range(7)]
        assert reel.ended
    assert times(whole) == [time for stretch in stretches for time in times(stretch)]
    assert len(whole.windows) == len(spoken_s)
    for (start_s, end_s), (spoken_start_s, spoken_end_s) in zip(times(whole), spoken_s, strict=True):
        assert start_s <= spoken_start_s + 0.1
        assert end_s >= spoken_end_s - 0.3


@pytest.mark.parametrize("suffix", ["mp3", "flac", "ogg", "m4a", "wav", "webm"])
def test_a_recording_is_taken_up_where_another_process_left_it(
    suffix: str, talk: tuple[Float32, list[tuple[float, float]]], tmp_path: Path
) -> None:
    samples, _ = talk
    path = tmp_path / f"talk.{suffix}"
    write_sound(path, samples)
    with AVReader(path, VOICE, None) as reel:
        whole = reel.read()
    found, place, readers = list[tuple[float, float]](), MediaPosition(), 0
    while True:
        with AVReader(path, VOICE, None, position=place) as reel:
            assert not readers or reel.position == place, "it stands where it was opened"
            found += times(reel.read(15_000))
            readers += 1
            place = reel.position
            if reel.ended:
                break
    assert readers >= 4
    assert np.allclose(found, times(whole), atol=0.15)


def test_speech_under_way_at_the_end_of_a_stretch_is_whole_in_the_next(tmp_path: Path) -> None:
    sentence = (
        SpeechSynthesizer().synthesize("the captain carries a golden violin and my sister paints the castle").samples
    )
    samples = np.concatenate([np.zeros(RATE_HZ, np.float32), sentence, np.zeros(2 * RATE_HZ, np.float32)])
    write_sound(tmp_path / "talk.wav", samples)
    with AVReader(tmp_path / "talk.wav", VOICE, None) as reel:
        assert not reel.read(2_500).windows
        place = reel.position
    assert place.audio_ms <= 1_000
    with AVReader(tmp_path / "talk.wav", VOICE, None, position=place) as reel:
        [window] = reel.read().windows
    assert len(window.samples) >= len(sentence)


SCENES = [(3.0, picture(1)), (4.5, picture(2)), (2.5, picture(3)), (6.0, picture(4)), (4.0, picture(5))]


@pytest.mark.parametrize("suffix", ["mp4", "webm", "mkv"])
def test_a_film_is_taken_up_where_another_process_left_it(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"film.{suffix}"
    write_film(path, SCENES)
    with AVReader(path, VOICE, SHOTS) as reel:
        whole = [(shot.start_ms, shot.end_ms) for shot in reel.read().shots]
    found, place = list[tuple[int, int]](), MediaPosition()
    while True:
        with AVReader(path, VOICE, SHOTS, position=place) as reel:
            assert place == MediaPosition() or reel.position == place, "it stands where it was opened"
            found += [(shot.start_ms, shot.end_ms) for shot in reel.read(4_000).shots]
            place = reel.position
            if reel.ended:
                break
    assert len(whole) == len(SCENES)
    assert [start for start, _ in found] == [start for start, _ in whole]


FAR_APART = [(20.8, picture(1)), (3.2, picture(2)), (4.0, picture(3)), (2.0, picture(4))]


def late_ms(suffix: str) -> int:
    """AVI knows nothing of reordered frames: in it times are as many frames late. Others are right to the frame."""
    return 170 if suffix == "avi" else 41


@pytest.mark.parametrize("slice_ms", [None, 6_000])
@pytest.mark.parametrize("suffix", ["mp4", "ts", "mpg", "flv", "avi"])
def test_a_film_whose_key_frames_are_far_apart_is_seen_to_the_frame_in_any_container(
    suffix: str, slice_ms: int | None, tmp_path: Path
) -> None:
    path = write_film(tmp_path / f"film.{suffix}", FAR_APART, per_s=25, key_frames=250)
    found = shots_in_slices(path, slice_ms)
    assert [start for start, _ in found] == pytest.approx([0, 20_800, 24_000, 28_000], abs=late_ms(suffix))
    assert [end for _, end in found] == pytest.approx([20_800, 24_000, 28_000, 30_000], abs=late_ms(suffix))


@pytest.mark.parametrize("suffix", ["mp4", "ts", "mpg", "flv", "avi"])
def test_a_film_is_begun_in_its_midst_to_the_frame(suffix: str, tmp_path: Path) -> None:
    path = write_film(tmp_path / f"film.{suffix}", FAR_APART, per_s=25, key_frames=250)
    starts = starts_ms(path, 0)
    assert starts_ms(path, 8_400) == [pytest.approx(8_400, abs=late_ms(suffix)), *starts[1:]]
    for number, begin_ms in enumerate(starts[1:], 1):
        assert starts_ms(path, begin_ms) == starts[number:]


def starts_ms(path: Path, begin_ms: int) -> list[int]:
    with ShotDetector(path, SHOTS, start_ms=begin_ms) as film:
        return [shot.start_ms for shot in film.shots()]


def shots_in_slices(path: Path, slice_ms: int | None) -> list[tuple[int, int]]:
    """Times of all shots, each slice read by another reel."""
    found, place = list[tuple[int, int]](), MediaPosition()
    while True:
        with AVReader(path, VOICE, SHOTS, position=place) as reel:
            found += [(shot.start_ms, shot.end_ms) for shot in reel.read(slice_ms).shots]
            place = reel.position
            if reel.ended:
                return found


@pytest.mark.parametrize("slice_ms", [None, 3_000])
@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_both_of_two_films_that_were_joined_are_seen(suffix: str, slice_ms: int | None, tmp_path: Path) -> None:
    one = write_film(tmp_path / f"one.{suffix}", [(4.0, picture(1)), (3.0, picture(2))], per_s=25)
    other = write_film(tmp_path / f"other.{suffix}", [(2.0, picture(3)), (6.0, picture(4))], per_s=25)
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(one.read_bytes() + other.read_bytes())
    found = shots_in_slices(joined, slice_ms)
    assert [start for start, _ in found] == pytest.approx([0, 4_000, 7_000, 9_000], abs=130)
    assert found[-1][1] == pytest.approx(15_000, abs=200)


def test_a_film_that_never_changes_is_cut_where_it_can_be_left(tmp_path: Path) -> None:
    write_film(tmp_path / "still.mp4", [(20.0, picture(1))])
    with AVReader(tmp_path / "still.mp4", VOICE, ShotOptions(max_shot_ms=6_000)) as reel:
        shots = reel.read().shots
    assert [round(shot.end_ms / 1000) - round(shot.start_ms / 1000) for shot in shots[:-1]] == [6] * (len(shots) - 1)
    assert shots[-1].end_ms == pytest.approx(20_000, abs=100)


def test_what_has_no_track_that_is_wanted_says_so(tmp_path: Path) -> None:
    write_film(tmp_path / "silent.mp4", [(2.0, picture(1))])
    with pytest.raises(BadInputError, match="no sound track") as error:
        AVReader(tmp_path / "silent.mp4", VOICE, None)
    assert error.value.reason is Reason.UNSUPPORTED
    write_sound(tmp_path / "sound.m4a", np.zeros(RATE_HZ, np.float32))
    with AVReader(tmp_path / "sound.m4a", VOICE, SHOTS) as reel:
        assert not reel.read().shots
        assert reel.ended


def times(stretch: Chunk) -> list[tuple[float, float]]:
    return [(window.start / RATE_HZ, (window.start + len(window.samples)) / RATE_HZ) for window in stretch.windows]


def test_a_jump_of_the_timestamps_takes_no_more_slices_than_the_sound_that_there_is(tmp_path: Path) -> None:
    samples = np.zeros(8 * RATE_HZ, np.float32)
    write_sound(tmp_path / "jump.mkv", samples, starts_s=((0.0, 0.0), (4.0, 40_000.0)))
    place, slices = MediaPosition(), 0
    while True:
        with AVReader(tmp_path / "jump.mkv", VOICE, None, position=place) as reel:
            reel.read(3_000)
            place, slices = reel.position, slices + 1
            if reel.ended:
                break
        assert slices < 10


@pytest.mark.parametrize("broken", ["", "audio"])
@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_a_film_whose_sound_is_empty_or_does_not_decode_is_seen(suffix: str, broken: str, tmp_path: Path) -> None:
    path = write_sound(tmp_path / f"a.{suffix}", beeps(2 if broken else 0), picture_s=4.0, broken=broken)
    assert len(shots_in_slices(path, 1_000)) == 1
    with AVReader(path, VOICE, SHOTS) as reel:
        assert len(reel.read(1_000).shots + reel.read().shots) == 1
        assert reel.ended


def test_a_film_whose_pictures_do_not_decode_is_heard(tmp_path: Path) -> None:
    spoken = SpeechSynthesizer().synthesize("the red fox waits near the river").samples
    path = write_sound(tmp_path / "a.mkv", spoken, picture_s=1.0, broken="video")
    with AVReader(path, VOICE, SHOTS) as reel:
        assert len(reel.read().windows) == 1
        assert reel.ended


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), beeps(2)], ids=len)
def test_what_has_no_track_that_decodes_is_corrupt(samples: Float32, tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.mkv", samples, picture_s=1.0, broken="both")
    for shots in (SHOTS, None):
        with AVReader(path, VOICE, shots) as reel, pytest.raises(BadInputError, match="does not decode") as caught:
            reel.read(1_000)
        assert caught.value.reason is Reason.CORRUPT


def test_pictures_that_are_over_before_the_sound_come_once(tmp_path: Path) -> None:
    sound = np.zeros(12 * RATE_HZ, np.float32)
    write_sound(tmp_path / "still.mp4", sound, picture_s=1.0)
    found, place = [], MediaPosition()
    while True:
        with AVReader(tmp_path / "still.mp4", VOICE, SHOTS, position=place) as reel:
            found += reel.read(3_000).shots
            place = reel.position
            if reel.ended:
                break
    assert len(found) == 1


@pytest.mark.parametrize("container", ["mp4", "webm", "mkv"])
@pytest.mark.parametrize("frames", [2, 30])
def test_a_film_whose_sound_is_its_first_track_is_seen_to_its_last_frame(
    container: str, frames: int, tmp_path: Path
) -> None:
    file = tmp_path / f"film.{container}"
    scenes = [(frames / 20, picture(1)), (frames / 20, picture(2))]
    write_film(file, scenes, sound=np.zeros(frames * RATE_HZ // 10, np.float32), sound_first=True)
    with AVReader(file, VadOptions(), ShotOptions(min_shot_ms=0)) as reel:
        shots = reel.read().shots
    assert [shot.start_ms for shot in shots] == pytest.approx([0, 50 * frames], abs=1)
    assert shots[-1].end_ms == pytest.approx(100 * frames, abs=101)
