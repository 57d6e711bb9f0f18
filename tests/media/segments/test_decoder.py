"""Decodes audio and video segment by segment, with scripted transcripts."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from penstock.errors import Reason, UnavailableError
from penstock.media.av.audio import RATE_HZ
from penstock.media.av.sound import SoundOptions
from penstock.records import (
    Collection,
    Event,
    FetchedMedia,
    Field,
    Float32,
    MediaPosition,
    Modality,
    Rejected,
)
from tests.media.media_files import write_video
from tests.media.segments.harness import SCENES, DecoderHarness, FetchedOf, clip, talk


def test_short_audio_is_one_segment_without_a_checkpoint(
    harness: DecoderHarness, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    event = harness.add(clip(tmp_path, fetched_of, talk(spoken, 14), title="A talk"))
    decoded, texts = harness.decode(event)
    assert not decoded.checkpoints
    assert [(entry.collection, entry.part) for entry in decoded.pending] == [
        (Collection.SPEECH, 0),
        (Collection.SPEECH, 1),
    ]
    assert set(texts.texts) == {entry.text for entry in decoded.pending}  # equal texts share a row
    for entry, start_ms in zip(decoded.pending, (1_000, 7_000), strict=True):
        assert entry.start_ms == pytest.approx(start_ms, abs=300)
        assert entry.end_ms == pytest.approx(start_ms + 1000 * len(spoken) / RATE_HZ, abs=400)
        assert entry.vectors == ((Field.PASSAGE, "passage.text", texts.texts.index(entry.text)),)
    assert not list((tmp_path / "open").rglob("*.media"))


def test_long_audio_has_the_same_entries_decoded_by_one_worker_or_by_many(
    harness: DecoderHarness, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    event = harness.add(clip(tmp_path, fetched_of, talk(spoken, 60)))
    segments, checkpoints = harness.decode_all(event)
    assert len(segments) == 4
    assert harness.fetches == 1
    parts = [(entry.part, entry.start_ms, entry.end_ms) for decoded in segments for entry in decoded.pending]
    assert [part for part, _, _ in parts] == list(range(10))
    assert checkpoints[-1].counts == {Collection.SPEECH: 10}
    for number, checkpoint in enumerate(checkpoints[:-1]):
        harness.restart()
        decoded, _ = harness.decode(event, checkpoints=[checkpoint])
        assert decoded.checkpoints[0].start == checkpoint.position
        again = [(entry.part, entry.start_ms, entry.end_ms) for entry in decoded.pending]
        before = [(entry.part, entry.start_ms, entry.end_ms) for entry in segments[number + 1].pending]
        assert np.allclose(again, before, atol=150)


def test_a_checkpoint_of_other_settings_is_ignored(
    harness: DecoderHarness, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    event = harness.add(clip(tmp_path, fetched_of, talk(spoken, 60)))
    decoded, _ = harness.decode(event)
    harness.restart(settings_hash="second")
    again, _ = harness.decode(event, checkpoints=decoded.checkpoints)
    assert [entry.part for entry in again.pending] == [entry.part for entry in decoded.pending]
    assert again.checkpoints[0].settings_hash == "second"


def test_changed_media_at_the_same_address_start_again(
    harness: DecoderHarness, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    event = harness.add(clip(tmp_path, fetched_of, talk(spoken, 60)))
    decoded, _ = harness.decode(event)
    harness.restart()
    other = clip(tmp_path, fetched_of, talk(spoken, 70, every_s=9))
    harness.media[event.asset.id] = replace(other, event=event)
    again, _ = harness.decode(event, checkpoints=decoded.checkpoints)
    assert again.pending[0].part == 0
    assert again.checkpoints[0].start == MediaPosition()
    assert again.checkpoints[0].media_sha256 == other.sha256


def test_a_segment_ends_early_at_the_deadline_and_the_next_ones_read_the_rest(
    fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    media = clip(tmp_path, fetched_of, talk(spoken, 90), "wav")
    ticks = itertools.count(step=15.0)
    hurried = DecoderHarness(
        tmp_path / "hurried", lambda: next(ticks), first_segment_s=40, segment_s=40, max_worker_s=20
    )
    steady = DecoderHarness(tmp_path / "steady", first_segment_s=40, segment_s=40, max_worker_s=20)
    results = {}
    for harness in (hurried, steady):
        segments, checkpoints = harness.decode_all(harness.add(media))
        spans = [(entry.part, entry.start_ms, entry.end_ms) for decoded in segments for entry in decoded.pending]
        results[harness] = len(checkpoints), sorted(spans)
    assert results[hurried][0] > results[steady][0] == 3
    assert results[hurried][1] == results[steady][1]


def test_the_events_of_a_batch_share_one_deadline(fetched_of: FetchedOf, spoken: Float32, tmp_path: Path) -> None:
    ticks = itertools.count(step=15.0)
    harness = DecoderHarness(tmp_path, lambda: next(ticks), first_segment_s=40, segment_s=40, max_worker_s=20)
    events = [harness.add(clip(tmp_path, fetched_of, talk(spoken, 90), "wav")) for _ in range(3)]
    decoded, _ = harness.decode(*events)
    assert [checkpoint.position.scanned_ms for checkpoint in decoded.checkpoints] == pytest.approx(
        [20_000, 10_000, 10_000], abs=500
    )


def test_a_video_has_an_entry_for_each_shot_with_a_thumbnail(
    harness: DecoderHarness, fetched_of: FetchedOf, tmp_path: Path
) -> None:
    event = harness.add(fetched_of(write_video(tmp_path / "video.mp4", SCENES).read_bytes()))
    segments, checkpoints = harness.decode_all(event)
    entries = [entry for decoded in segments for entry in decoded.pending]
    assert [(entry.collection, entry.part) for entry in entries] == [(Collection.FRAME, part) for part in range(4)]
    assert [entry.start_ms for entry in entries] == [0, 4_000, 13_000, 21_000]
    assert [entry.thumbnail for entry in entries] == ["asset:1", "asset:2", "asset:3", "asset:4"]
    assert all(data.startswith(b"\xff\xd8") for data in harness.thumbnails)
    assert len(segments) == 2
    assert checkpoints[-1].counts == {Collection.FRAME: 4}


def test_media_that_cannot_be_decoded_are_rejected_alone(
    harness: DecoderHarness, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    good = harness.add(clip(tmp_path, fetched_of, talk(spoken, 10)))
    bad = harness.add(fetched_of(b"ID3" + b"\x07" * 400, modality=Modality.AUDIO))
    silent = harness.add(
        fetched_of(write_video(tmp_path / "video.mp4", SCENES[:1]).read_bytes(), modality=Modality.AUDIO)
    )
    tombstone = replace(good, payload=None, position=replace(good.position, offset=99))
    decoded, _ = harness.decode(bad, good, silent, tombstone)
    assert [event.asset for event in decoded.indexable] == [good.asset]
    assert [(rejection.position, rejection.reason) for rejection in decoded.rejected] == [
        (bad.position, Reason.CORRUPT),
        (silent.position, Reason.UNSUPPORTED),
    ]
    assert decoded.tombstones == (tombstone,)


def test_a_rejection_of_fetch_is_passed_through(harness: DecoderHarness, fetched_of: FetchedOf) -> None:
    event = fetched_of(b"ID3", modality=Modality.AUDIO).event
    rejection = Rejected(event.position, "fetch", Reason.FORBIDDEN, "not that host")
    segments, _ = harness.decoder.decode([event], (), lambda _: rejection)
    assert segments.decoded.rejected == (rejection,)


def test_an_unavailable_asset_store_stops_the_batch(harness: DecoderHarness, fetched_of: FetchedOf) -> None:
    def unavailable(_: Event) -> FetchedMedia:
        raise UnavailableError("unavailable")

    with pytest.raises(UnavailableError):
        harness.decoder.decode([fetched_of(b"ID3", modality=Modality.AUDIO).event], (), unavailable)


def test_windows_of_sound_are_the_same_decoded_by_one_worker_or_by_many(
    harness: DecoderHarness, fetched_of: FetchedOf, spoken: Float32, tmp_path: Path
) -> None:
    harness.sound = SoundOptions(5_000, 5_000)
    harness.restart()
    event = harness.add(clip(tmp_path, fetched_of, talk(spoken, 60)))
    segments, checkpoints = harness.decode_all(event)
    windows = [entry for decoded in segments for entry in decoded.pending if entry.collection is Collection.SOUND]
    assert [entry.part for entry in windows] == list(range(len(windows)))
    assert len(windows) >= 10
    assert all(0 < entry.end_ms - entry.start_ms <= 5_000 for entry in windows)
    assert all(first.end_ms <= second.start_ms for first, second in itertools.pairwise(windows))
    assert checkpoints[-1].counts == {Collection.SPEECH: 10, Collection.SOUND: len(windows)}
    for number, checkpoint in enumerate(checkpoints[:-1]):
        harness.restart()
        decoded, _ = harness.decode(event, checkpoints=[checkpoint])
        again, before = (
            [(entry.part, entry.start_ms, entry.end_ms) for entry in entries if entry.collection is Collection.SOUND]
            for entries in (decoded.pending, segments[number + 1].pending)
        )
        assert np.allclose(again, before, atol=400)  # speech in progress may begin a little earlier or later


def test_media_without_speech_still_have_an_entry_for_their_title(
    harness: DecoderHarness, fetched_of: FetchedOf, tmp_path: Path
) -> None:
    harness.sound = SoundOptions(5_000, 5_000)
    harness.restart()
    noise = np.random.default_rng(0).normal(0, 0.02, 8 * RATE_HZ).astype(np.float32)
    decoded, texts = harness.decode(harness.add(clip(tmp_path, fetched_of, noise, "wav", title="Rain on a roof")))
    assert [entry.collection for entry in decoded.pending].count(Collection.SPEECH) == 1
    assert texts.texts == ("Rain on a roof",)
    silence = clip(tmp_path, fetched_of, np.zeros(8 * RATE_HZ, np.float32), "flac", title="Silence")
    decoded, _ = harness.decode(harness.add(silence))
    assert [entry.collection for entry in decoded.pending] == [Collection.SPEECH]
