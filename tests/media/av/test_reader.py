"""Media read in chunks, by one process or by several in turn."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from penstock.errors import BadInputError, Reason
from penstock.media.av.audio import RATE_HZ
from penstock.media.av.reader import AVReader, Chunk
from penstock.media.av.vad import VadOptions
from penstock.media.av.video import ShotDetector, ShotOptions
from penstock.records import Float32, MediaPosition
from tests.media.media_files import beeps, scene_image, write_audio, write_video
from tools.reference_models.speech_synthesis import SpeechSynthesizer

VAD, SHOTS = VadOptions(min_silence_ms=700), ShotOptions()


@pytest.fixture(scope="module")
def talk() -> tuple[Float32, list[tuple[float, float]]]:
    """Returns a minute in which a sentence is spoken every 8 s, and the times of the sentences."""
    samples, spoken_s = np.zeros(60 * RATE_HZ, np.float32), []
    sentence = SpeechSynthesizer().synthesize("the red fox waits near the river").samples
    for start in range(2 * RATE_HZ, 55 * RATE_HZ, 8 * RATE_HZ):
        samples[start : start + len(sentence)] = sentence
        spoken_s.append((start / RATE_HZ, (start + len(sentence)) / RATE_HZ))
    return samples, spoken_s


def test_audio_has_the_same_speech_read_as_a_whole_and_in_chunks(
    talk: tuple[Float32, list[tuple[float, float]]], tmp_path: Path
) -> None:
    samples, spoken_s = talk
    write_audio(tmp_path / "talk.mp3", samples)
    with closing(AVReader(tmp_path / "talk.mp3", VAD, None)) as reader:
        whole = reader.read()
    with closing(AVReader(tmp_path / "talk.mp3", VAD, None)) as reader:
        chunks = [reader.read(10_000) for _ in range(7)]
        assert reader.ended
    assert times(whole) == [time for chunk in chunks for time in times(chunk)]
    assert len(whole.windows) == len(spoken_s)
    for (start_s, end_s), (spoken_start_s, spoken_end_s) in zip(times(whole), spoken_s, strict=True):
        assert start_s <= spoken_start_s + 0.1
        assert end_s >= spoken_end_s - 0.3


@pytest.mark.parametrize("suffix", ["mp3", "flac", "ogg", "m4a", "wav", "webm"])
def test_another_reader_resumes_audio_at_the_saved_position(
    suffix: str, talk: tuple[Float32, list[tuple[float, float]]], tmp_path: Path
) -> None:
    samples, _ = talk
    path = tmp_path / f"talk.{suffix}"
    write_audio(path, samples)
    with closing(AVReader(path, VAD, None)) as reader:
        whole = reader.read()
    results, position, readers = list[tuple[float, float]](), MediaPosition(), 0
    while True:
        with closing(AVReader(path, VAD, None, position=position)) as reader:
            assert not readers or reader.position == position, "a reader is at the position at which it was opened"
            results += times(reader.read(15_000))
            readers += 1
            position = reader.position
            if reader.ended:
                break
    assert readers >= 4
    assert np.allclose(results, times(whole), atol=0.15)


def test_speech_at_the_end_of_a_chunk_is_whole_in_the_next_one(tmp_path: Path) -> None:
    sentence = (
        SpeechSynthesizer().synthesize("the captain carries a golden violin and my sister paints the castle").samples
    )
    samples = np.concatenate([np.zeros(RATE_HZ, np.float32), sentence, np.zeros(2 * RATE_HZ, np.float32)])
    write_audio(tmp_path / "talk.wav", samples)
    with closing(AVReader(tmp_path / "talk.wav", VAD, None)) as reader:
        assert not reader.read(2_500).windows
        position = reader.position
    assert position.audio_ms <= 1_000
    with closing(AVReader(tmp_path / "talk.wav", VAD, None, position=position)) as reader:
        [window] = reader.read().windows
    assert len(window.samples) >= len(sentence)


SCENES = [
    (3.0, scene_image(1)),
    (4.5, scene_image(2)),
    (2.5, scene_image(3)),
    (6.0, scene_image(4)),
    (4.0, scene_image(5)),
]


@pytest.mark.parametrize("suffix", ["mp4", "webm", "mkv"])
def test_another_reader_resumes_video_at_the_saved_position(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"video.{suffix}"
    write_video(path, SCENES)
    with closing(AVReader(path, VAD, SHOTS)) as reader:
        whole = [(shot.start_ms, shot.end_ms) for shot in reader.read().shots]
    results, position = list[tuple[int, int]](), MediaPosition()
    while True:
        with closing(AVReader(path, VAD, SHOTS, position=position)) as reader:
            assert position == MediaPosition() or reader.position == position, (
                "a reader is at the position at which it was opened"
            )
            results += [(shot.start_ms, shot.end_ms) for shot in reader.read(4_000).shots]
            position = reader.position
            if reader.ended:
                break
    assert len(whole) == len(SCENES)
    assert [start for start, _ in results] == [start for start, _ in whole]


FAR_APART = [(20.8, scene_image(1)), (3.2, scene_image(2)), (4.0, scene_image(3)), (2.0, scene_image(4))]


@pytest.fixture(scope="module")
def iframes_far_apart(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns a function that writes a video whose I-frames are 10 s apart, once a container."""
    folder = tmp_path_factory.mktemp("iframes_far_apart")

    @cache
    def written(suffix: str) -> Path:
        return write_video(folder / f"video.{suffix}", FAR_APART, frames_per_s=25, iframe_interval=250)

    return written


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns a function that joins two videos into one file, once a container."""
    folder = tmp_path_factory.mktemp("joined")

    @cache
    def written(suffix: str) -> Path:
        parts = [(4.0, scene_image(1)), (3.0, scene_image(2))], [(2.0, scene_image(3)), (6.0, scene_image(4))]
        path = folder / f"joined.{suffix}"
        for number, scenes in enumerate(parts):
            part = write_video(folder / f"{number}.{suffix}", scenes, frames_per_s=25)
            with path.open("ab") as file:
                file.write(part.read_bytes())
        return path

    return written


def late_ms(suffix: str) -> int:
    """Returns the tolerance of times. AVI does not support reordered frames, so its times are some frames late."""
    return 170 if suffix == "avi" else 41


@pytest.mark.parametrize("chunk_ms", [None, 6_000])
@pytest.mark.parametrize("suffix", ["mp4", "ts", "mpg", "flv", "avi"])
def test_cuts_are_found_to_the_frame_in_any_container_with_iframes_far_apart(
    suffix: str, chunk_ms: int | None, iframes_far_apart: Callable[[str], Path]
) -> None:
    results = shots_in_chunks(iframes_far_apart(suffix), chunk_ms)
    assert [start for start, _ in results] == pytest.approx([0, 20_800, 24_000, 28_000], abs=late_ms(suffix))
    assert [end for _, end in results] == pytest.approx([20_800, 24_000, 28_000, 30_000], abs=late_ms(suffix))


@pytest.mark.parametrize("suffix", ["mp4", "ts", "mpg", "flv", "avi"])
def test_a_detector_starts_to_the_frame_in_the_middle_of_a_video(
    suffix: str, iframes_far_apart: Callable[[str], Path]
) -> None:
    path = iframes_far_apart(suffix)
    starts = starts_ms(path, 0)
    assert starts_ms(path, 8_400) == [pytest.approx(8_400, abs=late_ms(suffix)), *starts[1:]]
    for number, begin_ms in enumerate(starts[1:], 1):
        assert starts_ms(path, begin_ms) == starts[number:]


def starts_ms(path: Path, begin_ms: int) -> list[int]:
    """Returns the starts of all shots from a time on."""
    with closing(ShotDetector(path, SHOTS, start_ms=begin_ms)) as detector:
        return [shot.start_ms for shot in detector.shots()]


def shots_in_chunks(path: Path, chunk_ms: int | None) -> list[tuple[int, int]]:
    """Returns the times of all shots, each chunk read by another reader."""
    results, position = list[tuple[int, int]](), MediaPosition()
    while True:
        with closing(AVReader(path, VAD, SHOTS, position=position)) as reader:
            results += [(shot.start_ms, shot.end_ms) for shot in reader.read(chunk_ms).shots]
            position = reader.position
            if reader.ended:
                return results


@pytest.mark.parametrize("chunk_ms", [None, 3_000])
@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_both_of_two_joined_videos_are_read(suffix: str, chunk_ms: int | None, joined: Callable[[str], Path]) -> None:
    results = shots_in_chunks(joined(suffix), chunk_ms)
    assert [start for start, _ in results] == pytest.approx([0, 4_000, 7_000, 9_000], abs=130)
    assert results[-1][1] == pytest.approx(15_000, abs=200)


def test_a_video_that_never_changes_is_cut_into_shots(tmp_path: Path) -> None:
    write_video(tmp_path / "still.mp4", [(20.0, scene_image(1))])
    with closing(AVReader(tmp_path / "still.mp4", VAD, ShotOptions(max_shot_ms=6_000))) as reader:
        shots = reader.read().shots
    assert [round(shot.end_ms / 1000) - round(shot.start_ms / 1000) for shot in shots[:-1]] == [6] * (len(shots) - 1)
    assert shots[-1].end_ms == pytest.approx(20_000, abs=100)


def test_a_file_without_a_track_to_read_is_unsupported(tmp_path: Path) -> None:
    write_video(tmp_path / "silent.mp4", [(2.0, scene_image(1))])
    with pytest.raises(BadInputError, match="no audio track") as error:
        AVReader(tmp_path / "silent.mp4", VAD, None)
    assert error.value.reason is Reason.UNSUPPORTED
    write_audio(tmp_path / "audio.m4a", np.zeros(RATE_HZ, np.float32))
    with closing(AVReader(tmp_path / "audio.m4a", VAD, SHOTS)) as reader:
        assert not reader.read().shots
        assert reader.ended


def _without_decoder(mp4: bytes, codec: bytes) -> bytes:
    """Gives a track a codec that nothing knows.

    Its name stands in the table of contents, perhaps in the brands too; that of AAC stands as a number there again.
    """
    start = mp4.rindex(codec)
    head, description = mp4[:start], mp4[start + 4 :]
    return head + b"none" + (description.replace(b"\x40\x15", b"\x01\x15", 1) if codec == b"mp4a" else description)


@pytest.mark.parametrize(("unknown", "left"), [(b"mp4a", "shots"), (b"avc1", "windows")])
def test_a_track_whose_codec_has_no_decoder_leaves_the_other(
    unknown: bytes, left: str, talk: tuple[Float32, list[tuple[float, float]]], tmp_path: Path
) -> None:
    samples, _ = talk
    path = write_audio(tmp_path / "talk.mp4", samples[: 12 * RATE_HZ], video_s=12.0)
    with closing(AVReader(_without_decoder(path.read_bytes(), unknown), VAD, SHOTS)) as reader:
        chunk = reader.read()
    assert [name for name in ("windows", "shots") if getattr(chunk, name)] == [left]


def test_a_file_of_which_no_track_has_a_decoder_is_unsupported(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "talk.mp4", beeps(2), video_s=2.0)
    data = _without_decoder(_without_decoder(path.read_bytes(), b"mp4a"), b"avc1")
    with closing(AVReader(data, VAD, SHOTS)) as reader, pytest.raises(BadInputError, match="codec") as error:
        reader.read()
    assert error.value.reason is Reason.UNSUPPORTED


def times(chunk: Chunk) -> list[tuple[float, float]]:
    return [(window.start / RATE_HZ, (window.start + len(window.samples)) / RATE_HZ) for window in chunk.windows]


def test_a_jump_of_the_timestamps_takes_no_more_chunks_than_there_is_audio(tmp_path: Path) -> None:
    samples = np.zeros(8 * RATE_HZ, np.float32)
    write_audio(tmp_path / "jump.mkv", samples, starts_s=((0.0, 0.0), (4.0, 40_000.0)))
    position, chunks = MediaPosition(), 0
    while True:
        with closing(AVReader(tmp_path / "jump.mkv", VAD, None, position=position)) as reader:
            reader.read(3_000)
            position, chunks = reader.position, chunks + 1
            if reader.ended:
                break
        assert chunks < 10


@pytest.mark.parametrize("broken", ["", "audio"])
@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_shots_are_found_if_the_audio_is_empty_or_does_not_decode(suffix: str, broken: str, tmp_path: Path) -> None:
    path = write_audio(tmp_path / f"a.{suffix}", beeps(2 if broken else 0), video_s=4.0, broken=broken)
    assert len(shots_in_chunks(path, 1_000)) == 1
    with closing(AVReader(path, VAD, SHOTS)) as reader:
        assert len(reader.read(1_000).shots + reader.read().shots) == 1
        assert reader.ended


def test_speech_is_found_if_the_video_does_not_decode(tmp_path: Path) -> None:
    spoken = SpeechSynthesizer().synthesize("the red fox waits near the river").samples
    path = write_audio(tmp_path / "a.mkv", spoken, video_s=1.0, broken="video")
    with closing(AVReader(path, VAD, SHOTS)) as reader:
        assert len(reader.read().windows) == 1
        assert reader.ended


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), beeps(2)], ids=len)
def test_a_file_without_a_track_that_decodes_is_corrupt(samples: Float32, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.mkv", samples, video_s=1.0, broken="both")
    for shots in (SHOTS, None):
        with (
            closing(AVReader(path, VAD, shots)) as reader,
            pytest.raises(BadInputError, match="does not decode") as caught,
        ):
            reader.read(1_000)
        assert caught.value.reason is Reason.CORRUPT


def test_a_video_track_that_ends_before_the_audio_is_read_once(tmp_path: Path) -> None:
    silence = np.zeros(12 * RATE_HZ, np.float32)
    write_audio(tmp_path / "still.mp4", silence, video_s=1.0)
    results, position = [], MediaPosition()
    while True:
        with closing(AVReader(tmp_path / "still.mp4", VAD, SHOTS, position=position)) as reader:
            results += reader.read(3_000).shots
            position = reader.position
            if reader.ended:
                break
    assert len(results) == 1


@pytest.mark.parametrize("container", ["mp4", "webm", "mkv"])
@pytest.mark.parametrize("frames", [2, 30])
def test_a_video_after_the_audio_track_is_read_to_its_last_frame(container: str, frames: int, tmp_path: Path) -> None:
    file = tmp_path / f"video.{container}"
    scenes = [(frames / 20, scene_image(1)), (frames / 20, scene_image(2))]
    write_video(file, scenes, audio=np.zeros(frames * RATE_HZ // 10, np.float32), audio_first=True)
    with closing(AVReader(file, VadOptions(), ShotOptions(min_shot_ms=0))) as reader:
        shots = reader.read().shots
    assert [shot.start_ms for shot in shots] == pytest.approx([0, 50 * frames], abs=1)
    assert shots[-1].end_ms == pytest.approx(100 * frames, abs=101)
