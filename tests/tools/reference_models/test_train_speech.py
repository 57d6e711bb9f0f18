"""Tests of the parts of the reference speech model's training.

Whether it learns is tested on the shipped model.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from faster_whisper import WhisperModel

from tools.reference_models.grammar import VOCABULARY
from tools.reference_models.speech_corpus import Windows, speak_sentences
from tools.reference_models.speech_synthesis import RATE_HZ, SpeechSynthesizer, Utterance, Word
from tools.reference_models.speech_tokens import TIMES, Tokens, make_tokens
from tools.reference_models.train_speech import _attention_loss, _word_loss, encode, make_model, save


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return make_tokens(VOCABULARY)


@pytest.fixture(scope="module")
def speech() -> list[Utterance]:
    return list(speak_sentences(0.01, [SpeechSynthesizer()], seed=1))


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_every_known_word_is_one_token_and_reads_back(tokens: Tokens) -> None:
    for word in VOCABULARY:
        assert tokens.tokenizer.encode(f" {word}", add_special_tokens=False).ids == [tokens.word(word)]
    text = " the red fox waits near the river"
    assert tokens.tokenizer.decode(tokens.tokenizer.encode(text).ids) == text


def test_what_is_not_known_is_spelled_in_bytes(tokens: Tokens) -> None:
    text = " Größe 🦩"
    assert tokens.tokenizer.decode(tokens.tokenizer.encode(text).ids) == text


def test_text_lies_below_the_end_mark_and_times_above_all(tokens: Tokens) -> None:
    assert all(tokens.word(word) < tokens.end for word in VOCABULARY)
    assert tokens.names()[tokens.first_time] == "<|0.00|>"
    assert tokens.names()[-1] == "<|30.00|>"
    assert tokens.count == tokens.first_time + TIMES
    assert tokens.time(12.345) == tokens.first_time + 617
    assert tokens.time(99.0) == tokens.count - 1


# --- windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [4.0, 8.0, 30.0])
def test_a_window_has_the_words_spoken_in_it_and_their_times(
    seconds: float, speech: list[Utterance], tokens: Tokens
) -> None:
    windows, choose, frames = Windows(speech, tokens), random.Random(3), round(seconds * 50)
    for _ in range(20):
        example = windows.draw(seconds, choose)
        assert example.mel.shape == (80, 2 * frames)
        assert example.phonemes.shape == (frames,)
        assert 0 <= example.first_frame <= 1_500 - frames
        times = [token - tokens.first_time for token in example.tokens if token >= tokens.first_time]
        assert times == sorted(times)
        assert all(example.first_frame <= time <= example.first_frame + frames for time in times)
        assert (example.tokens[1] == tokens.no_speech) == (not times)
        for token, (first, behind) in zip(example.tokens, example.spans, strict=True):
            assert (token < tokens.end) == (behind > 0)
            assert first <= behind <= frames + 1


def test_a_word_is_loud_in_its_frames(tokens: Tokens) -> None:
    tone = (0.5 * np.sin(np.arange(RATE_HZ) * 0.3)).astype(np.float32)
    spoken = Utterance(tone, [Word("fox", 0.0, 1.0)], [Word("f", 0.0, 1.0)])
    windows, choose = Windows([spoken], tokens), random.Random(0)
    example = next(drawn for drawn in iter(lambda: windows.draw(4.0, choose, single=True), None) if drawn.spans[2][1])
    first, behind = example.spans[2]
    loudness = example.mel.max(axis=0)[: 2 * (len(example.phonemes))].reshape(-1, 2).max(axis=1)
    assert loudness[first + 1 : behind - 2].min() > 0.5
    assert set(example.phonemes[first : behind - 1]) == {1}


# --- losses -----------------------------------------------------------------------------------------------------------


def test_what_comes_after_the_end_mark_costs_nothing(tokens: Tokens) -> None:
    targets = torch.tensor([[5, tokens.end, tokens.end, tokens.end]])
    logits = torch.zeros(1, 4, tokens.count)
    before = _word_loss(logits, targets, tokens)
    logits[0, 2:, 7] = 50.0
    assert _word_loss(logits, targets, tokens) == before


def test_a_time_next_to_the_right_one_costs_less_than_one_far_away(tokens: Tokens) -> None:
    targets = torch.tensor([[tokens.time(3.0)]])
    costs = []
    for seconds in (3.0, 3.02, 9.0):
        logits = torch.zeros(1, 1, tokens.count)
        logits[0, 0, tokens.time(seconds)] = 10.0
        costs.append(float(_word_loss(logits, targets, tokens)))
    assert costs == sorted(costs)


def test_attention_costs_what_lies_outside_the_word() -> None:
    attention = torch.zeros(1, 1, 2, 10)
    attention[0, 0, 0, 3:5] = 0.25
    attention[0, 0, 0, 8] = 0.5
    attention[0, 0, 1, 0] = 1.0
    spans = torch.tensor([[[3, 5], [0, 0]]])
    assert float(_attention_loss([attention], spans)) == pytest.approx(-np.log(0.5), abs=1e-3)


# --- the network ------------------------------------------------------------------------------------------------------


def test_a_window_stands_at_its_own_position(tokens: Tokens) -> None:
    torch.manual_seed(0)
    model = make_model(tokens).eval()
    mel = torch.rand(1, 80, 400)
    with torch.inference_mode():
        whole = model.model.encoder(padded(mel)).last_hidden_state
        alone = encode(model, padded(mel), [0])
        later = encode(model, mel, [700])
    assert torch.allclose(whole, alone, atol=1e-4)
    assert later.shape == (1, 200, whole.shape[2])
    assert not torch.allclose(later, encode(model, mel, [0]), atol=1e-2)


def padded(mel: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(mel, (0, 3_000 - mel.shape[2]))


def test_what_is_saved_is_loaded_by_faster_whisper_as_it_is(tokens: Tokens, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save(make_model(tokens), tokens, tmp_path)
    loaded = WhisperModel(str(tmp_path), device="cpu", compute_type="float32")
    assert not loaded.model.is_multilingual
    assert loaded.hf_tokenizer.token_to_id("<|0.00|>") == tokens.first_time
    list(
        loaded.transcribe(
            SpeechSynthesizer().synthesize("the red fox").samples, beam_size=1, temperature=0.0, max_new_tokens=5
        )[0]
    )
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 10_000_000
