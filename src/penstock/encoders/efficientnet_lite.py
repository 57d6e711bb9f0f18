"""EfficientNet-Lite in torch, for inference: an image classifier without squeeze-excite, with ReLU6 and folded norms.

The architecture is EfficientNet's (Tan and Le 2019) in the Lite variant that TensorFlow's authors published: stem and
head keep their width in every size. Weights are read from a checkpoint with the names that PyTorch ports have given
them; each batch norm is folded into the convolution before it, which leaves convolutions with a bias alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from penstock.errors import ConfigError

STEM_WIDTH, HEAD_WIDTH = 32, 1280
# Of the normalisation of pixels in 0..255, for every channel.
PIXEL_MEAN, PIXEL_STD = 127.0, 128.0
_NORM_EPSILON = 1e-3
_WIDTH_STEP = 8


@dataclass(frozen=True, slots=True)
class Stage:
    """A run of equal blocks, of which the first has the stride: values of the smallest size, before scaling."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


@dataclass(frozen=True, slots=True)
class Size:
    """One size: factors of channels and blocks, and the side of the images that it was trained on."""

    width: float
    depth: float
    image_px: int


SIZES: Mapping[str, Size] = {"efficientnet-lite0": Size(1.0, 1.0, 224), "efficientnet-lite2": Size(1.1, 1.2, 260)}


class EfficientNetLite(nn.Module):
    """The classifier. `forward` returns class logits and the pooled features before them.

    Args:
        size: factors of width and depth.
        classes: number of the classes.
        stages: of blocks; tests take fewer and thinner ones.
        head_width: length of the pooled features.
    """

    def __init__(
        self, size: Size, classes: int = 1000, *, stages: tuple[Stage, ...] = STAGES, head_width: int = HEAD_WIDTH
    ) -> None:
        super().__init__()
        self.stem = _Convolution(3, STEM_WIDTH, 3, stride=2)
        blocks: list[nn.Module] = []
        width = STEM_WIDTH
        for place, stage in enumerate(stages):
            scaled = 0 < place < len(stages) - 1
            wider = _scaled_width(stage.width, size.width)
            for index in range(math.ceil(stage.blocks * size.depth) if scaled else stage.blocks):
                blocks.append(_Block(width, wider, stage, stage.stride if index == 0 else 1))
                width = wider
        self.blocks = nn.Sequential(*blocks)
        self.head = _Convolution(width, head_width, 1)
        self.classifier = nn.Linear(head_width, classes)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Converts float[n, 3, height, width], normalised, to logits float[n, classes] and features float[n, head]."""
        maps = _relu6(self.head(self.blocks(_relu6(self.stem(pixels)))))
        features = maps.mean(dim=(2, 3))
        return self.classifier(features), features

    @torch.no_grad()
    def load_checkpoint(self, state: Mapping[str, torch.Tensor]) -> None:
        """Copies the weights of a checkpoint into the model and folds its batch norms.

        Raises:
            KeyError, RuntimeError: a tensor is missing, or has another shape.
        """
        self.stem.fold(state, "_conv_stem", "_bn0")
        for index, block in enumerate(self.blocks):
            assert isinstance(block, _Block)
            block.fold(state, f"_blocks.{index}.")
        self.head.fold(state, "_conv_head", "_bn1")
        self.classifier.weight.copy_(state["_fc.weight"])
        self.classifier.bias.copy_(state["_fc.bias"])


def load_efficientnet(size: Size, file: Path, name: str) -> EfficientNetLite:
    """Builds a classifier with the weights of a `.pth` file, in evaluation mode. No code in the file is run.

    Args:
        size: of the architecture.
        file: a dictionary of tensors, saved by torch.
        name: of the model, for messages.

    Raises:
        ConfigError: the file holds other weights, or is damaged.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        model = EfficientNetLite(size, len(state["_fc.bias"]))
        model.load_checkpoint(state)
    except Exception as exc:  # a damaged file makes torch's reader raise errors of zip, pickle and its own
        reason = f"no tensor {exc}" if isinstance(exc, KeyError) else str(exc).partition("\n")[0]
        raise ConfigError(f"{name}: {file} holds no weights of this model ({reason}); install them again") from exc
    return model.eval().to(memory_format=torch.channels_last)


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Converts uint8[n, height, width, 3] to float32[n, 3, height, width] in channels_last, as the model takes it."""
    # bytes arrive as NHWC: viewed as NCHW they are what torch calls channels_last
    return pixels.permute(0, 3, 1, 2).float().sub_(PIXEL_MEAN).div_(PIXEL_STD)


class _Convolution(nn.Conv2d):
    """A convolution with a bias, padded as TensorFlow pads: an odd row goes below and to the right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        # With stride 1 both sides are padded alike, which the convolution does by itself.
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride=stride, padding=padding, groups=groups)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Converts float[n, inputs, height, width] to float[n, outputs, ⌈height / stride⌉, ⌈width / stride⌉]."""
        if self.stride[0] == 1:
            return super().forward(maps)
        return super().forward(functional.pad(maps, self._padding(maps.shape[3]) + self._padding(maps.shape[2])))

    def fold(self, state: Mapping[str, torch.Tensor], convolution: str, norm: str) -> None:
        """Copies a convolution and the batch norm after it from a checkpoint, by their names."""
        scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + _NORM_EPSILON).sqrt()
        self.weight.copy_(state[f"{convolution}.weight"] * scale.view(-1, 1, 1, 1))
        assert self.bias is not None
        self.bias.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale)

    def _padding(self, length: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = max(0, (math.ceil(length / stride) - 1) * stride + kernel - length)
        return total // 2, total - total // 2


class _Block(nn.Module):
    """An inverted bottleneck: wider, a convolution by channel, narrower; added to its input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inner = inputs * stage.expansion
        self.expand = _Convolution(inputs, inner, 1) if stage.expansion > 1 else None
        self.depthwise = _Convolution(inner, inner, stage.kernel, stride=stride, groups=inner)
        self.project = _Convolution(inner, outputs, 1)
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Converts float[n, inputs, height, width] to float[n, outputs, …]."""
        inner = maps if self.expand is None else _relu6(self.expand(maps))
        narrow: torch.Tensor = self.project(_relu6(self.depthwise(inner)))
        return narrow.add_(maps) if self.is_residual else narrow

    def fold(self, state: Mapping[str, torch.Tensor], prefix: str) -> None:
        """Copies the block's weights from a checkpoint."""
        if self.expand is not None:
            self.expand.fold(state, f"{prefix}_expand_conv", f"{prefix}_bn0")
        self.depthwise.fold(state, f"{prefix}_depthwise_conv", f"{prefix}_bn1")
        self.project.fold(state, f"{prefix}_project_conv", f"{prefix}_bn2")


def _relu6(maps: torch.Tensor) -> torch.Tensor:
    return functional.relu6(maps, inplace=True)


def _scaled_width(width: int, factor: float) -> int:
    """Returns the channels of a scaled stage: a multiple of 8, at most a tenth below the exact product."""
    exact = width * factor
    rounded = max(_WIDTH_STEP, int(exact + _WIDTH_STEP / 2) // _WIDTH_STEP * _WIDTH_STEP)
    return rounded if rounded >= 0.9 * exact else rounded + _WIDTH_STEP
