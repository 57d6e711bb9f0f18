"""Trains the speech model of the `reference` profile: a tiny Whisper that transcribes 145 words of espeak-ng.

    python -m tools.reference_models.train_speech --out DIR [--hours N] [--steps N] [--seed N] [--device cuda]

The network is transformers' own Whisper, small, and what is written is a model of CTranslate2 that faster-whisper loads
unpatched. Three losses: the tokens of the decoder; the phoneme of each frame of the encoder; and the share of a word's
cross-attention outside the time in which the word is spoken. The last two make it follow the audio: with the first
alone it learns to guess. Windows of 4 to 30 s are mixed from the start; short ones start anywhere in 30 s. The batch of
a step depends on the seed and the step alone, on any machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ctranslate2.converters.transformers import WhisperLoader
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from transformers import WhisperConfig, WhisperForConditionalGeneration

from penstock.encoders.precision import choose_precision
from tools.reference_models.grammar import VOCABULARY
from tools.reference_models.speech_corpus import Example, Windows, utterances
from tools.reference_models.speech_tokens import TIMES, Tokens, make_tokens

WIDTH, HEADS, INNER = 128, 4, 512
ENCODER_LAYERS, DECODER_LAYERS = 3, 2
FRAMES = 1_500
MAX_TOKENS = 448
PEAK_RATE, WEIGHT_DECAY, WARMUP_SHARE = 2e-3, 0.01, 0.05
PHONEME_WEIGHT, ATTENTION_WEIGHT = 1.0, 0.3
# Seconds of a window, windows in a batch (about 130 s of audio each), and share of the batches.
KINDS: Sequence[tuple[float, int, float]] = ((4.0, 32, 0.4), (8.0, 16, 0.25), (16.0, 8, 0.1), (30.0, 4, 0.25))
SINGLE_SHARE = 0.4  # of the long windows: one utterance, then silence, as a clip is
TIME_BLUR = (0.15, 0.7, 0.15)  # shares of a time's target: its neighbours and itself
REPORT_EVERY = 100  # steps


@dataclass(frozen=True)
class Plan:
    """A training run.

    Attributes:
        hours: of speech to learn from, by all voices together.
        steps: batches of about 130 s of audio.
        seed: of everything.
        device: `cpu`, or `cuda` where there is one.
        processes: that synthesise speech, and that draw batches beside the training.
    """

    hours: float = 6.6
    steps: int = 5_000
    seed: int = 7
    device: str = "cpu"
    processes: int = 2


class Trainer:
    """A training run.

    Args:
        tokens: of the model.
        phonemes: number of phonemes.
        seed: of the initial weights.
        device: `cpu` or `cuda`.
    """

    def __init__(self, tokens: Tokens, phonemes: int, seed: int, device: str = "cpu") -> None:
        torch.manual_seed(seed)
        self.tokens = tokens
        self.model = make_model(tokens).to(device)
        self.phonemes = nn.Linear(WIDTH, phonemes).to(device)
        self._device = device
        parameters = [*self.model.parameters(), *self.phonemes.parameters()]
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(self._parameters, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98))
        self._bf16 = choose_precision("auto", device) == "bf16"

    def step(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Trains on one batch; progress is 0 to 1. Returns the losses."""
        for group in self._optimizer.param_groups:
            group["lr"] = PEAK_RATE * _learning_rate(progress)
        batch = batch.to(self._device)
        with torch.autocast(self._device, torch.bfloat16, enabled=self._bf16):
            hidden = encode(self.model, batch.mel, batch.first_frames)
            decoded = self.model.model.decoder(
                input_ids=batch.tokens[:, :-1], encoder_hidden_states=hidden, output_attentions=True, use_cache=False
            )
            logits = self.model.proj_out(decoded.last_hidden_state)
            phonemes = self.phonemes(hidden)
        losses = {
            "words": _word_loss(logits.float(), batch.tokens[:, 1:], self.tokens),
            "phonemes": functional.cross_entropy(phonemes.float().flatten(0, 1), batch.phonemes.flatten()),
            "attention": _attention_loss(decoded.cross_attentions, batch.spans[:, 1:]),
        }
        total = losses["words"] + PHONEME_WEIGHT * losses["phonemes"] + ATTENTION_WEIGHT * losses["attention"]
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        return {name: loss.detach() for name, loss in losses.items()}


class Batches(Dataset["Batch"]):
    """The batches of a run, by step.

    Args:
        windows: to draw from.
        plan: its seed, and its steps.
        end: the end mark.
    """

    def __init__(self, windows: Windows, plan: Plan, end: int) -> None:
        self._windows, self._plan, self._end = windows, plan, end

    def __len__(self) -> int:
        return self._plan.steps

    def __getitem__(self, step: int) -> Batch:
        choose = random.Random(f"{self._plan.seed}/{step}")
        seconds, count, _ = choose.choices(KINDS, [share for _, _, share in KINDS])[0]
        drawn = [
            self._windows.draw(seconds, choose, single=seconds == 30.0 and choose.random() < SINGLE_SHARE)
            for _ in range(count)
        ]
        return Batch.of(drawn, self._end)


@dataclass(frozen=True)
class Batch:
    """Examples of one length, as tensors.

    Attributes:
        mel: float32[b, 80, 2 n].
        first_frames: position of each example in the encoder.
        tokens: int64[b, t]; the end mark behind the end.
        spans: int64[b, t, 2], frames of each token's word; (0, 0) for others.
        phonemes: int64[b, n].
    """

    mel: Tensor
    first_frames: Sequence[int]
    tokens: Tensor
    spans: Tensor
    phonemes: Tensor

    def to(self, device: str) -> Batch:
        """Returns the batch on a device."""
        moved = (tensor.to(device, non_blocking=True) for tensor in (self.mel, self.tokens, self.spans, self.phonemes))
        mel, tokens, spans, phonemes = moved
        return Batch(mel, self.first_frames, tokens, spans, phonemes)

    @classmethod
    def of(cls, examples: Sequence[Example], end: int) -> Batch:
        """Collects examples of one length, and pads their tokens with the end mark."""
        longest = min(MAX_TOKENS, max(len(example.tokens) for example in examples))
        tokens = torch.full((len(examples), longest), end)
        spans = torch.zeros((len(examples), longest, 2), dtype=torch.int64)
        for row, example in enumerate(examples):
            count = min(longest, len(example.tokens))
            tokens[row, :count] = torch.tensor(example.tokens[:count])
            spans[row, :count] = torch.tensor(example.spans[:count])
        return cls(
            torch.from_numpy(np.stack([example.mel for example in examples])),
            [example.first_frame for example in examples],
            tokens,
            spans,
            torch.from_numpy(np.stack([example.phonemes for example in examples])),
        )


def make_model(tokens: Tokens) -> Any:
    """Builds a Whisper of transformers whose embeddings of times start as the encoder positions that they stand for."""
    config = WhisperConfig(
        vocab_size=tokens.count,
        num_mel_bins=80,
        d_model=WIDTH,
        encoder_layers=ENCODER_LAYERS,
        decoder_layers=DECODER_LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=INNER,
        decoder_ffn_dim=INNER,
        max_source_positions=FRAMES,
        max_target_positions=MAX_TOKENS,
        dropout=0.0,
        pad_token_id=tokens.end,
        bos_token_id=tokens.end,
        eos_token_id=tokens.end,
        decoder_start_token_id=tokens.start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    config._attn_implementation = "eager"  # the only one that returns its attention
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        positions = model.model.encoder.embed_positions.weight
        times = torch.cat([positions, positions[-1:]])[:TIMES]
        embedded = model.model.decoder.embed_tokens.weight
        embedded[tokens.first_time : tokens.first_time + TIMES] = times * embedded.std() / times.std()
    return model


def encode(model: Any, mel: Tensor, first_frames: Sequence[int]) -> Tensor:
    """Runs the encoder on windows of any length, each at its own position: float32[b, n, width]."""
    encoder = model.model.encoder
    hidden = functional.gelu(encoder.conv2(functional.gelu(encoder.conv1(mel)))).permute(0, 2, 1)
    frames = hidden.shape[1]
    positions = torch.stack([encoder.embed_positions.weight[first : first + frames] for first in first_frames])
    hidden = hidden + positions
    for layer in encoder.layers:
        output = layer(hidden, None)
        hidden = output[0] if isinstance(output, tuple) else output
    normalised: Tensor = encoder.layer_norm(hidden)
    return normalised


def _word_loss(logits: Tensor, targets: Tensor, tokens: Tokens) -> Tensor:
    """Returns the cross-entropy of the next token, up to the first end mark.

    A time's target is blurred over its neighbours, as frames are.
    """
    ended = (targets == tokens.end).cumsum(1)
    counted = (ended == 0) | ((ended == 1) & (targets == tokens.end))
    logs = functional.log_softmax(logits, dim=-1)
    last = tokens.first_time + TIMES - 1
    is_time = targets >= tokens.first_time
    loss = torch.zeros_like(targets, dtype=torch.float32)
    for shift, share in zip((-1, 0, 1), TIME_BLUR, strict=True):
        moved = torch.where(is_time, (targets + shift).clamp(tokens.first_time, last), targets)
        loss = loss - share * logs.gather(-1, moved[..., None])[..., 0]
    return loss[counted].mean()


def _attention_loss(attentions: Sequence[Tensor], spans: Tensor) -> Tensor:
    """Returns minus the logarithm of the attention inside the next word's time; the mean over layers and heads.

    Args:
        attentions: float[b, heads, t, n] of each layer.
        spans: int64[b, t, 2], of the target token of each position.
    """
    words = spans[..., 1] > 0
    frames = torch.arange(attentions[0].shape[-1], device=spans.device)
    inside = (frames >= spans[..., :1]) & (frames < spans[..., 1:])  # bool[b, t, n]
    losses = []
    for attention in attentions:
        mass = (attention.float() * inside[:, None]).sum(-1).permute(0, 2, 1)  # [b, t, heads]
        losses.append(-torch.log(mass[words] + 1e-4).mean())
    return torch.stack(losses).mean()


def _learning_rate(progress: float) -> float:
    """Returns the learning rate as a share of the peak: linear warm-up, then a cosine down to zero."""
    if progress < WARMUP_SHARE:
        return progress / WARMUP_SHARE
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (progress - WARMUP_SHARE) / (1 - WARMUP_SHARE)))


# --- output --------------------------------------------------------------------------------------------------------


def save(model: Any, tokens: Tokens, out: Path) -> None:
    """Writes the files that faster-whisper loads: CTranslate2's model in 16-bit floats, and the tokenizer."""
    loader = WhisperLoader()
    spec = loader.get_model_spec(model.eval())
    spec.register_vocabulary(tokens.names())
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [tokens.end]
    spec.config.lang_ids = []
    spec.config.alignment_heads = list(itertools.product(range(DECODER_LAYERS), range(HEADS)))
    spec.validate()
    spec.optimize(quantization="float16")
    out.mkdir(parents=True, exist_ok=True)
    spec.save(str(out))
    tokens.tokenizer.save(str(out / "tokenizer.json"))
    settings = {"feature_size": 80, "sampling_rate": 16_000, "hop_length": 160, "chunk_length": 30, "n_fft": 400}
    (out / "preprocessor_config.json").write_text(json.dumps(settings))


def train(plan: Plan) -> tuple[Any, Tokens]:
    """Trains as planned. Returns the network and its tokens."""
    tokens, began_s = make_tokens(VOCABULARY), time.monotonic()
    windows = Windows(utterances(plan.hours, plan.seed, plan.processes), tokens)
    trainer = Trainer(tokens, windows.phonemes, plan.seed, plan.device)
    batches = DataLoader(
        Batches(windows, plan, tokens.end),
        batch_size=None,
        num_workers=plan.processes,
        prefetch_factor=8,
        worker_init_fn=lambda _: threadpool_limits(1),  # numpy's threads wait for each other, four times as long
    )
    for step, batch in enumerate(batches):
        losses = trainer.step(batch, step / plan.steps)
        if step % REPORT_EVERY == 0:
            figures = ", ".join(f"{name} {float(loss):.3f}" for name, loss in losses.items())
            print(f"{time.monotonic() - began_s:6.0f} s  step {step:5d}  {figures}", flush=True)
    return trainer.model, tokens


def main() -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=Plan.hours, help="of speech to learn from")
    parser.add_argument("--steps", type=int, default=Plan.steps, help="batches to learn from")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--device", choices=("cpu", "cuda"), default=Plan.device)
    parser.add_argument("--processes", type=int, default=Plan.processes, help="that synthesise speech and draw batches")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    model, tokens = train(Plan(arguments.hours, arguments.steps, arguments.seed, arguments.device, arguments.processes))
    save(model.cpu(), tokens, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
