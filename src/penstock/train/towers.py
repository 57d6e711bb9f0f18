"""Fine-tunes both towers of a CLIP model together, on images and their captions.

Two tasks share the towers: the symmetric InfoNCE of captions and images, and, with a weight, the words of the caption
from the image alone: a linear layer on the image's vector, with a binary cross-entropy for each word of the captions.
The second keeps the image tower from following the few pairs of a batch only.

A model of real size needs a GPU. The result is a folder in open_clip's format, which a profile names as the weights of
`joint`: another model, so another version of the index.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from penstock.encoders.profiles import ClipSpec
from penstock.records import UInt8
from penstock.train.adversarial import CollapseGuard
from penstock.train.losses import MAX_SCALE, info_nce

# Words that fewer captions have teach nothing.
_MIN_CAPTIONS = 2
_GUARD_EVERY = 10


class Towers(Protocol):
    """A model with both towers, as open_clip builds it."""

    logit_scale: nn.Parameter

    def encode_image(self, image: Tensor) -> Tensor:
        """Returns float[n, dim] of float[n, 3, size, size], not normalised."""

    def encode_text(self, text: Tensor) -> Tensor:
        """Returns float[n, dim] of int64[n, context], not normalised."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yields the weights."""

    def train(self, mode: bool = True) -> object:
        """Sets whether dropout and statistics are those of training."""


@dataclass(frozen=True)
class CaptionedImages:
    """Images with captions, decoded when they are needed.

    Attributes:
        captions: of each pair.
        pixels: returns uint8[n, size, size, 3] of the images of some pairs.
        images: int64[pairs], equal numbers for equal images, which are no negatives of each other.
    """

    captions: Sequence[str]
    pixels: Callable[[Sequence[int]], UInt8] = field(repr=False)
    images: np.ndarray = field(repr=False)


@dataclass(frozen=True, slots=True)
class TowerOptions:
    """The options of fine-tuning.

    Attributes:
        steps: batches.
        batch: pairs of a batch.
        learning_rate: of AdamW: far below that of training from random weights.
        captions: weight of the words of captions; 0: the task is left out.
        seed: of the order and of the layer of words.
        device: of torch.
    """

    steps: int = 100
    batch: int = 64
    learning_rate: float = 1e-5
    captions: float = 0.1
    seed: int = 0
    device: str = "cpu"


def fine_tune_towers(
    model: Towers,
    tokenize: Callable[[list[str]], Tensor],
    data: CaptionedImages,
    spec: ClipSpec,
    options: TowerOptions,
    *,
    report: Callable[[str, int, int], None] = lambda *_: None,
) -> list[float]:
    """Trains the towers in place, and returns the loss of each step.

    Args:
        model: on the device of the options.
        tokenize: texts → int64[n, context].
        data: pairs to train on.
        spec: of the model; its preprocessing of images.
        options: how long and how.
        report: of progress.

    Raises:
        CollapsedError: the vectors of images lost half of their effective rank.
    """
    words = caption_words(data.captions)
    rng = np.random.default_rng(options.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        of_words = nn.Linear(spec.space.dim, max(1, len(words))).to(options.device)
    optimiser = torch.optim.AdamW([*model.parameters(), *of_words.parameters()], lr=options.learning_rate)
    model.train()
    guard: CollapseGuard | None = None
    losses: list[float] = []
    for step in range(options.steps):
        rows = rng.permutation(len(data.captions))[: options.batch]
        captions = [data.captions[row] for row in rows.tolist()]
        images = functional.normalize(model.encode_image(_planes(data.pixels(rows.tolist()), spec, options)), dim=-1)
        texts = model.encode_text(tokenize(captions).to(options.device))
        same = torch.from_numpy(data.images[rows][:, None] == data.images[rows][None, :]).to(options.device)
        loss = info_nce(texts, images, model.logit_scale.exp().clamp(max=MAX_SCALE), same=same)
        if options.captions and words:
            target = _contained(captions, words).to(options.device)
            loss = loss + options.captions * functional.binary_cross_entropy_with_logits(of_words(images), target)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
        if guard is None:
            guard = CollapseGuard(images)
        elif step % _GUARD_EVERY == _GUARD_EVERY - 1:
            guard.check(images, step + 1)
        report("training", step + 1, options.steps)
    model.train(False)
    return losses


def caption_words(captions: Sequence[str]) -> dict[str, int]:
    """Returns the words that several captions have, with a number for each."""
    counts: dict[str, int] = {}
    for caption in captions:
        for word in set(caption.casefold().split()):
            counts[word] = counts.get(word, 0) + 1
    kept = sorted(word for word, count in counts.items() if count >= _MIN_CAPTIONS)
    return {word: number for number, word in enumerate(kept)}


def save_towers(model: nn.Module, spec: ClipSpec, folder: Path) -> None:
    """Writes the weights and the configuration in open_clip's format, so that a profile can name the folder."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = open_clip.get_model_config(spec.architecture)
    image = spec.image
    preprocess = {
        "size": [image.size_px, image.size_px], "mode": "RGB", "mean": list(image.mean), "std": list(image.std),
        "interpolation": image.interpolation, "resize_mode": image.resize_mode, "fill_color": image.fill,
    }  # fmt: skip
    document = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")


def _contained(captions: Sequence[str], words: dict[str, int]) -> Tensor:
    """Returns float32[captions, words]: 1 where a caption has a word."""
    target = torch.zeros(len(captions), len(words))
    for row, caption in enumerate(captions):
        for word in set(caption.casefold().split()) & words.keys():
            target[row, words[word]] = 1.0
    return target


def _planes(pixels: UInt8, spec: ClipSpec, options: TowerOptions) -> Tensor:
    """Converts uint8[n, size, size, 3] to float32[n, 3, size, size], normalised as the model expects."""
    planes = torch.from_numpy(pixels).to(options.device).permute(0, 3, 1, 2).float() / 255.0
    mean, deviation = (
        torch.tensor(values, device=planes.device).view(1, 3, 1, 1) for values in (spec.image.mean, spec.image.std)
    )
    return (planes - mean) / deviation
