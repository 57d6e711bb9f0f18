from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from faster_whisper import WhisperModel

from penstock.encoders.base import Fingerprint
from penstock.encoders.whisper import DecodingOptions, WhisperTranscriber
from penstock.records import Float32, TimedText
from tools.reference_models.grammar import VOCABULARY
from tools.reference_models.speech_synthesis import SpeechSynthesizer
from tools.reference_models.speech_tokens import make_tokens
from tools.reference_models.train_speech import make_model, save

TOKENS = make_tokens(VOCABULARY)
SURE, UNSURE = -0.1, -2.0


@dataclass
class Answer:
    """The scripted model's result for a window at one temperature."""

    tokens: Sequence[int]
    score: float = SURE
    no_speech: float = 0.0


def words(text: str, start_s: float = 0.0, end_s: float = 1.0) -> list[int]:
    return [TOKENS.time(start_s), *map(TOKENS.word, text.split()), TOKENS.time(end_s)]


@dataclass
class Scripted:
    """A model with a script of results for each window, which it recognises by the first sample.

    Attributes:
        answers: of every window, by temperature; the last one holds for those that follow.
        languages: of every window; None: the model knows English only.
        max_windows: windows for which there is memory.
        broken: windows on which it fails.
        batches: (temperature, windows) of every call.
    """

    answers: dict[int, list[Answer]]
    languages: dict[int, str] | None = None
    max_windows: int = 100
    broken: frozenset[int] = frozenset()
    batches: list[tuple[float, list[int]]] = field(default_factory=list)

    @property
    def loaded(self) -> Any:
        """Returns the model as faster-whisper loads it."""
        inner = SimpleNamespace(
            is_multilingual=self.languages is not None, generate=self._generate, detect_language=self._detect_language
        )
        return SimpleNamespace(
            feature_extractor=lambda window: np.full((80, 101), window[0], np.float32),
            encode=self._encode,
            hf_tokenizer=TOKENS.tokenizer,
            model=inner,
        )

    def _encode(self, features: Float32) -> list[int]:
        assert features.shape[1:] == (80, 3_000)
        assert not features[:, :, 100:].any()
        windows = [int(sample) for sample in features[:, 0, 0]]
        if len(windows) > self.max_windows:
            raise MemoryError
        if self.broken & set(windows):
            raise RuntimeError("cannot transcribe this")
        return windows

    def _detect_language(self, encoded: list[int]) -> list[list[tuple[str, float]]]:
        assert self.languages is not None
        return [[(f"<|{self.languages[window]}|>", 0.8), ("<|xx|>", 0.2)] for window in encoded]

    def _generate(self, encoded: list[int], prompts: Any, **options: Any) -> list[Any]:
        assert len(prompts) == len(encoded)
        temperature = 0.0 if options["beam_size"] > 1 else options["sampling_temperature"]
        self.batches.append((temperature, encoded))
        turn = DecodingOptions().temperatures.index(temperature)
        answers = [self.answers[window][min(turn, len(self.answers[window]) - 1)] for window in encoded]
        return [
            SimpleNamespace(sequences_ids=[list(answer.tokens)], scores=[answer.score], no_speech_prob=answer.no_speech)
            for answer in answers
        ]


def window(number: int, seconds: float = 2.0) -> Float32:
    samples = np.zeros(round(seconds * 16_000), np.float32)
    samples[0] = number
    return samples


def transcriber(model: Scripted, *, max_windows: int = 16, language: str | None = None) -> WhisperTranscriber:
    return WhisperTranscriber(
        model.loaded, DecodingOptions(), Fingerprint("a", "b", "c"), max_windows=max_windows, language=language
    )


def texts(model: Scripted, *numbers: int) -> list[str]:
    transcripts = transcriber(model).transcribe([window(number) for number in numbers])
    return [" ".join(segment.text for segment in transcript.segments) for transcript in transcripts]


# --- acceptance ----------------------------------------------------------------------------------------------------


def test_windows_of_many_assets_are_one_batch_and_keep_their_order() -> None:
    model = Scripted({number: [Answer(words(VOCABULARY[number]))] for number in range(40)})
    transcripts = transcriber(model, max_windows=40).transcribe([window(number) for number in range(40)])
    assert [transcript.segments[0].text for transcript in transcripts] == list(VOCABULARY[:40])
    assert [len(batch) for _, batch in model.batches] == [40]


def test_times_enclose_words_and_words_without_an_end_last_to_the_windows() -> None:
    tokens = [*words("the red fox", 0.2, 0.9), TOKENS.time(1.1), TOKENS.word("waits"), TOKENS.word("today")]
    [transcript] = transcriber(Scripted({1: [Answer(tokens)]})).transcribe([window(1, 2.0)])
    assert transcript.segments == (
        TimedText(pytest.approx(0.2), pytest.approx(0.9), "the red fox"),  # type: ignore[arg-type]
        TimedText(pytest.approx(1.1), 2.0, "waits today"),  # type: ignore[arg-type]
    )


def test_no_time_lies_behind_the_windows_end() -> None:
    [transcript] = transcriber(Scripted({1: [Answer(words("fox", 1.0, 29.0))]})).transcribe([window(1, 2.0)])
    assert [(segment.start_s, segment.end_s) for segment in transcript.segments] == [(1.0, 2.0)]


def test_improbable_text_without_speech_is_silence_and_not_decoded_again() -> None:
    model = Scripted({1: [Answer(words("the fox"), UNSURE, no_speech=0.9)]})
    assert texts(model, 1) == [""]
    assert len(model.batches) == 1


def test_probable_text_counts_even_without_speech() -> None:
    assert texts(Scripted({1: [Answer(words("the fox"), SURE, no_speech=0.9)]}), 1) == ["the fox"]


def test_improbable_text_is_decoded_again_alone_at_the_next_temperature() -> None:
    model = Scripted({1: [Answer(words("fox"))], 2: [Answer(words("wolf"), UNSURE), Answer(words("bear"))]})
    assert texts(model, 1, 2) == ["fox", "bear"]
    assert model.batches == [(0.0, [1, 2]), (0.4, [2])]


def test_text_that_stays_improbable_is_left_out() -> None:
    model = Scripted({1: [Answer(words("wolf"), UNSURE)], 2: [Answer(words("fox"))]})
    assert texts(model, 1, 2) == ["", "fox"]
    assert [temperature for temperature, _ in model.batches] == [0.0, 0.4, 0.8]


def test_text_that_repeats_itself_is_decoded_again() -> None:
    model = Scripted({1: [Answer(words("the fox " * 30)), Answer(words("the fox"))]})
    assert texts(model, 1) == ["the fox"]


# --- languages --------------------------------------------------------------------------------------------------------


def test_a_model_of_english_alone_reports_english() -> None:
    [transcript] = transcriber(Scripted({1: [Answer(words("fox"))]})).transcribe([window(1)])
    assert (transcript.language, transcript.probability) == ("en", 1.0)


@pytest.fixture
def multilingual(monkeypatch: pytest.MonkeyPatch) -> None:
    """The marks of languages are no tokens of the vocabulary here."""
    monkeypatch.setattr("faster_whisper.tokenizer.Tokenizer.sot_sequence", property(lambda tokenizer: [tokenizer.sot]))


@pytest.mark.usefixtures("multilingual")
def test_every_window_has_its_language_detected() -> None:
    model = Scripted({1: [Answer(words("fox"))], 2: [Answer(words("bear"))]}, languages={1: "en", 2: "de"})
    transcripts = transcriber(model).transcribe([window(1), window(2)])
    assert [(transcript.language, transcript.probability) for transcript in transcripts] == [("en", 0.8), ("de", 0.8)]


@pytest.mark.usefixtures("multilingual")
def test_a_language_that_is_set_is_not_detected() -> None:
    model = Scripted({1: [Answer(words("fox"))]}, languages={})
    assert transcriber(model, language="fr").transcribe([window(1)])[0].language == "fr"


# --- failing ----------------------------------------------------------------------------------------------------------


def test_a_batch_too_large_for_memory_is_halved() -> None:
    model = Scripted({number: [Answer(words("fox"))] for number in range(10)}, max_windows=3)
    assert texts(model, *range(10)) == ["fox"] * 10


def test_a_window_on_which_the_model_fails_fails_alone() -> None:
    model = Scripted({number: [Answer(words("fox"))] for number in range(6)}, broken=frozenset({4}))
    transcripts = transcriber(model).transcribe([window(number) for number in range(6)])
    assert [bool(transcript.segments) for transcript in transcripts] == [True, True, True, True, False, True]
    assert "cannot transcribe this" in transcripts[4].failed


def test_no_windows_make_no_call() -> None:
    model = Scripted({})
    assert transcriber(model).transcribe([]) == ()
    assert model.batches == []


# --- with a real model, untrained -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], WhisperTranscriber]:
    torch.manual_seed(0)
    folder: Path = tmp_path_factory.mktemp("whisper")
    save(make_model(TOKENS), TOKENS, folder)
    rules = DecodingOptions(avg_logprob_threshold=-100.0, compression_ratio_threshold=1e9, beam_size=1)

    def make() -> WhisperTranscriber:
        model = WhisperModel(str(folder), device="cpu", compute_type="float32", cpu_threads=1)
        return WhisperTranscriber(model, rules, Fingerprint("a", "b", "c"), max_windows=8)

    return make


def test_a_window_has_the_same_transcript_alone_and_in_a_batch(untrained: Callable[[], WhisperTranscriber]) -> None:
    speaker, loaded = SpeechSynthesizer(), untrained()
    spoken = [speaker.synthesize(text).samples for text in ("the red fox", "a small bear sleeps", "ten")]
    together = loaded.transcribe(spoken)
    assert all(transcript.segments for transcript in together)
    assert [loaded.transcribe([samples])[0].segments for samples in spoken] == [
        transcript.segments for transcript in together
    ]


# --- remainders and languages --------------------------------------------------------------------------------------


def test_speech_behind_the_end_of_the_text_is_decoded_as_a_window_of_its_own() -> None:
    first, second = VOCABULARY[:2]
    long = window(1, 10.0)
    long[round(4.0 * 16_000)] = 2  # where the remainder starts
    model = Scripted({1: [Answer(words(first, 0.0, 4.0))], 2: [Answer(words(second, 1.0, 6.0))]})
    (transcript,) = transcriber(model).transcribe([long])
    assert transcript.segments == (TimedText(0.0, 4.0, first), TimedText(5.0, 10.0, second))
    assert model.batches == [(0.0, [1]), (0.0, [2])]


def test_a_remainder_without_text_ends_the_window() -> None:
    long = window(1, 10.0)
    long[round(4.0 * 16_000)] = 2
    model = Scripted({1: [Answer(words(VOCABULARY[0], 0.0, 4.0))], 2: [Answer([], SURE)]})
    assert [segment.end_s for segment in transcriber(model).transcribe([long])[0].segments] == [4.0]


@pytest.mark.parametrize(
    "answer", [Answer(words(VOCABULARY[0]), UNSURE), Answer(words(" ".join([VOCABULARY[0]] * 40)), SURE)]
)
def test_speech_that_a_model_of_english_does_not_know_is_marked_and_has_no_text(answer: Answer) -> None:
    model = Scripted({1: [answer], 2: [Answer(words(VOCABULARY[1], 0.0, 3.0))]})
    options = DecodingOptions(unknown_below=-0.8)
    known_english = WhisperTranscriber(model.loaded, options, Fingerprint("a", "b", "c"), max_windows=4)
    foreign, english = known_english.transcribe([window(1, 3.0), window(2, 3.0)])
    assert (foreign.language, foreign.segments) == ("und", (TimedText(0.0, 3.0, ""),))
    assert (english.language, english.segments[0].text) == ("en", VOCABULARY[1])
    assert len(model.batches) == 1
