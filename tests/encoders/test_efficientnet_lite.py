"""The classifier against a plain computation with separate batch norms, on a small network of fixed random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from penstock.encoders.efficientnet_lite import SIZES, EfficientNetLite, Size, Stage, load_efficientnet
from penstock.errors import ConfigError

STAGES = (Stage(1, 3, 1, 1, 8), Stage(2, 5, 2, 3, 16), Stage(1, 3, 1, 3, 24))
STRIDES = (1, 2, 1, 1)  # of the four blocks
PLAIN = Size(1.0, 1.0, 32)
CLASSES, HEAD_WIDTH = 5, 40


def checkpoint(model: EfficientNetLite) -> dict[str, torch.Tensor]:
    """Draws a checkpoint of the model's shape, with the names that PyTorch ports of EfficientNet use."""
    random = torch.Generator().manual_seed(11)
    state: dict[str, torch.Tensor] = {}

    def draw(convolution: str, norm: str, shape: torch.Size) -> None:
        fan_in = float(shape[1] * shape[2] * shape[3])
        state[f"{convolution}.weight"] = torch.randn(shape, generator=random) * (2.0 / fan_in) ** 0.5
        for name in ("weight", "running_var"):
            state[f"{norm}.{name}"] = 0.5 + torch.rand(shape[0], generator=random)
        for name in ("bias", "running_mean"):
            state[f"{norm}.{name}"] = 0.3 * torch.randn(shape[0], generator=random)

    norms = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
    for name, tensor in model.state_dict().items():
        parts = name.split(".")
        if tensor.ndim != 4:
            continue
        if parts[0] == "blocks":
            prefix = f"_blocks.{parts[1]}."
            draw(f"{prefix}_{parts[2]}_conv", prefix + norms[parts[2]], tensor.shape)
        else:
            draw(f"_conv_{parts[0]}", {"stem": "_bn0", "head": "_bn1"}[parts[0]], tensor.shape)
    state["_fc.weight"] = torch.randn(CLASSES, HEAD_WIDTH, generator=random)
    state["_fc.bias"] = torch.randn(CLASSES, generator=random)
    return state


def plain_logits(state: dict[str, torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """Computes the logits step by step: padding as TensorFlow does, convolution, batch norm, ReLU6."""

    def step(
        maps: torch.Tensor,
        convolution: str,
        norm: str,
        stride: int = 1,
        *,
        active: bool = True,
        by_channel: bool = False,
    ) -> torch.Tensor:
        weight = state[f"{convolution}.weight"]
        needed = max(0, (-(-maps.shape[2] // stride) - 1) * stride + weight.shape[2] - maps.shape[2])
        before, after = needed // 2, needed - needed // 2
        padded = functional.pad(maps, (before, after, before, after))
        maps = functional.conv2d(padded, weight, stride=stride, groups=maps.shape[1] if by_channel else 1)
        maps = functional.batch_norm(
            maps,
            state[f"{norm}.running_mean"],
            state[f"{norm}.running_var"],
            state[f"{norm}.weight"],
            state[f"{norm}.bias"],
            eps=1e-3,
        )
        return maps.clamp(0.0, 6.0) if active else maps

    maps = step(pixels, "_conv_stem", "_bn0", 2)
    for index, stride in enumerate(STRIDES):
        name = f"_blocks.{index}."
        inner = step(maps, f"{name}_expand_conv", f"{name}_bn0") if f"{name}_bn0.weight" in state else maps
        inner = step(inner, f"{name}_depthwise_conv", f"{name}_bn1", stride, by_channel=True)
        narrow = step(inner, f"{name}_project_conv", f"{name}_bn2", active=False)
        maps = narrow + maps if narrow.shape == maps.shape else narrow
    features = step(maps, "_conv_head", "_bn1").mean(dim=(2, 3))
    return features @ state["_fc.weight"].T + state["_fc.bias"]


@pytest.mark.parametrize("side", [32, 33])  # even and odd sides are padded differently
def test_logits_agree_with_a_plain_computation_with_batch_norms(side: int) -> None:
    model = EfficientNetLite(PLAIN, CLASSES, stages=STAGES, head_width=HEAD_WIDTH).eval()
    state = checkpoint(model)
    model.load_checkpoint(state)
    pixels = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        logits, features = model(pixels)
    assert logits.shape == (3, CLASSES)
    assert features.shape == (3, HEAD_WIDTH)
    torch.testing.assert_close(logits, plain_logits(state, pixels), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "blocks", "widths"),
    [
        ("efficientnet-lite0", 16, {16, 24, 40, 80, 112, 192, 320}),
        ("efficientnet-lite2", 21, {16, 24, 48, 88, 120, 208, 352}),
    ],
)
def test_the_sizes_scale_depth_and_width_but_not_stem_and_head(name: str, blocks: int, widths: set[int]) -> None:
    model = EfficientNetLite(SIZES[name])
    assert len(model.blocks) == blocks
    assert {block.project.out_channels for block in model.blocks} == widths  # type: ignore[union-attr]
    assert (model.stem.out_channels, model.head.out_channels) == (32, 1280)


@pytest.mark.parametrize(
    ("content", "reason"),
    [({"weight": torch.zeros(1)}, "no tensor '_fc.bias'"), (b"no checkpoint", "Weights only load failed")],
)
def test_a_file_of_other_weights_is_one_clear_line(tmp_path: Path, content: object, reason: str) -> None:
    file = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ConfigError) as caught:
        load_efficientnet(PLAIN, file, "lite")
    message = str(caught.value)
    assert message.startswith(f"lite: {file} holds no weights of this model (")
    assert reason in message
    assert "\n" not in message


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"_fc.bias": Path("a class of another library")}, file)
    with pytest.raises(ConfigError, match="holds no weights of this model"):
        load_efficientnet(PLAIN, file, "lite")
