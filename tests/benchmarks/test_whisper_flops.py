from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.whisper_flops import CountedWhisper, WhisperSize, whisper_size
from penstock.encoders.profiles import SpeechSpec, load_profile
from penstock.encoders.weights import FolderWeights

TINY = WhisperSize(mels=1, width=2, inner=3, encoder_layers=1, decoder_layers=1, vocabulary=5)
# With 4 frames, 2 positions: convolutions 48 + 48, projections 64, attention 16 + 16, MLP 48.
TINY_ENCODER = 240
# A token: projections 32, those to the encoder 16, attention to its 2 positions 16, MLP 24, logits 20; and 8 for each
# token so far. Once a window: keys and values of 2 positions.
A_TOKEN, SO_FAR, ONCE = 108, 8, 32


def test_the_encoders_operations_are_those_of_its_products() -> None:
    assert TINY.encoder_flops(4) == TINY_ENCODER


def test_more_layers_add_operations_except_for_the_convolutions() -> None:
    three = WhisperSize(mels=1, width=2, inner=3, encoder_layers=3, decoder_layers=1, vocabulary=5)
    assert three.encoder_flops(4) == 96 + 3 * (TINY_ENCODER - 96)


def test_the_prompt_is_decoded_once_and_every_token_after_it_once_a_beam() -> None:
    assert TINY.decoder_flops(2, prompt=1, tokens=0, beams=5) == ONCE + A_TOKEN + SO_FAR
    by_hand = ONCE + (A_TOKEN + SO_FAR) + 2 * (2 * A_TOKEN + SO_FAR * (2 + 3))
    assert TINY.decoder_flops(2, prompt=1, tokens=2, beams=2) == by_hand == 660


def test_the_logits_are_computed_once_whatever_the_number_of_layers() -> None:
    two = WhisperSize(mels=1, width=2, inner=3, encoder_layers=1, decoder_layers=2, vocabulary=5)
    one_token = TINY.decoder_flops(2, prompt=1, tokens=0, beams=1)
    assert two.decoder_flops(2, prompt=1, tokens=0, beams=1) == 2 * one_token - 20


def test_torch_counts_the_same_for_a_whisper_of_transformers() -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=40, num_mel_bins=8, d_model=16, encoder_layers=2, decoder_layers=3, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_source_positions=10,
        max_target_positions=12, pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=1,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    model = WhisperForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    size = WhisperSize(mels=8, width=16, inner=24, encoder_layers=2, decoder_layers=3, vocabulary=40)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        encoded = model.model.encoder(torch.zeros(1, 8, 20))
    assert size.encoder_flops(20) == counter.get_total_flops()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(encoder_outputs=encoded, decoder_input_ids=torch.tensor([[1]]))
    assert size.decoder_flops(10, prompt=1, tokens=0, beams=1) == counter.get_total_flops()


def test_dimensions_are_read_from_the_shapes_of_the_weights() -> None:
    speech = load_profile("reference").speech
    assert isinstance(speech, SpeechSpec)
    assert isinstance(speech.source, FolderWeights)
    size = whisper_size(speech.source.folder / speech.source.weights)
    assert size == WhisperSize(
        mels=80, width=128, inner=512, encoder_layers=3, decoder_layers=2, vocabulary=size.vocabulary
    )
    assert 2_000 < size.vocabulary < 3_000


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"no", "is no model"),
        (bytes([2, 0, 0, 0]), "of version 2"),
        (bytes([6, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]), "no Whisper: it has no encoder/conv1/weight"),
    ],
)
def test_a_file_that_is_no_whisper_is_refused_in_a_line(tmp_path: Path, data: bytes, why: str) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=why):
        whisper_size(file)


class FakeWhisper:
    """Answers as CTranslate2's Whisper does."""

    is_multilingual = True

    def encode(self, features: Any, **_options: Any) -> Any:
        return np.zeros((len(features), 2, 2), np.float32)

    def detect_language(self, encoded: Any) -> list[str]:
        return ["en"] * len(encoded)

    def generate(self, encoded: Any, prompts: Any, *, beam_size: int, **_options: Any) -> list[Any]:
        assert beam_size == 2
        return [SimpleNamespace(sequences_ids=[[7] * (number + 1)]) for number in range(len(encoded))]


def test_the_operations_of_all_calls_are_added_up() -> None:
    counted = CountedWhisper(FakeWhisper(), TINY)
    assert counted.is_multilingual
    encoded = counted.encode(np.zeros((2, 1, 4), np.float32), to_cpu=False)
    assert counted.flops == 2 * TINY_ENCODER
    counted.detect_language(encoded)
    results = counted.generate(encoded, [[1], [1]], beam_size=2, max_length=4)
    assert [len(result.sequences_ids[0]) for result in results] == [1, 2]
    detected = 2 * TINY.decoder_flops(2, prompt=1, tokens=0, beams=1)
    generated = sum(TINY.decoder_flops(2, prompt=1, tokens=tokens, beams=2) for tokens in (1, 2))
    assert counted.flops == 2 * TINY_ENCODER + detected + generated
