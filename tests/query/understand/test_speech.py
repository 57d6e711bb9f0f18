"""Questions by voice: what is heard, what is refused and why, and that nobody waits for ever."""

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
from penstock.query.understand.speech import SpeechQueryTranscriber, speech_in
from penstock.query.understand.validate import SearchRequest
from penstock.records import Collection, Float32, TimedText, Transcript
from tests.media.recordings import SOUND_FORMATS, beeps, picture, write_channels, write_film, write_sound
from tools.reference_models.speech_synthesis import SpeechSynthesizer

SMALL = load_profile("small")


class LoudIsSpeech(SileroVAD):
    """Takes whatever is loud for speech, so that tones will do for it."""

    def __init__(self) -> None:
        pass

    def reset(self) -> None:
        pass

    def probabilities(self, samples: Float32) -> Float32:
        return (np.abs(samples.reshape(-1, 512)).max(axis=1) > 0.05).astype(np.float32)


class ScriptedEar:
    """Hears what it is told to, and can be held while it listens.

    Attributes:
        lengths_s: of the windows of each call.
        threads: in which it was called.
        loaded: how often.
        failing: what loading raises.
    """

    def __init__(self, *heard: Transcript) -> None:
        self.heard = heard or (said("cat"),)
        self.lengths_s: list[list[float]] = []
        self.threads: set[int] = set()
        self.loaded = 0
        self.failing: Exception | None = None
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def load(self) -> ScriptedEar:
        self.loaded += 1
        if self.failing:
            raise self.failing
        return self

    def transcribe(self, windows: Sequence[Float32]) -> Sequence[Transcript]:
        self.entered.set()
        assert self.gate.wait(10)
        self.threads.add(threading.get_ident())
        self.lengths_s.append([len(window) / RATE_HZ for window in windows])
        return self.heard


def said(*texts: str, failed: str = "") -> Transcript:
    return Transcript("en", 1.0, tuple(TimedText(0.0, 1.0, text) for text in texts), failed)


def listen(
    ear: ScriptedEar, scenario: Callable[[SpeechQueryTranscriber], Coroutine[Any, Any, Any]], **settings: Any
) -> Any:
    async def main() -> Any:
        listener = SpeechQueryTranscriber(ear.load, QuerySettings(**settings), detector=LoudIsSpeech)
        try:
            return await asyncio.wait_for(scenario(listener), 20)
        finally:
            ear.gate.set()
            listener.close()

    return asyncio.run(main())


def hear(ear: ScriptedEar, data: bytes, **settings: Any) -> Any:
    return listen(ear, lambda listener: listener.transcribe(data), **settings)


@pytest.fixture
def tone(tmp_path: Path) -> bytes:
    """Two seconds of beeps, WAV."""
    return write_sound(tmp_path / "tone.wav", beeps(2)).read_bytes()


# --- what is heard ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOUND_FORMATS)
def test_a_question_is_heard_in_any_container(kind: str, tmp_path: Path) -> None:
    ear = ScriptedEar(said("where is", "the cat"), said("now"))
    rate_hz = 48_000 if kind in ("ogg", "webm") else 44_100
    path = write_sound(tmp_path / f"question.{kind}", beeps(2, rate_hz), rate_hz=rate_hz, layout="stereo")
    assert hear(ear, path.read_bytes()) == "where is the cat now"
    ((length_s,),) = ear.lengths_s
    assert length_s == pytest.approx(1.7, abs=0.2)  # from the first beep to after the second


def test_the_sound_of_a_film_is_a_question_too(tmp_path: Path) -> None:
    film = write_sound(tmp_path / "question.mp4", beeps(2), picture_s=2)
    assert hear(ScriptedEar(), film.read_bytes()) == "cat"


def test_speech_is_told_from_noise_by_the_detector_that_ships(tmp_path: Path) -> None:
    spoken = SpeechSynthesizer().synthesize("Where does the heron wait?").samples
    silence = np.zeros(RATE_HZ, np.float32)
    question = write_sound(tmp_path / "question.wav", np.concatenate((silence, spoken, silence))).read_bytes()
    (window,) = speech_in(question, SileroVAD(), max_s=60)
    assert len(window) / RATE_HZ == pytest.approx(len(spoken) / RATE_HZ, abs=0.8)
    noise = np.random.default_rng(1).normal(0, 0.05, 2 * RATE_HZ).astype(np.float32)
    hiss = write_sound(tmp_path / "hiss.wav", noise).read_bytes()
    assert list(speech_in(hiss, SileroVAD(), max_s=60)) == []


def test_a_question_of_exactly_the_longest_is_heard(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "question.wav", beeps(3))
    assert hear(ScriptedEar(), path.read_bytes(), max_audio_s=3.0) == "cat"


# --- what is refused --------------------------------------------------------------------------------------------------


def refusal(ear: ScriptedEar, data: bytes, **settings: Any) -> tuple[int, str]:
    with pytest.raises(QueryError) as caught:
        hear(ear, data, **settings)
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
def test_what_is_no_sound_is_refused_before_a_model_is_loaded(data: bytes) -> None:
    ear = ScriptedEar()
    status, message = refusal(ear, data)
    assert (status, ear.loaded) == (422, 0)
    assert message.startswith("the sound ")


def test_sound_of_channels_that_nobody_knows_how_to_mix_is_refused(tmp_path: Path) -> None:
    sound = write_channels(tmp_path / "question.wav", 9)
    status, message = refusal(ScriptedEar(), sound.read_bytes())
    assert status == 422
    assert "9 channels" in message


def test_a_silent_film_has_no_question(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", [(1.0, picture(1))])
    status, message = refusal(ScriptedEar(), film.read_bytes())
    assert status == 422
    assert "no sound track" in message


def test_sound_in_which_nobody_speaks_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    ear = ScriptedEar()
    silence = write_sound(tmp_path / "silence.wav", np.zeros(RATE_HZ, np.float32)).read_bytes()
    status, message = refusal(ear, silence)
    assert (status, ear.loaded) == (422, 0)
    assert "nobody speaks" in message


def test_speech_without_words_is_refused_and_says_why_if_the_model_failed(tone: bytes) -> None:
    assert "no words" in refusal(ScriptedEar(said()), tone)[1]
    status, message = refusal(ScriptedEar(said(failed="out of range")), tone)
    assert status == 422
    assert "out of range" in message


def test_a_question_that_is_too_long_is_refused_by_what_it_holds_not_by_what_its_header_says(tmp_path: Path) -> None:
    ear = ScriptedEar()
    path = write_sound(tmp_path / "question.wav", beeps(3))
    status, message = refusal(ear, path.read_bytes(), max_audio_s=2.5)
    assert (status, ear.loaded) == (413, 0)
    assert "longer than 2.5 s" in message


# --- one at a time ----------------------------------------------------------------------------------------------------


def test_the_model_is_loaded_once_and_called_from_one_thread_that_is_not_the_loops(tone: bytes) -> None:
    ear = ScriptedEar()

    async def scenario(listener: SpeechQueryTranscriber) -> None:
        assert ear.loaded == 0
        assert await asyncio.gather(*(listener.transcribe(tone) for _ in range(3))) == ["cat"] * 3

    listen(ear, scenario)
    assert ear.loaded == 1
    assert len(ear.threads) == 1
    assert threading.get_ident() not in ear.threads


def test_what_does_not_load_is_unavailable_and_tried_again(tone: bytes) -> None:
    ear = ScriptedEar()
    ear.failing = ConfigError("its weights are not here")

    async def scenario(listener: SpeechQueryTranscriber) -> None:
        with pytest.raises(UnavailableError, match="its weights are not here"):
            await listener.transcribe(tone)
        ear.failing = None
        assert await listener.transcribe(tone) == "cat"

    listen(ear, scenario)


def test_more_than_the_line_holds_are_refused_at_once(tone: bytes) -> None:
    ear = ScriptedEar()
    ear.gate.clear()

    async def scenario(listener: SpeechQueryTranscriber) -> None:
        waiting = [asyncio.create_task(listener.transcribe(tone)) for _ in range(2)]
        await asyncio.get_running_loop().run_in_executor(None, ear.entered.wait)
        with pytest.raises(OverloadedError, match="questions by voice"):
            await listener.transcribe(tone)
        ear.gate.set()
        assert await asyncio.gather(*waiting) == ["cat", "cat"]

    listen(ear, scenario, transcription_queue_size=1)


def test_a_model_that_hangs_costs_no_more_than_the_time_there_is(tone: bytes) -> None:
    ear = ScriptedEar()
    ear.gate.clear()

    async def scenario(listener: SpeechQueryTranscriber) -> None:
        with pytest.raises(UnavailableError, match="transcription_timeout_s"):
            await listener.transcribe(tone)

    listen(ear, scenario, transcription_timeout_s=0.3)


# --- the whole question -----------------------------------------------------------------------------------------------


def ask(store: Any, encoder: Any, data: bytes, ear: ScriptedEar | None, **request: Any) -> Any:
    async def main() -> Any:
        settings = QuerySettings()
        listener = None if ear is None else SpeechQueryTranscriber(ear.load, settings, detector=LoudIsSpeech)
        pipeline = QueryPipeline(store, encoder, SMALL, settings, listener=listener)
        try:
            return await pipeline.search(SearchRequest(audio=data, **request))
        finally:
            pipeline.close()

    return asyncio.run(main())


def test_a_spoken_question_finds_what_the_written_one_does_and_says_what_was_understood(
    store: Any, encoder: Any, tone: bytes
) -> None:
    for key in ("cat", "dog"):
        store.add(Collection.TEXT, key)
    result = ask(store, encoder, tone, ScriptedEar(said(" cat ")))
    assert result.transcript == "cat"
    assert result.hits[0].entry.title == "cat"
    assert [str(found.channel) for found in result.hits[0].found_by] == ["text.passage", "text.joint", "text.lexical"]
    assert list(result.took_ms) == ["transcribe", "encode", "search", "fuse", "total"]


def test_the_deadline_is_for_the_search_and_not_for_the_listening(store: Any, encoder: Any, tone: bytes) -> None:
    class SlowEar(ScriptedEar):
        def transcribe(self, windows: Sequence[Float32]) -> Sequence[Transcript]:
            threading.Event().wait(0.4)
            return super().transcribe(windows)

    store.add(Collection.TEXT, "cat")
    result = ask(store, encoder, tone, SlowEar(), deadline_ms=300)
    assert not result.partial
    assert result.took_ms["transcribe"] >= 400


def test_a_profile_without_a_speech_model_says_so(store: Any, encoder: Any, tone: bytes) -> None:
    with pytest.raises(QueryError, match="no speech model") as caught:
        ask(store, encoder, tone, None)
    assert (caught.value.status, caught.value.field) == (400, "/audio")


def test_a_request_that_is_wrong_otherwise_is_refused_before_anybody_listens(
    store: Any, encoder: Any, tone: bytes
) -> None:
    ear = ScriptedEar()
    with pytest.raises(QueryError):
        ask(store, encoder, tone, ear, modalities=["smell"])
    assert ear.loaded == 0
