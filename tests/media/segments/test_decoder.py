"""Sound and film → entries to be, slice by slice. What is said is scripted; that it is heard is the models' part."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from penstock.config import LongMediaSettings, SpeechSettings, VideoSettings
from penstock.encoders.base import ImageSpec
from penstock.errors import Reason, UnavailableError
from penstock.media.av.audio import RATE_HZ
from penstock.media.segments.decoder import SPEECH, SegmentDecoder
from penstock.records import (
    Checkpoint,
    Collection,
    Decoded,
    EncoderInput,
    Event,
    FetchedMedia,
    Field,
    Float32,
    MediaPosition,
    Modality,
    Rejected,
    TimedText,
    Transcript,
)
from tests.media.recordings import picture, write_film, write_sound
from tools.reference_models.speech_synthesis import SpeechSynthesizer

SPEC = ImageSpec(32, "shortest", "bicubic", 0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
FetchedOf = Callable[..., FetchedMedia]


class House:
    """A slicer with the media that it may fetch."""

    def __init__(self, folder: Path, clock: Callable[[], float] = lambda: 0.0, **slices: float) -> None:
        self.folder = folder
        self.clock = clock
        self.fetches = 0
        self.kept: list[bytes] = []
        self.media: dict[str, FetchedMedia] = {}
        self.slices = slices
        self.slicer = self.restarted()

    def restarted(self, settings: str = "as they are") -> SegmentDecoder:
        self.slicer = SegmentDecoder(
            speech=SpeechSettings(min_silence_ms=700, min_passage_s=0, max_passage_s=4),
            video=VideoSettings(thumbnail_px=80),
            long_media=LongMediaSettings(**self.slices),  # type: ignore[arg-type]
            image_spec=SPEC,
            put_thumbnail=self._put,
            settings_hash=settings,
            folder=self.folder / "open",
            clock=self.clock,
        )
        return self.slicer

    def _put(self, data: bytes) -> str:
        self.kept.append(data)
        return f"asset:{len(self.kept)}"

    def add(self, fetched: FetchedMedia) -> Event:
        self.media[fetched.event.asset.id] = fetched
        return fetched.event

    def fetch(self, event: Event) -> FetchedMedia | Rejected:
        self.fetches += 1
        return self.media[event.asset.id]

    def slice(self, *events: Event, known: Sequence[Checkpoint] = (), failed: str = "") -> tuple[Decoded, EncoderInput]:
        """A slice, in each window of which a word is heard that tells how long it is."""
        sliced, inputs = self.slicer.decode(events, known, self.fetch)
        return self.slicer.compose(sliced, [heard(sound, failed) for sound in inputs[SPEECH].waveforms])

    def whole(self, event: Event) -> tuple[list[Decoded], list[Checkpoint]]:
        """All slices."""
        made, known = [], list[Checkpoint]()
        while True:
            decoded, _ = self.slice(event, known=known[-1:])
            made.append(decoded)
            known += decoded.checkpoints
            if not decoded.checkpoints or decoded.checkpoints[0].finished:
                return made, known


def heard(sound: Float32, failed: str = "") -> Transcript:
    seconds = len(sound) / RATE_HZ
    return Transcript("en", 1.0, () if failed else (TimedText(0.0, seconds, f"{seconds:.0f}"),), failed)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path, first_segment_s=20, segment_s=15)
    yield made
    made.slicer.close()


@pytest.fixture(scope="session")
def spoken() -> Float32:
    return SpeechSynthesizer().synthesize("the captain carries a golden violin").samples


def talk(spoken: Float32, seconds: int, every_s: int = 6) -> Float32:
    samples = np.zeros(seconds * RATE_HZ, np.float32)
    for start in range(RATE_HZ, len(samples) - len(spoken), every_s * RATE_HZ):
        samples[start : start + len(spoken)] = spoken
    return samples


def clip(tmp_path: Path, fetched_of: FetchedOf, samples: Float32, suffix: str = "mp3", **more: str) -> FetchedMedia:
    return fetched_of(write_sound(tmp_path / f"clip.{suffix}", samples).read_bytes(), modality=Modality.AUDIO, **more)


def test_a_short_recording_is_whole_in_one_slice(
    house: House, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    event = house.add(clip(tmp_path, fetched_of, talk(spoken, 14), title="A talk"))
    decoded, texts = house.slice(event)
    assert not decoded.checkpoints
    assert [(draft.collection, draft.part) for draft in decoded.pending] == [
        (Collection.SPEECH, 0),
        (Collection.SPEECH, 1),
    ]
    assert set(texts.texts) == {draft.text for draft in decoded.pending}  # equal texts share a row
    for draft, start_ms in zip(decoded.pending, (1_000, 7_000), strict=True):
        assert draft.start_ms == pytest.approx(start_ms, abs=300)
        assert draft.end_ms == pytest.approx(start_ms + 1000 * len(spoken) / RATE_HZ, abs=400)
        assert draft.vectors == ((Field.PASSAGE, "passage.text", texts.texts.index(draft.text)),)
    assert not list((tmp_path / "open").rglob("*.media"))


def test_a_long_one_is_the_same_in_slices_of_one_worker_or_of_many(
    house: House, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    event = house.add(clip(tmp_path, fetched_of, talk(spoken, 60)))
    made, known = house.whole(event)
    assert len(made) == 4
    assert house.fetches == 1
    parts = [(draft.part, draft.start_ms, draft.end_ms) for decoded in made for draft in decoded.pending]
    assert [part for part, _, _ in parts] == list(range(10))
    assert known[-1].counts == {Collection.SPEECH: 10}
    for number, one in enumerate(known[:-1]):
        house.restarted()
        decoded, _ = house.slice(event, known=[one])
        assert decoded.checkpoints[0].start == one.position
        again = [(draft.part, draft.start_ms, draft.end_ms) for draft in decoded.pending]
        before = [(draft.part, draft.start_ms, draft.end_ms) for draft in made[number + 1].pending]
        assert np.allclose(again, before, atol=150)


def test_progress_under_other_settings_is_begun_anew(
    house: House, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    event = house.add(clip(tmp_path, fetched_of, talk(spoken, 60)))
    decoded, _ = house.slice(event)
    house.restarted(settings="others")
    again, _ = house.slice(event, known=decoded.checkpoints)
    assert [draft.part for draft in again.pending] == [draft.part for draft in decoded.pending]
    assert again.checkpoints[0].settings_hash == "others"


def test_other_media_at_the_same_address_are_begun_anew(
    house: House, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    event = house.add(clip(tmp_path, fetched_of, talk(spoken, 60)))
    decoded, _ = house.slice(event)
    house.restarted()
    other = clip(tmp_path, fetched_of, talk(spoken, 70, every_s=9))
    house.media[event.asset.id] = replace(other, event=event)
    again, _ = house.slice(event, known=decoded.checkpoints)
    assert again.pending[0].part == 0
    assert again.checkpoints[0].start == MediaPosition()
    assert again.checkpoints[0].media_sha256 == other.sha256


def test_what_a_killed_process_left_is_removed_by_the_next(house: House, tmp_path: Path) -> None:
    left = tmp_path / "open" / "999999999-abc"
    left.mkdir()
    (left / "x.media").write_bytes(b"1")
    house.restarted()
    assert not left.exists()


def test_a_thumbnail_that_cannot_be_kept_leaves_nothing_open(
    house: House, fetched_of: FetchedOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: bytes) -> str:
        raise UnavailableError("away")

    event = house.add(fetched_of(write_film(tmp_path / "film.mp4", SCENES).read_bytes()))
    with monkeypatch.context() as patched:
        patched.setattr(house.slicer, "_put", away)
        with pytest.raises(UnavailableError):
            house.slice(event)
    assert not house.slicer._open
    assert house.whole(event)[1][-1].counts == {Collection.FRAME: 4}


def test_no_more_media_stay_open_than_are_allowed(fetched_of: FetchedOf, spoken: Float32, tmp_path: Path) -> None:
    house = House(tmp_path, first_segment_s=10, segment_s=10, max_open=2)
    events = [house.add(clip(tmp_path, fetched_of, talk(spoken, 25), "wav")) for _ in range(4)]
    decoded, _ = house.slice(*events)
    assert len(decoded.checkpoints) == 4
    decoded, _ = house.slice(*events[2:], known=decoded.checkpoints)
    assert house.fetches == 4
    house.slice(events[0], known=decoded.checkpoints)
    assert house.fetches == 5


def test_media_that_are_not_to_be_kept_are_fetched_for_each_slice(
    house: House, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    event = house.add(clip(tmp_path, fetched_of, talk(spoken, 60), "wav"))
    house.slicer.decode([event], (), house.fetch, keep_open=False)
    assert not house.slicer._open
    assert not list((tmp_path / "open").rglob("*.media"))


def test_a_slice_that_takes_long_ends_sooner_and_the_next_ones_make_up_for_it(
    fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    media = clip(tmp_path, fetched_of, talk(spoken, 90), "wav")
    ticks = itertools.count(step=15.0)
    hurried = House(tmp_path / "hurried", lambda: next(ticks), first_segment_s=40, segment_s=40, max_worker_s=20)
    steady = House(tmp_path / "steady", first_segment_s=40, segment_s=40, max_worker_s=20)
    found = {}
    for house in (hurried, steady):
        made, progress = house.whole(house.add(media))
        spans = [(draft.part, draft.start_ms, draft.end_ms) for one in made for draft in one.pending]
        found[house] = len(progress), sorted(spans)
    assert found[hurried][0] > found[steady][0] == 3
    assert found[hurried][1] == found[steady][1]


def test_all_that_a_batch_has_shares_the_time_of_its_worker(
    fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    ticks = itertools.count(step=15.0)
    house = House(tmp_path, lambda: next(ticks), first_segment_s=40, segment_s=40, max_worker_s=20)
    events = [house.add(clip(tmp_path, fetched_of, talk(spoken, 90), "wav")) for _ in range(3)]
    decoded, _ = house.slice(*events)
    assert [one.position.scanned_ms for one in decoded.checkpoints] == pytest.approx([20_000, 10_000, 10_000], abs=500)


def test_a_batch_that_breaks_off_leaves_nothing_open(
    house: House, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    long = house.add(clip(tmp_path, fetched_of, talk(spoken, 60), "wav"))
    other = fetched_of(b"ID3", modality=Modality.AUDIO).event

    def fetch(event: Event) -> FetchedMedia | Rejected:
        if event is other:
            raise UnavailableError("away")
        return house.fetch(event)

    with pytest.raises(UnavailableError):
        house.slicer.decode([long, other], (), fetch, keep_open=False)
    assert not house.slicer._open


def test_a_disk_without_room_for_media_is_no_fault_of_theirs(
    house: House, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = house.add(clip(tmp_path, fetched_of, talk(spoken, 60), "wav"))
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        write(path, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(UnavailableError, match="No space left"):
            house.slice(event)
    assert not list((tmp_path / "open").rglob("*.media"))
    assert house.slice(event)[0].checkpoints


def test_large_media_lie_in_a_file_while_they_are_open(
    house: House, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    event = house.add(clip(tmp_path, fetched_of, talk(spoken, 60), "wav"))
    house.slice(event)
    [file] = (tmp_path / "open").rglob("*.media")
    house.slicer.close()
    assert not file.exists()


def test_a_recording_without_speech_is_one_entry_found_by_its_title(
    house: House, fetched_of: FetchedOf, tmp_path: Path
) -> None:
    event = house.add(clip(tmp_path, fetched_of, np.zeros(5 * RATE_HZ, np.float32), title="Rain"))
    decoded, texts = house.slice(event)
    [draft] = decoded.pending
    assert (draft.collection, draft.text, draft.start_ms, draft.end_ms) == (Collection.SPEECH, "", 0, 0)
    assert texts.texts == ("Rain",)


def test_long_silence_is_one_entry_too(house: House, fetched_of: FetchedOf, tmp_path: Path) -> None:
    made, known = house.whole(house.add(clip(tmp_path, fetched_of, np.zeros(50 * RATE_HZ, np.float32))))
    assert [len(decoded.pending) for decoded in made] == [0] * (len(made) - 1) + [1]
    assert len(made) > 2
    assert known[-1].counts == {Collection.SPEECH: 1}


SCENES = [(4.0, picture(1)), (9.0, picture(2)), (8.0, picture(3)), (7.0, picture(4))]


def test_a_film_has_an_entry_for_each_shot_with_its_picture_and_thumbnail(
    house: House, fetched_of: FetchedOf, tmp_path: Path
) -> None:
    event = house.add(fetched_of(write_film(tmp_path / "film.mp4", SCENES).read_bytes()))
    made, known = house.whole(event)
    drafts = [draft for decoded in made for draft in decoded.pending]
    assert [(draft.collection, draft.part) for draft in drafts] == [(Collection.FRAME, part) for part in range(4)]
    assert [draft.start_ms for draft in drafts] == [0, 4_000, 13_000, 21_000]
    assert [draft.thumbnail for draft in drafts] == ["asset:1", "asset:2", "asset:3", "asset:4"]
    assert all(data.startswith(b"\xff\xd8") for data in house.kept)
    assert len(made) == 2
    assert known[-1].counts == {Collection.FRAME: 4}


def test_a_film_whose_sound_cannot_be_made_out_is_rejected_with_its_shots(
    house: House, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    film = house.add(fetched_of(write_film(tmp_path / "film.mp4", SCENES[:1]).read_bytes()))
    bad = house.add(clip(tmp_path, fetched_of, talk(spoken, 10)))
    decoded, texts = house.slice(film, bad, failed="the model fails on it")
    assert [one.asset for one in decoded.indexable] == [film.asset]
    assert {draft.event.asset for draft in decoded.pending} == {film.asset}
    [rejected] = decoded.rejected
    assert (rejected.position, rejected.step, rejected.reason) == (bad.position, "encode", Reason.ENCODER_FAILED)
    assert len(texts) == 0


def test_bad_media_take_no_other_along(house: House, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path) -> None:
    good = house.add(clip(tmp_path, fetched_of, talk(spoken, 10)))
    bad = house.add(fetched_of(b"ID3" + b"\x07" * 400, modality=Modality.AUDIO))
    silent = house.add(fetched_of(write_film(tmp_path / "film.mp4", SCENES[:1]).read_bytes(), modality=Modality.AUDIO))
    gone = replace(good, payload=None, position=replace(good.position, offset=99))
    decoded, _ = house.slice(bad, good, silent, gone)
    assert [event.asset for event in decoded.indexable] == [good.asset]
    assert [(one.position, one.reason) for one in decoded.rejected] == [
        (bad.position, Reason.CORRUPT),
        (silent.position, Reason.UNSUPPORTED),
    ]
    assert decoded.tombstones == (gone,)


def test_what_is_refused_at_fetch_is_handed_on(house: House, fetched_of: FetchedOf) -> None:
    event = fetched_of(b"ID3", modality=Modality.AUDIO).event
    refusal = Rejected(event.position, "fetch", Reason.FORBIDDEN, "not that host")
    sliced, _ = house.slicer.decode([event], (), lambda _: refusal)
    assert sliced.decoded.rejected == (refusal,)


def test_a_store_that_is_away_stops_the_batch(house: House, fetched_of: FetchedOf) -> None:
    def away(_: Event) -> FetchedMedia:
        raise UnavailableError("away")

    with pytest.raises(UnavailableError):
        house.slicer.decode([fetched_of(b"ID3", modality=Modality.AUDIO).event], (), away)
