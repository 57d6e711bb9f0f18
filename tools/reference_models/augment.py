"""Draws training images by the batch: renderings rotated, moved and recoloured on backgrounds from random tensors.

The families of backgrounds are plain, gradient, blotchy (soft or sharp), shards and noisy. Figures are measured on none
of them, but on those of `penstock.samples.images.compose`, which are regular while these are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from penstock.samples.images import Concept, load_rendering

# Renderings are kept at about the size at which they are drawn, so that bilinear sampling never skips pixels: those
# that fill more than MIP_SPLIT of the image come from the first, smaller ones from the second.
MIP_SIDES_PX = (60, 42)
MIP_SPLIT = 0.72

# Cumulative shares of a batch: plain, gradient, soft blotches, hard blotches, shards; the rest is noise. Sharp edges
# have most of it: without shards, concepts on smooth unseen backgrounds were distinguished as well (99 %), but long
# edges misled the tower (86 % on stripes and rings).
BACKGROUND_SHARES = (0.08, 0.16, 0.32, 0.6, 0.92)
SHARD_EDGES = 7

# Mirrored, each of these is another one of them; all the rest are flipped in half of the images.
HANDED = (
    "first-quarter-moon",
    "last-quarter-moon",
    "waning-crescent-moon",
    "waning-gibbous-moon",
    "waxing-crescent-moon",
    "waxing-gibbous-moon",
    "magnifying-glass-tilted-left",
    "magnifying-glass-tilted-right",
)


@dataclass(frozen=True)
class Difficulty:
    """The limits of the distortions of a rendering, which grow with the progress of the curriculum.

    Scales and shifts are shares of the image's side and of the room that is left; distortion applies to colours and to
    the ratio of width to height; noise is the largest standard deviation, of pixels in 0..1.
    """

    rotation_degrees: float
    min_scale: float
    max_shift: float
    distortion: float
    noise: float

    @classmethod
    def at(cls, progress: float) -> Difficulty:
        """Returns the limits at a progress of 0..1: they grow linearly from a third of full strength."""
        share = 1 / 3 + 2 / 3 * min(max(progress, 0.0), 1.0)
        return cls(
            rotation_degrees=24.0 * share,
            min_scale=1.0 - 0.55 * share,
            max_shift=share,
            distortion=0.25 * share,
            noise=0.12 * share,
        )


class Renderings:
    """Every rendering as tensors, at the sides of MIP_SIDES_PX.

    Attributes:
        mips: one float32[concepts, 4, side, side] a side; colour multiplied by alpha, all in 0..1.
        flips: float32[concepts], 0.5 where a mirrored image shows the same concept, else 0.
    """

    def __init__(self, concepts: tuple[Concept, ...]) -> None:
        self.mips = [_stack(concepts, side) for side in MIP_SIDES_PX]
        self.flips = torch.tensor([0.0 if concept.id in HANDED else 0.5 for concept in concepts])


def _stack(concepts: tuple[Concept, ...], side: int) -> torch.Tensor:
    """Loads float32[concepts, 4, side, side], premultiplied."""
    size = (side, side)
    images = [load_rendering(c).convert("RGBa").resize(size, Image.Resampling.LANCZOS) for c in concepts]
    pixels = np.stack([np.asarray(image, np.float32) for image in images]) / 255.0
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def make_batch(
    renderings: Renderings,
    chosen: torch.Tensor,
    size_px: int,
    difficulty: Difficulty,
    random: torch.Generator,
) -> torch.Tensor:
    """Draws one image of each chosen concept.

    Args:
        renderings: to draw from.
        chosen: int64[batch], rows of the renderings.
        size_px: side of the images.
        difficulty: limits of the distortions.
        random: generator.

    Returns:
        float32[batch, 3, size_px, size_px] in 0..1.
    """
    half = len(chosen) // 2
    min_scale = difficulty.min_scale
    split = max(min_scale, MIP_SPLIT)
    large = _Placement(0, split, 1.0, difficulty).draw(renderings, chosen[:half], size_px, random)
    small = _Placement(1, min_scale, split, difficulty).draw(renderings, chosen[half:], size_px, random)
    foreground = _recolour(torch.cat([large, small]), difficulty.distortion, random)
    alpha = foreground[:, 3:]
    images = foreground[:, :3] + make_backgrounds(len(chosen), size_px, random) * (1.0 - alpha)
    return _degrade(images, difficulty, random)


@dataclass(frozen=True)
class _Placement:
    """The mip to draw from, and the limits of the scale as shares of the image's side."""

    mip: int
    min_scale: float
    max_scale: float
    difficulty: Difficulty

    def draw(self, renderings: Renderings, chosen: torch.Tensor, size_px: int, random: torch.Generator) -> torch.Tensor:
        """Rotates, scales, shifts and flips: int64[batch] → float32[batch, 4, size_px, size_px], premultiplied."""
        theta = self._affine(renderings.flips[chosen], random)
        grid = functional.affine_grid(theta, [len(chosen), 4, size_px, size_px], align_corners=False)
        return functional.grid_sample(renderings.mips[self.mip][chosen], grid, align_corners=False)

    def _affine(self, flips: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """Draws transforms, float32[batch, 2, 3] for affine_grid, from the probabilities of a flip, float32[batch]."""
        batch = len(flips)
        angle = _uniform(random, batch, -1, 1) * math.radians(self.difficulty.rotation_degrees)
        scale = _uniform(random, batch, self.min_scale, self.max_scale)
        aspect = 1.0 + _uniform(random, batch, -1, 1) * 0.4 * self.difficulty.distortion
        flip = torch.where(torch.rand(batch, generator=random) < flips, -1.0, 1.0)
        # The free room on each side of the rendering, in the units of affine_grid, where the image is -1..1.
        room = (1.0 - scale) * self.difficulty.max_shift + 0.03
        shift_x, shift_y = _uniform(random, batch, -1, 1) * room, _uniform(random, batch, -1, 1) * room
        cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
        across = [cosine * aspect, sine, -(cosine * aspect * shift_x + sine * shift_y)]
        down = [-sine, cosine / aspect, sine * shift_x - cosine / aspect * shift_y]
        return torch.stack([flip[:, None] * torch.stack(across, 1), torch.stack(down, 1)], 1)


def _recolour(foreground: torch.Tensor, strength: float, random: torch.Generator) -> torch.Tensor:
    """Changes brightness, contrast, saturation and tint of float32[batch, 4, side, side], premultiplied."""
    batch = len(foreground)
    colour, alpha = foreground[:, :3], foreground[:, 3:]
    gain = 1.0 + _uniform(random, batch, -1, 1, 1, 1, 1) * strength
    tint = 1.0 + (torch.rand(batch, 3, 1, 1, generator=random) * 2 - 1) * strength * 0.4
    lift = _uniform(random, batch, -1, 1, 1, 1, 1) * strength * 0.5
    saturation = 1.0 + _uniform(random, batch, -1, 1, 1, 1, 1) * strength * 1.2
    grey = colour.mean(dim=1, keepdim=True)
    colour = ((grey + (colour - grey) * saturation) * gain * tint + lift * alpha).clamp(min=0.0)
    return torch.cat([torch.minimum(colour, alpha), alpha], dim=1)


def make_backgrounds(batch: int, size_px: int, random: torch.Generator) -> torch.Tensor:
    """Draws backgrounds of every family, each a fixed share of the batch, in random order.

    Returns:
        float32[batch, 3, size_px, size_px] in 0..1.
    """
    first = torch.rand(batch, 3, 1, 1, generator=random)
    second = torch.rand(batch, 3, 1, 1, generator=random)
    mask = torch.zeros(batch, 1, size_px, size_px)
    plain, gradient, soft, hard, shards = (int(batch * share) for share in BACKGROUND_SHARES)
    mask[plain:gradient] = _gradients(gradient - plain, size_px, random)
    mask[gradient:soft] = _blotches(soft - gradient, size_px, random)
    mask[soft:hard] = (_blotches(hard - soft, size_px, random) > 0.5).float()
    mask[hard:shards] = _shards(shards - hard, size_px, random)
    order = torch.randperm(batch, generator=random)
    mask = mask[order]
    images = first * (1.0 - mask) + second * mask
    noisy = order >= shards
    images[noisy] += torch.randn(int(noisy.sum()), 3, size_px, size_px, generator=random) * 0.3
    return images.clamp_(0.0, 1.0)


def _gradients(batch: int, size_px: int, random: torch.Generator) -> torch.Tensor:
    """Draws linear ramps in random directions: float32[batch, 1, size_px, size_px] in 0..1."""
    axis = torch.linspace(-0.5, 0.5, size_px)
    angle = _uniform(random, batch, 0, 2 * math.pi, 1, 1, 1)
    return (0.5 + torch.cos(angle) * axis + torch.sin(angle) * axis[:, None]).clamp_(0.0, 1.0)


def _blotches(batch: int, size_px: int, random: torch.Generator) -> torch.Tensor:
    """Draws coarse random grids, smoothed, some of them stretched: float32[batch, 1, size_px, size_px] in 0..1."""
    parts = []
    for part in torch.arange(batch).chunk(4):
        rows, columns = (int(cells) for cells in torch.randint(3, 17, (2,), generator=random))
        coarse = torch.rand(len(part), 1, rows, columns, generator=random)
        parts.append(functional.interpolate(coarse, size=(size_px, size_px), mode="bicubic", align_corners=False))
    return torch.cat(parts).clamp_(0.0, 1.0)


def _shards(batch: int, size_px: int, random: torch.Generator) -> torch.Tensor:
    """Draws patches with long sharp edges, by overlapping discs: float32[batch, 1, size_px, size_px], 0 or 1.

    The discs of one image share neither centre nor size, and their edges all cross the image.
    """
    axis = torch.linspace(-0.5, 0.5, size_px)
    sign = torch.ones(batch, size_px, size_px)
    for _ in range(SHARD_EDGES):
        centre_x, centre_y = _uniform(random, batch, -2, 2, 1, 1), _uniform(random, batch, -2, 2, 1, 1)
        through_x, through_y = (
            _uniform(random, batch, -0.5, 0.5, 1, 1),
            _uniform(random, batch, -0.5, 0.5, 1, 1),
        )
        radius = torch.hypot(through_x - centre_x, through_y - centre_y)
        inside = torch.hypot(axis - centre_x, axis[:, None] - centre_y) < radius
        used = torch.rand(batch, 1, 1, generator=random) < 0.75
        sign = torch.where(inside & used, -sign, sign)
    return (sign[:, None] > 0).float()


def _degrade(images: torch.Tensor, difficulty: Difficulty, random: torch.Generator) -> torch.Tensor:
    """Blurs a quarter of float32[batch, 3, side, side] and adds noise of a random strength to all."""
    batch = len(images)
    some = torch.randperm(batch, generator=random)[: batch // 4]
    sharp = images[some]
    blurred = functional.avg_pool2d(sharp, 3, stride=1, padding=1, count_include_pad=False)
    images[some] = torch.lerp(sharp, blurred, torch.rand(len(some), 1, 1, 1, generator=random).expand_as(sharp))
    strength = _uniform(random, batch, 0, difficulty.noise, 1, 1, 1) * torch.rand(batch, 1, 1, 1, generator=random)
    images += torch.randn(images.shape, generator=random) * strength
    return images.clamp_(0.0, 1.0)


def _uniform(random: torch.Generator, batch: int, low: float, high: float, *ones: int) -> torch.Tensor:
    """Returns float32[batch, *ones], uniform in low..high."""
    return torch.rand(batch, *ones, generator=random) * (high - low) + low
