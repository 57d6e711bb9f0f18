"""Spoken queries: what is transcribed, what is rejected and why, and that no query waits indefinitely."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.config import QuerySettings
from penstock.encoders.profiles import load_profile
from penstock.errors import ConfigError, OverloadedError, QueryError, UnavailableError
from penstock.media.av.audio import RATE_HZ
from penstock.media.av.vad import SileroVAD
from penstock.query.pipeline import QueryPipeline
from penstock.query.types import SearchRequest
from penstock.query.understand.speech import SpeechQueryTranscriber, detect_speech
from penstock.records import Collection, Float32, TimedText, Transcript
from tests.media.media_files import AUDIO_FORMATS, beeps, scene_image, write_audio, write_channels, write_video
from tools.reference_models.speech_synthesis import SpeechSynthesizer

SMALL = load_profile("small")


class LoudIsSpeech(SileroVAD):
    """Detects speech in anything loud, so that tones can replace speech."""

    def __init__(self) -> None:
        pass

    def reset(self) -> None:
        pass

    def probabilities(self, samples: Float32) -> Float32:
        return (np.abs(samples.reshape(-1, 512)).max(axis=1) > 0.05).astype(np.float32)


class ScriptedModel:
    """Returns the transcripts of a script, and can be held during a call.

    Attributes:
        lengths_s: of the windows of each call.
        threads: in which it was called.
        loaded: number of times.
        failing: the exception that loading raises.
    """

    def __init__(self, *transcripts: Transcript) -> None:
        self.transcripts = transcripts or (transcript_of("cat"),)
        self.lengths_s: list[list[float]] = []
        self.threads: set[int] = set()
        self.loaded = 0
        self.failing: Exception | None = None
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def load(self) -> ScriptedModel:
        self.loaded += 1
        if self.failing:
            raise self.failing
        return self

    def transcribe(self, windows: Sequence[Float32]) -> Sequence[Transcript]:
        self.entered.set()
        assert self.gate.wait(10)
        self.threads.add(threading.get_ident())
        self.lengths_s.append([len(window) / RATE_HZ for window in windows])
        return self.transcripts


def transcript_of(*texts: str, failed: str = "") -> Transcript:
    return Transcript("en", 1.0, tuple(TimedText(0.0, 1.0, text) for text in texts), failed)


def with_transcriber(
    model: ScriptedModel, scenario: Callable[[SpeechQueryTranscriber], Coroutine[Any, Any, Any]], **settings: Any
) -> Any:
    async def main() -> Any:
        transcriber = SpeechQueryTranscriber(model.load, QuerySettings(**settings), detector=LoudIsSpeech)
        try:
            return await asyncio.wait_for(scenario(transcriber), 20)
        finally:
            model.gate.set()
            transcriber.close()

    return asyncio.run(main())


def transcribe(model: ScriptedModel, data: bytes, **settings: Any) -> Any:
    return with_transcriber(model, lambda transcriber: transcriber.transcribe(data), **settings)


@pytest.fixture
def tone(tmp_path: Path) -> bytes:
    """Two seconds of beeps, WAV."""
    return write_audio(tmp_path / "tone.wav", beeps(2)).read_bytes()


# --- transcribed queries ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", AUDIO_FORMATS)
def test_a_query_is_transcribed_from_any_container(kind: str, tmp_path: Path) -> None:
    model = ScriptedModel(transcript_of("where is", "the cat"), transcript_of("now"))
    rate_hz = 48_000 if kind in ("ogg", "webm") else 44_100
    path = write_audio(tmp_path / f"query.{kind}", beeps(2, rate_hz), rate_hz=rate_hz, layout="stereo")
    assert transcribe(model, path.read_bytes()) == "where is the cat now"
    ((length_s,),) = model.lengths_s
    assert length_s == pytest.approx(1.7, abs=0.2)  # from the first beep to after the second


def test_the_audio_track_of_a_video_is_transcribed(tmp_path: Path) -> None:
    video = write_audio(tmp_path / "query.mp4", beeps(2), video_s=2)
    assert transcribe(ScriptedModel(), video.read_bytes()) == "cat"


def test_the_detector_that_ships_distinguishes_speech_from_noise(tmp_path: Path) -> None:
    spoken = SpeechSynthesizer().synthesize("Where does the heron wait?").samples
    silence = np.zeros(RATE_HZ, np.float32)
    query = write_audio(tmp_path / "query.wav", np.concatenate((silence, spoken, silence))).read_bytes()
    (window,) = detect_speech(query, SileroVAD(), max_s=60)
    assert len(window) / RATE_HZ == pytest.approx(len(spoken) / RATE_HZ, abs=0.8)
    noise = np.random.default_rng(1).normal(0, 0.05, 2 * RATE_HZ).astype(np.float32)
    hiss = write_audio(tmp_path / "hiss.wav", noise).read_bytes()
    assert list(detect_speech(hiss, SileroVAD(), max_s=60)) == []


def test_a_query_of_exactly_the_maximum_length_is_transcribed(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "query.wav", beeps(3))
    assert transcribe(ScriptedModel(), path.read_bytes(), max_audio_s=3.0) == "cat"


# --- rejected queries ------------------------------------------------------------------------------------------------


def refusal(model: ScriptedModel, data: bytes, **settings: Any) -> tuple[int, str]:
    with pytest.raises(QueryError) as caught:
        transcribe(model, data, **settings)
    assert caught.value.field == "/audio"
    return caught.value.status, str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"where is the cat",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
        b"caff\nv=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 49170 RTP/AVP 0\n",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        bytes(1_000),
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"ID3" + bytes(100),
    ],
)
def test_bytes_that_are_not_audio_are_rejected_before_a_model_is_loaded(data: bytes) -> None:
    model = ScriptedModel()
    status, message = refusal(model, data)
    assert (status, model.loaded) == (422, 0)
    assert message.startswith("the audio ")


def test_audio_with_an_unknown_channel_layout_is_rejected(tmp_path: Path) -> None:
    audio = write_channels(tmp_path / "query.wav", 9)
    status, message = refusal(ScriptedModel(), audio.read_bytes())
    assert status == 422
    assert "9 channels" in message


def test_a_video_without_an_audio_track_is_rejected(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", [(1.0, scene_image(1))])
    status, message = refusal(ScriptedModel(), video.read_bytes())
    assert status == 422
    assert "without an audio track" in message


def test_audio_without_speech_is_rejected_before_a_model_is_loaded(tmp_path: Path) -> None:
    model = ScriptedModel()
    silence = write_audio(tmp_path / "silence.wav", np.zeros(RATE_HZ, np.float32)).read_bytes()
    status, message = refusal(model, silence)
    assert (status, model.loaded) == (422, 0)
    assert "no speech detected" in message


def test_an_empty_transcript_is_rejected_with_the_failure_of_the_model(tone: bytes) -> None:
    assert "could not be transcribed" in refusal(ScriptedModel(transcript_of()), tone)[1]
    status, message = refusal(ScriptedModel(transcript_of(failed="out of range")), tone)
    assert status == 422
    assert "out of range" in message


def test_a_query_that_is_too_long_is_rejected_by_its_samples_not_by_its_header(tmp_path: Path) -> None:
    model = ScriptedModel()
    path = write_audio(tmp_path / "query.wav", beeps(3))
    status, message = refusal(model, path.read_bytes(), max_audio_s=2.5)
    assert (status, model.loaded) == (413, 0)
    assert "longer than 2.5 s" in message


# --- one at a time ---------------------------------------------------------------------------------------------------


def test_the_model_is_loaded_once_and_called_from_one_thread_beside_the_loop(tone: bytes) -> None:
    model = ScriptedModel()

    async def scenario(transcriber: SpeechQueryTranscriber) -> None:
        assert model.loaded == 0
        assert await asyncio.gather(*(transcriber.transcribe(tone) for _ in range(3))) == ["cat"] * 3

    with_transcriber(model, scenario)
    assert model.loaded == 1
    assert len(model.threads) == 1
    assert threading.get_ident() not in model.threads


def test_a_model_that_does_not_load_is_unavailable_and_loaded_again(tone: bytes) -> None:
    model = ScriptedModel()
    model.failing = ConfigError("its weights are not here")

    async def scenario(transcriber: SpeechQueryTranscriber) -> None:
        with pytest.raises(UnavailableError, match="its weights are not here"):
            await transcriber.transcribe(tone)
        model.failing = None
        assert await transcriber.transcribe(tone) == "cat"

    with_transcriber(model, scenario)


def test_more_queries_than_the_queue_holds_are_rejected_immediately(tone: bytes) -> None:
    model = ScriptedModel()
    model.gate.clear()

    async def scenario(transcriber: SpeechQueryTranscriber) -> None:
        waiting = [asyncio.create_task(transcriber.transcribe(tone)) for _ in range(2)]
        await asyncio.get_running_loop().run_in_executor(None, model.entered.wait)
        with pytest.raises(OverloadedError, match="spoken queries"):
            await transcriber.transcribe(tone)
        model.gate.set()
        assert await asyncio.gather(*waiting) == ["cat", "cat"]

    with_transcriber(model, scenario, transcription_queue_size=1)


def test_a_model_that_hangs_costs_no_more_than_the_timeout(tone: bytes) -> None:
    model = ScriptedModel()
    model.gate.clear()

    async def scenario(transcriber: SpeechQueryTranscriber) -> None:
        with pytest.raises(UnavailableError, match="transcription_timeout_s"):
            await transcriber.transcribe(tone)

    with_transcriber(model, scenario, transcription_timeout_s=0.3)


# --- whole searches --------------------------------------------------------------------------------------------------


def ask(store: Any, encoder: Any, data: bytes, model: ScriptedModel | None, **request: Any) -> Any:
    async def main() -> Any:
        settings = QuerySettings()
        transcriber = None if model is None else SpeechQueryTranscriber(model.load, settings, detector=LoudIsSpeech)
        pipeline = QueryPipeline(store, encoder, SMALL, settings, transcriber=transcriber)
        try:
            return await pipeline.search(SearchRequest(audio=data, **request))
        finally:
            pipeline.close()

    return asyncio.run(main())


def test_a_spoken_query_finds_what_the_written_one_finds_and_returns_its_transcript(
    store: Any, encoder: Any, tone: bytes
) -> None:
    for key in ("cat", "dog"):
        store.add(Collection.TEXT, key)
    result = ask(store, encoder, tone, ScriptedModel(transcript_of(" cat ")))
    assert result.transcript == "cat"
    assert result.hits[0].entry.title == "cat"
    assert [str(by.channel) for by in result.hits[0].found_by] == ["text.passage", "text.joint", "text.lexical"]
    assert list(result.took_ms) == [
        "transcribe",
        "understand",
        "route",
        "encode",
        "search",
        "fuse",
        "judge",
        "mark",
        "total",
    ]


def test_the_deadline_begins_after_the_transcription(store: Any, encoder: Any, tone: bytes) -> None:
    class SlowModel(ScriptedModel):
        def transcribe(self, windows: Sequence[Float32]) -> Sequence[Transcript]:
            threading.Event().wait(0.4)
            return super().transcribe(windows)

    store.add(Collection.TEXT, "cat")
    result = ask(store, encoder, tone, SlowModel(), deadline_ms=300)
    assert not result.partial
    assert result.took_ms["transcribe"] >= 400


def test_a_profile_without_a_speech_model_says_so(store: Any, encoder: Any, tone: bytes) -> None:
    with pytest.raises(QueryError, match="no speech model") as caught:
        ask(store, encoder, tone, None)
    assert (caught.value.status, caught.value.field) == (400, "/audio")


def test_an_otherwise_invalid_request_is_rejected_before_it_is_transcribed(
    store: Any, encoder: Any, tone: bytes
) -> None:
    model = ScriptedModel()
    with pytest.raises(QueryError):
        ask(store, encoder, tone, model, modalities=["smell"])
    assert model.loaded == 0


def test_a_query_in_a_language_that_the_model_does_not_know_says_so(tone: bytes) -> None:
    unknown = Transcript("und", 0.0, (TimedText(0.0, 2.0, ""),))
    with pytest.raises(QueryError, match="in a language that the speech model of this profile does not know"):
        transcribe(ScriptedModel(unknown), tone)
