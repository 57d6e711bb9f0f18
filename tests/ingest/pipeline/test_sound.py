"""Sound from media to hits: a whole local pipeline and the query's channels, on a CLAP with random weights."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from penstock.assembly import open_assets
from penstock.config import load_settings
from penstock.encoders.base import Encoder, Fingerprint
from penstock.encoders.clap import ClapAudioEncoder
from penstock.encoders.load import load_encoder, profile_fingerprints
from penstock.encoders.null import NullTranscriber
from penstock.encoders.profiles import PASSAGE_TEXT, SOUND_AUDIO, SOUND_TEXT, SPEECH, Profile, load_profile
from penstock.ingest.delivery import Batch, Delivery
from penstock.ingest.executor.pool import LocalPool
from penstock.ingest.executor.proxies import Pools
from penstock.ingest.executor.workers import EncodeWorker, MediaWorker, TranscribeWorker
from penstock.ingest.lane.assembly import required_roles
from penstock.ingest.pipeline.driver import Pipeline
from penstock.ingest.pipeline.types import BatchReport, SettledDelivery
from penstock.media.av.audio import RATE_HZ
from penstock.media.av.sound import SoundOptions
from penstock.media.fetch import Fetcher
from penstock.media.segments.decoder import SegmentDecoder
from penstock.query.route import route
from penstock.query.types import Query
from penstock.records import (
    Access,
    AssetRef,
    Assignment,
    Channel,
    Collection,
    EncoderInput,
    Event,
    Field,
    Float32,
    Inline,
    Modality,
    Outcome,
    Position,
    Record,
)
from penstock.retries import Backoff, Breaker
from penstock.store.base import EntryQuery
from penstock.store.memory import MemoryStore
from penstock.store.spec import index_spec
from tests.encoders.test_clap import OPTIONS, noise, spec_of
from tests.encoders.tiny_models import CLAP_DIM, save_clap
from tests.ingest.doubles import RecordingSink, started_writer
from tests.media.media_files import write_audio

TOPIC = "media.audio"
LOUD = 0.95
SOUND_JOINT = Channel(Collection.SOUND, Field.JOINT)


def profile_with_sound(folder: Path) -> Profile:
    save_clap(folder / "clap")
    return replace(load_profile("null"), sound=spec_of(folder / "clap", CLAP_DIM))


class DeafEncoder(ClapAudioEncoder):
    """Fails on windows that are loud for a quarter of a second."""

    def _vectors(self, waveforms: Sequence[Float32]) -> Float32:
        if any((waveform > LOUD).sum() > RATE_HZ / 4 for waveform in waveforms):
            raise ValueError("too loud")
        return super()._vectors(waveforms)


def deaf_encoder(profile: Profile) -> DeafEncoder:
    assert profile.sound is not None
    return DeafEncoder(profile.sound, Fingerprint("n", "0" * 16, "0" * 16), OPTIONS)


def pool_of(encoder: Encoder) -> LocalPool:
    return LocalPool(lambda _: EncodeWorker(encoder))


def pipeline(
    profile: Profile, store: MemoryStore, folder: Path, sound_encoder: ClapAudioEncoder | None = None
) -> Pipeline:
    settings = load_settings(profile="null", data_dir=folder)
    sound = profile.sound
    decoder = SegmentDecoder(
        speech=settings.speech,
        video=settings.video,
        long_media=settings.long_media,
        image_spec=profile.image,
        put_thumbnail=lambda _: "asset:thumbnail",
        settings_hash="test",
        sound=None if sound is None else SoundOptions(sound.window_ms, sound.hop_ms),
    )
    fetcher = Fetcher(settings.fetch, open_assets(settings), topic_of={Modality.AUDIO: TOPIC})
    media = MediaWorker(fetcher, None, decoder)  # type: ignore[arg-type]  # no text, no images
    roles = required_roles(profile, [Modality.AUDIO])
    encoders: dict[str, Encoder] = {
        role: load_encoder(role, profile, device="cpu", precision="fp32") for role in roles if role != SPEECH
    }
    if sound_encoder is not None:
        encoders[SOUND_AUDIO] = sound_encoder
    backoff = Backoff(0.001, 0.001, random.Random(0))
    pools = Pools.over(
        fetch=LocalPool(lambda _: media),
        decode=LocalPool(lambda _: media),
        long_media=LocalPool(lambda _: media),
        encoders={
            **{role: pool_of(encoder) for role, encoder in encoders.items()},
            SPEECH: LocalPool(lambda _: TranscribeWorker(NullTranscriber(Fingerprint("n", "0" * 16, "0" * 16)), None)),
        },
        writers=LocalPool(lambda _: started_writer(store)),
    )
    return Pipeline(
        lane="test",
        pools=pools,
        roles={Modality.AUDIO: roles},
        dead_letters=RecordingSink(),
        backoff=backoff,
        breaker=Breaker("store", clock=lambda: 0.0, backoff=backoff),
        sleep=threading.Event().wait,
        known_good={},
    )


def delivery(offset: int, data: bytes | None) -> Delivery:
    position = Position(TOPIC, 0, offset)
    payload = None if data is None else Inline(data)
    event = Event(AssetRef("default", TOPIC, "k"), position, position, offset, Modality.AUDIO, payload)
    return Delivery(Record(position, b"k", data, (), timestamp_ms=offset), Assignment(TOPIC, 0, 1), event)


def outcomes(report: BatchReport) -> list[Outcome]:
    return [settlement.outcome for settlement in report.settlements if isinstance(settlement, SettledDelivery)]


def ensured(profile: Profile) -> MemoryStore:
    store = MemoryStore()
    store.ensure(index_spec(profile, profile_fingerprints(profile), load_settings().store))
    return store


def keys_in(store: MemoryStore, collection: Collection) -> list[str]:
    return [key.id for keys in store.scan_entry_keys(collection) for key in keys]


def query(text: str) -> Query:
    return Query(text, None, None, (Collection.SPEECH, Collection.SOUND), True, None, "default", 10, 2_000)


def test_windows_of_audio_are_found_by_a_text_and_deleted_with_their_asset(tmp_path: Path) -> None:
    profile = profile_with_sound(tmp_path)
    assert required_roles(profile, [Modality.AUDIO]) == (SPEECH, PASSAGE_TEXT, SOUND_AUDIO)
    store = ensured(profile)
    run = pipeline(profile, store, tmp_path)
    data = write_audio(tmp_path / "noise.wav", noise(1, 25)).read_bytes()
    run.run(Batch(1, TOPIC, (delivery(0, data),)))
    entries = sorted(store.get(Collection.SOUND, keys_in(store, Collection.SOUND)), key=lambda entry: entry.part)
    assert [(entry.start_ms, entry.end_ms) for entry in entries] == [(0, 10_000), (10_000, 20_000), (20_000, 25_000)]

    plan = route(query("a dog barks"), offered=store.channels(), profile=profile)
    encoder_of = {query.channel: query.encoder for query in plan.queries}
    assert encoder_of[SOUND_JOINT] == SOUND_TEXT
    assert SOUND_JOINT not in plan.missing
    text = load_encoder(SOUND_TEXT, profile, device="cpu", precision="fp32")
    vector = text.encode(EncoderInput(SOUND_TEXT, ("q",), texts=("a dog barks",))).vectors[0]
    hits = store.search(EntryQuery(SOUND_JOINT, vector, Access.to_all_of("default"), None, 10, 1.0))
    cosines = [float(np.dot(entry.vectors[Field.JOINT], vector)) for entry in entries]
    assert [hit.score for hit in hits] == sorted(cosines, reverse=True)

    run.run(Batch(2, TOPIC, (delivery(1, write_audio(tmp_path / "b.wav", noise(2, 5)).read_bytes()),)))
    assert len(keys_in(store, Collection.SOUND)) == 1
    run.run(Batch(3, TOPIC, (delivery(2, None),)))
    assert keys_in(store, Collection.SOUND) == []


def test_a_window_that_the_sound_model_fails_on_costs_itself_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    profile = profile_with_sound(tmp_path)
    store = ensured(profile)
    samples = noise(1, 45)
    samples[15 * RATE_HZ : 16 * RATE_HZ] = 1.0
    data = write_audio(tmp_path / "noise.wav", samples).read_bytes()
    report = pipeline(profile, store, tmp_path, deaf_encoder(profile)).run(Batch(1, TOPIC, (delivery(0, data),)))
    assert outcomes(report) == [Outcome.INDEXED]
    entries = sorted(store.get(Collection.SOUND, keys_in(store, Collection.SOUND)), key=lambda entry: entry.part)
    assert [entry.part for entry in entries] == [0, 1, 2, 3]
    assert [entry.start_ms for entry in entries] == [0, 20_000, 30_000, 40_000]
    (row,) = store.asset_rows([delivery(0, data).event.asset.id]).values()
    assert row.counts == {Collection.SPEECH: 1, Collection.SOUND: 4}
    assert "k is indexed without its sound from 10000 ms on: ValueError: too loud" in caplog.text


def test_a_recording_all_of_whose_windows_fail_is_indexed_without_sound(tmp_path: Path) -> None:
    profile = profile_with_sound(tmp_path)
    store = ensured(profile)
    samples = noise(1, 12)
    for second in (5, 11):
        samples[second * RATE_HZ : (second + 1) * RATE_HZ] = 1.0
    data = write_audio(tmp_path / "noise.wav", samples).read_bytes()
    report = pipeline(profile, store, tmp_path, deaf_encoder(profile)).run(Batch(1, TOPIC, (delivery(0, data),)))
    assert outcomes(report) == [Outcome.INDEXED]
    assert store.count(Collection.SOUND) == 0
    assert store.count(Collection.SPEECH) == 1


def test_a_profile_without_sound_has_no_such_collection(tmp_path: Path) -> None:
    profile = load_profile("null")
    store = ensured(profile)
    data = write_audio(tmp_path / "noise.wav", noise(1, 12)).read_bytes()
    pipeline(profile, store, tmp_path).run(Batch(1, TOPIC, (delivery(0, data),)))
    assert Collection.SOUND not in {channel.collection for channel in store.channels()}
    assert (store.count(Collection.SOUND), keys_in(store, Collection.SOUND)) == (0, [])
    (row,) = store.asset_rows([delivery(0, data).event.asset.id]).values()
    assert row.counts == {Collection.SPEECH: 1}
    assert SOUND_JOINT not in route(query("a dog"), offered=store.channels(), profile=profile).missing


def test_entries_of_sound_are_removed_by_a_profile_that_has_none(tmp_path: Path) -> None:
    with_sound = profile_with_sound(tmp_path)
    store = ensured(with_sound)
    data = write_audio(tmp_path / "noise.wav", noise(1, 12)).read_bytes()
    pipeline(with_sound, store, tmp_path).run(Batch(1, TOPIC, (delivery(0, data),)))
    assert store.count(Collection.SOUND) == 2
    plain = load_profile("null")
    store.ensure(index_spec(plain, profile_fingerprints(plain), load_settings().store))
    pipeline(plain, store, tmp_path).run(Batch(2, TOPIC, (delivery(1, data),)))
    assert store.count(Collection.SOUND) == 0
