"""The encoders `joint.image` and `joint.text`: the towers of a CLIP model, as open_clip builds and loads them.

A plain tower in a folder is computed without open_clip, in torch alone or in NumPy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np

from penstock.encoders.base import Fingerprint, ImageSpec
from penstock.encoders.batch_runner import checked_pixels, checked_texts
from penstock.encoders.batched_encoder import EncoderOptions, ModelEncoder
from penstock.encoders.model_errors import classify_array_error, error_of_load
from penstock.encoders.model_shapes import TowerShape, read_tower_shape
from penstock.encoders.precision import Precision
from penstock.encoders.profiles import JOINT_IMAGE, JOINT_TEXT, ClipSpec
from penstock.encoders.weights import FolderWeights, HubWeights, RandomWeights, locate
from penstock.errors import ConfigError, PenstockError
from penstock.records import EncoderInput, Float32, UInt8

if TYPE_CHECKING:
    import torch
    from torch import nn

    from penstock.encoders.array_tower import ArrayTower

_PROBE_TEXT = "a photo"
_CONFIG_NAME = "open_clip_config.json"  # in a folder of open_clip's format


class OpenClipModel(Protocol):
    """The parts used here of what open_clip builds. `visual` is the image tower, with its `preprocess_cfg`."""

    visual: Any

    def encode_text(self, text: torch.Tensor) -> torch.Tensor:
        """Returns float[n, dim] of int64[n, context_length] tokens, not normalised."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yields the weights."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns weights and buffers by name."""


class ClipImageEncoder(ModelEncoder):
    """Encodes images into the joint space. Normalises pixels on the device, to which they are sent as bytes.

    Args:
        spec: the model, as the profile has it.
        fingerprint: recorded by collections.
        options: how it runs.

    Raises:
        ConfigError, UnavailableError: the weights are not available, or differ from the profile.
    """

    def __init__(self, spec: ClipSpec, fingerprint: Fingerprint, options: EncoderOptions) -> None:
        super().__init__(JOINT_IMAGE, spec, fingerprint, options)
        load = _load_arrays if options.runtime == "numpy" else _load_torch
        self._tower, preprocess_cfg = load(spec, options)
        check_preprocessing(spec, image_spec_of(preprocess_cfg))
        self._size_px = spec.image.size_px
        self._zeros = spec.zeros
        self._check_dim()

    def _check_input(self, batch: EncoderInput) -> None:
        checked_pixels(batch, self._size_px)

    def _forward(self, batch: EncoderInput, rows: Sequence[int]) -> Float32:
        return self._vectors(checked_pixels(batch, self._size_px)[list(rows)])

    def _encode_known_good(self) -> Float32:
        return self._vectors(np.full((1, self._size_px, self._size_px, 3), 128, dtype=np.uint8))

    def _vectors(self, pixels: UInt8) -> Float32:
        """Converts uint8[n, size, size, 3] to float32[n, dim], not normalised."""
        return np.pad(self._tower.vectors(pixels), ((0, 0), (0, self._zeros)))


class _PixelTower(Protocol):
    """The loaded image tower of a runtime."""

    def vectors(self, pixels: UInt8) -> Float32:
        """Converts uint8[n, size, size, 3] to float32[n, dim], not normalised."""


class _TorchPixelTower:
    """A tower in torch, and the scale of its pixels.

    Args:
        tower: from float[n, 3, size, size] to float[n, dim].
        image: the preprocessing that it expects.
        options: how it runs.
    """

    def __init__(self, tower: Callable[[torch.Tensor], Any], image: ImageSpec, options: EncoderOptions) -> None:
        import torch

        self._tower = tower
        self._dtype = _dtype(options.precision)
        self._device = torch.device(options.device)
        scale, shift = _pixel_scale(image)
        self._scale, self._shift = (torch.from_numpy(x).view(1, 3, 1, 1).to(self._device) for x in (scale, shift))

    def vectors(self, pixels: UInt8) -> Float32:
        """See `_PixelTower.vectors`."""
        import torch

        sent = torch.from_numpy(pixels)
        if self._device.type == "cuda":
            sent = sent.pin_memory().to(self._device, non_blocking=True)
        with torch.inference_mode():
            # bytes arrive as NHWC: viewed as NCHW they are what torch calls channels_last
            planes = sent.permute(0, 3, 1, 2).float().mul_(self._scale).add_(self._shift)
            return _to_numpy(self._tower(planes.to(self._dtype)))


class _ArrayPixelTower:
    """A tower in NumPy, and the scale of its pixels."""

    def __init__(self, tower: ArrayTower, image: ImageSpec) -> None:
        self._tower = tower
        self._scale, self._shift = _pixel_scale(image)

    def vectors(self, pixels: UInt8) -> Float32:
        """See `_PixelTower.vectors`."""
        planes = pixels.astype(np.float32)
        planes *= self._scale
        planes += self._shift
        return self._tower.vectors(planes)


def _pixel_scale(image: ImageSpec) -> tuple[Float32, Float32]:
    """Returns (pixel / 255 - mean) / std as one product and one sum: float32[3] each."""
    deviation = np.float32(255) * np.asarray(image.std, np.float32)
    scale: Float32 = np.reciprocal(deviation)
    shift: Float32 = np.float32(-255) * np.asarray(image.mean, np.float32) * scale
    return scale, shift


class ClipTextEncoder(ModelEncoder):
    """Encodes texts into the joint space. CLIP reads at most 77 tokens and truncates the rest.

    Args, raises: as `ClipImageEncoder`.
    """

    def __init__(self, spec: ClipSpec, fingerprint: Fingerprint, options: EncoderOptions) -> None:
        super().__init__(JOINT_TEXT, spec, fingerprint, options)
        self._model = build(spec, options.precision, options.device)
        self._model.visual = None  # the image tower is freed
        self._tokenize = open_tokenizer(spec)
        self._device = options.device
        self._check_dim()

    def _check_input(self, batch: EncoderInput) -> None:
        checked_texts(batch)

    def _forward(self, batch: EncoderInput, rows: Sequence[int]) -> Float32:
        return self._vectors([batch.texts[row] for row in rows])

    def _encode_known_good(self) -> Float32:
        return self._vectors([_PROBE_TEXT])

    def _vectors(self, texts: list[str]) -> Float32:
        """Converts texts to float32[len(texts), dim], not normalised."""
        import torch

        tokens = self._tokenize(texts).to(self._device)
        with torch.inference_mode():
            return _to_numpy(self._model.encode_text(tokens))


def _load_torch(spec: ClipSpec, options: EncoderOptions) -> tuple[_PixelTower, Mapping[str, object]]:
    """Returns the image tower and its `preprocess_cfg`: by open_clip, or without it where torch alone suffices."""
    if (plain := _plain_tower(spec)) is not None:
        from penstock.encoders.resnet_tower import load_tower
        from penstock.encoders.torch_errors import load_error

        shape, weights = plain
        try:
            tower = load_tower(shape, weights).to(options.device, _dtype(options.precision))
        except Exception as exc:  # a damaged file makes each format's reader raise errors of its own
            raise load_error(exc, spec.name) from exc
        return _TorchPixelTower(tower, spec.image, options), shape.preprocess_cfg
    visual = build(spec, options.precision, options.device).visual  # the text tower is freed
    return _TorchPixelTower(visual, spec.image, options), visual.preprocess_cfg


def _load_arrays(spec: ClipSpec, _options: EncoderOptions) -> tuple[_PixelTower, Mapping[str, object]]:
    """Returns the image tower in NumPy and its `preprocess_cfg`. Raises ConfigError if it is no plain tower."""
    plain = _plain_tower(spec)
    if plain is None:
        raise ConfigError(
            f'{spec.name}: runtime numpy computes plain towers in a folder alone; use runtime = "torch" in the profile'
        )
    from penstock.encoders.array_tower import ArrayTower
    from penstock.encoders.mapped_weights import map_weights

    shape, weights = plain
    try:
        tower = ArrayTower(map_weights(weights), shape)
    except Exception as exc:  # a damaged file makes the parts of its reader raise errors of their own
        raise error_of_load(exc, spec.name, classify_array_error(exc)) from exc
    return _ArrayPixelTower(tower, spec.image), shape.preprocess_cfg


def _plain_tower(spec: ClipSpec) -> tuple[TowerShape, Path] | None:
    """Returns the shape and the weights of a tower that needs no open_clip; None: the model is another one."""
    if not isinstance(spec.source, FolderWeights):
        return None
    located = locate(spec.source, spec.name)
    shape = read_tower_shape(located.folder / _CONFIG_NAME)
    return None if shape is None or located.weights.suffix != ".safetensors" else (shape, located.weights)


def build(spec: ClipSpec, precision: Precision, device: str) -> OpenClipModel:
    """Builds the model with open_clip, in evaluation mode, with `visual.preprocess_cfg` set.

    Raises:
        ConfigError, UnavailableError: the weights are not available, or do not fit.
    """
    import open_clip
    import torch

    from penstock.encoders.torch_errors import load_error

    with _without_open_clip_logs(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.source.seed if isinstance(spec.source, RandomWeights) else 0)
        try:
            model = open_clip.create_model(**_arguments(spec), precision=precision, device=device)
        except PenstockError:
            raise
        except Exception as exc:  # a damaged file makes each format's reader raise errors of its own
            raise load_error(exc, spec.name) from exc
    built: OpenClipModel = model.eval()
    return built


def _arguments(spec: ClipSpec) -> dict[str, object]:
    """Returns the arguments by which open_clip's `create_model` identifies a model and finds its weights."""
    import open_clip

    source = spec.source
    if isinstance(source, RandomWeights):
        return {"model_name": spec.architecture, "pretrained_text": False}
    located = locate(source, spec.name)
    if isinstance(source, FolderWeights):
        return {"model_name": f"local-dir:{located.folder}", "require_pretrained": True}
    return {
        "model_name": spec.architecture,
        # by file, so that no request is made for what the cache has; preprocessing as open_clip has it for the tag
        "pretrained": str(located.weights),
        "force_preprocess_cfg": open_clip.get_pretrained_cfg(spec.architecture, spec.tag),
        "require_pretrained": True,
    }


def open_tokenizer(spec: ClipSpec) -> Callable[[list[str]], torch.Tensor]:
    """Loads open_clip's tokenizer of a model: CLIP's own, the one beside the weights, or another one from the hub."""
    import open_clip
    from open_clip.tokenizer import HFTokenizer

    from penstock.encoders.torch_errors import load_error

    source = spec.source
    name = f"local-dir:{source.folder}" if isinstance(source, FolderWeights) else spec.architecture
    try:
        tokenizer: Callable[[list[str]], torch.Tensor]
        if isinstance(source, HubWeights) and "tokenizer.json" in source.companions:
            text = open_clip.get_model_config(spec.architecture)["text_cfg"]
            tokenizer = HFTokenizer(
                str(locate(source, spec.name).folder),
                context_length=text["context_length"],
                **text.get("tokenizer_kwargs", {}),
            )
        else:
            tokenizer = open_clip.get_tokenizer(name)
    except (OSError, ValueError) as exc:
        raise load_error(exc, f"the tokenizer of {spec.name}") from exc
    return tokenizer


def check_preprocessing(spec: ClipSpec, actual: ImageSpec) -> None:
    """Compares open_clip's preprocessing of a model with the profile's, which the decode workers carry out.

    Raises:
        ConfigError: they differ.
    """
    if actual != spec.image:
        raise ConfigError(
            f"{spec.name}: open_clip prepares its images as {actual}, but the profile has {spec.image}; "
            "correct [joint.image] in the profile"
        )


def image_spec_of(preprocess_cfg: Mapping[str, object]) -> ImageSpec:
    """Converts open_clip's `preprocess_cfg` of a model to an `ImageSpec`."""
    size = cast("int | tuple[int, int]", preprocess_cfg["size"])
    height, width = (size, size) if isinstance(size, int) else size
    return ImageSpec(
        size_px=height if height == width else 0,  # no profile has this size: only squares are supported
        resize_mode=cast('Literal["shortest", "longest", "squash"]', preprocess_cfg["resize_mode"]),
        interpolation=cast('Literal["bicubic", "bilinear"]', preprocess_cfg["interpolation"]),
        fill=cast("int", preprocess_cfg["fill_color"]),
        mean=cast("tuple[float, float, float]", tuple(cast("Sequence[float]", preprocess_cfg["mean"]))),
        std=cast("tuple[float, float, float]", tuple(cast("Sequence[float]", preprocess_cfg["std"]))),
    )


def _dtype(precision: Precision) -> torch.dtype:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _to_numpy(vectors: torch.Tensor) -> Float32:
    result: Float32 = vectors.float().cpu().numpy()
    return result


@contextmanager
def _without_open_clip_logs() -> Iterator[None]:
    """Drops what open_clip logs on the root logger at each step of a load; its failures arrive as exceptions."""
    root = logging.getLogger()

    def is_ours(record: logging.LogRecord) -> bool:
        return "open_clip" not in record.pathname

    root.addFilter(is_ours)
    try:
        yield
    finally:
        root.removeFilter(is_ours)
