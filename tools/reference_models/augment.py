"""Training pictures, made by the batch: renderings turned, moved and recoloured on backgrounds made of random tensors.

The families of backgrounds are plain, gradient, blotchy (soft or sharp), shards and noisy. The ones that figures are
measured on, those of `penstock.samples.images.compose`, are none of them: they are regular, these are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from penstock.samples.images import Concept, load_rendering

# Renderings are kept at the size that they are about to be drawn at, so that bilinear sampling never skips pixels:
# things that fill more than MIP_SPLIT of the picture come from the first, smaller ones from the second.
MIP_SIDES_PX = (60, 42)
MIP_SPLIT = 0.72

# Up to which share of a batch each family goes: plain, gradient, soft blotches, hard blotches, shards; the rest is
# noise. Sharp edges have most of it: without shards, things on smooth unseen backgrounds were told apart as well
# (99 %), but long edges misled the tower (86 % on stripes and rings).
BACKGROUND_SHARES = (0.08, 0.16, 0.32, 0.6, 0.92)
SHARD_EDGES = 7

# Mirrored, each of these is another one of them; all the rest are flipped in half of the pictures.
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
    """How far pictures depart from the plain rendering, by the share of the curriculum that is done.

    Scales and shifts are shares of the picture's side and of the room that is left; distortion goes for colours and for
    the ratio of width to height; noise is the largest standard deviation, of pixels in 0..1.
    """

    rotation_degrees: float
    smallest_scale: float
    largest_shift: float
    distortion: float
    noise: float

    @classmethod
    def at(cls, progress: float) -> Difficulty:
        """Grows linearly from a third of full strength; progress is 0 at the start and 1 from the end on."""
        share = 1 / 3 + 2 / 3 * min(max(progress, 0.0), 1.0)
        return cls(
            rotation_degrees=24.0 * share,
            smallest_scale=1.0 - 0.55 * share,
            largest_shift=share,
            distortion=0.25 * share,
            noise=0.12 * share,
        )


class Renderings:
    """Every rendering as tensors, at the sides of MIP_SIDES_PX.

    mips: one float32[concepts, 4, side, side] a side; colour multiplied by alpha, all in 0..1.
    flips: float32[concepts], 0.5 where a mirrored picture is of the same concept, else 0.
    """

    def __init__(self, concepts: tuple[Concept, ...]) -> None:
        self.mips = [_stack(concepts, side) for side in MIP_SIDES_PX]
        self.flips = torch.tensor([0.0 if concept.id in HANDED else 0.5 for concept in concepts])


def _stack(concepts: tuple[Concept, ...], side: int) -> torch.Tensor:
    """Loads float32[concepts, 4, side, side], premultiplied."""
    size = (side, side)
    pictures = [load_rendering(c).convert("RGBa").resize(size, Image.Resampling.LANCZOS) for c in concepts]
    pixels = np.stack([np.asarray(picture, np.float32) for picture in pictures]) / 255.0
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def make_batch(
    renderings: Renderings,
    chosen: torch.Tensor,
    size_px: int,
    difficulty: Difficulty,
    random: torch.Generator,
) -> torch.Tensor:
    """Draws one picture of each chosen concept.

    chosen: int64[batch], rows of the renderings. Returns float32[batch, 3, size_px, size_px] in 0..1.
    """
    half = len(chosen) // 2
    smallest = difficulty.smallest_scale
    split = max(smallest, MIP_SPLIT)
    large = _Placement(0, split, 1.0, difficulty).draw(renderings, chosen[:half], size_px, random)
    small = _Placement(1, smallest, split, difficulty).draw(renderings, chosen[half:], size_px, random)
    foreground = _recolour(torch.cat([large, small]), difficulty.distortion, random)
    alpha = foreground[:, 3:]
    pictures = foreground[:, :3] + make_backgrounds(len(chosen), size_px, random) * (1.0 - alpha)
    return _degrade(pictures, difficulty, random)


@dataclass(frozen=True)
class _Placement:
    """Which mip things are drawn from, and how large they may be as shares of the picture's side."""

    mip: int
    smallest: float
    largest: float
    difficulty: Difficulty

    def draw(self, renderings: Renderings, chosen: torch.Tensor, size_px: int, random: torch.Generator) -> torch.Tensor:
        """Turns, scales, shifts and flips: int64[batch] → float32[batch, 4, size_px, size_px], premultiplied."""
        theta = self._affine(renderings.flips[chosen], random)
        grid = functional.affine_grid(theta, [len(chosen), 4, size_px, size_px], align_corners=False)
        return functional.grid_sample(renderings.mips[self.mip][chosen], grid, align_corners=False)

    def _affine(self, flips: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """flips: float32[batch], chances of a mirrored picture → float32[batch, 2, 3], for affine_grid."""
        batch = len(flips)
        angle = _uniform(random, batch, -1, 1) * math.radians(self.difficulty.rotation_degrees)
        scale = _uniform(random, batch, self.smallest, self.largest)
        aspect = 1.0 + _uniform(random, batch, -1, 1) * 0.4 * self.difficulty.distortion
        flip = torch.where(torch.rand(batch, generator=random) < flips, -1.0, 1.0)
        # The free room on each side of the thing, in the units of affine_grid, where the picture is -1..1.
        room = (1.0 - scale) * self.difficulty.largest_shift + 0.03
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

    Returns float32[batch, 3, size_px, size_px] in 0..1.
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
    pictures = first * (1.0 - mask) + second * mask
    noisy = order >= shards
    pictures[noisy] += torch.randn(int(noisy.sum()), 3, size_px, size_px, generator=random) * 0.3
    return pictures.clamp_(0.0, 1.0)


def _gradients(batch: int, size_px: int, random: torch.Generator) -> torch.Tensor:
    """Linear ramps in random directions: float32[batch, 1, size_px, size_px] in 0..1."""
    axis = torch.linspace(-0.5, 0.5, size_px)
    angle = _uniform(random, batch, 0, 2 * math.pi, 1, 1, 1)
    return (0.5 + torch.cos(angle) * axis + torch.sin(angle) * axis[:, None]).clamp_(0.0, 1.0)


def _blotches(batch: int, size_px: int, random: torch.Generator) -> torch.Tensor:
    """Coarse random grids made smooth, some of them stretched: float32[batch, 1, size_px, size_px] in 0..1."""
    parts = []
    for part in torch.arange(batch).chunk(4):
        rows, columns = (int(cells) for cells in torch.randint(3, 17, (2,), generator=random))
        coarse = torch.rand(len(part), 1, rows, columns, generator=random)
        parts.append(functional.interpolate(coarse, size=(size_px, size_px), mode="bicubic", align_corners=False))
    return torch.cat(parts).clamp_(0.0, 1.0)


def _shards(batch: int, size_px: int, random: torch.Generator) -> torch.Tensor:
    """Patches with long sharp edges, where random discs overlap or not: float32[batch, 1, size_px, size_px], 0 or 1.

    The discs of one picture share neither centre nor size, and their edges all cross the picture.
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


def _degrade(pictures: torch.Tensor, difficulty: Difficulty, random: torch.Generator) -> torch.Tensor:
    """Blurs a quarter of float32[batch, 3, side, side] and adds noise of a random strength to all."""
    batch = len(pictures)
    some = torch.randperm(batch, generator=random)[: batch // 4]
    sharp = pictures[some]
    blurred = functional.avg_pool2d(sharp, 3, stride=1, padding=1, count_include_pad=False)
    pictures[some] = torch.lerp(sharp, blurred, torch.rand(len(some), 1, 1, 1, generator=random).expand_as(sharp))
    strength = _uniform(random, batch, 0, difficulty.noise, 1, 1, 1) * torch.rand(batch, 1, 1, 1, generator=random)
    pictures += torch.randn(pictures.shape, generator=random) * strength
    return pictures.clamp_(0.0, 1.0)


def _uniform(random: torch.Generator, batch: int, low: float, high: float, *ones: int) -> torch.Tensor:
    """float32[batch, *ones], uniform in low..high."""
    return torch.rand(batch, *ones, generator=random) * (high - low) + low
