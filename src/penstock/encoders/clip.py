"""`joint.image` and `joint.text`: the towers of a CLIP model, as open_clip builds and loads them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.encoders.base import Fingerprint, ImageSpec, Space
from penstock.encoders.batch_runner import BatchRunner, checked_pixels, checked_texts
from penstock.encoders.cache import VectorCache
from penstock.encoders.precision import Precision
from penstock.encoders.profiles import JOINT_IMAGE, JOINT_TEXT, ClipSpec
from penstock.encoders.sub_batching import SubBatcher
from penstock.encoders.weights import RandomWeights, ShippedWeights, locate
from penstock.errors import ConfigError, PenstockError
from penstock.records import Encoded, EncoderInput, Float32, UInt8

if TYPE_CHECKING:
    import torch

_PROBE_TEXT = "a photo"


class ClipImageEncoder:
    """Pictures into the joint space. Normalisation runs on the device, on pixels sent as bytes.

    Args:
        model: which one.
        fingerprint: what collections record of it.
        device: `cpu`, `cuda` or `cuda:N`.
        precision: of the weights and of what flows between them.
        cache_size: vectors kept.
        max_items: pictures in one forward pass at most.

    Raises:
        ConfigError, UnavailableError: the weights cannot be had, or are not what the profile says.
    """

    def __init__(
        self,
        model: ClipSpec,
        fingerprint: Fingerprint,
        *,
        device: str,
        precision: Precision,
        cache_size: int,
        max_items: int,
    ) -> None:
        import torch

        from penstock.encoders.torch_errors import classify_error, release_memory

        self.name = JOINT_IMAGE
        self.space: Space = model.space
        self.fingerprint = fingerprint
        clip = build(model, precision, device)
        check_preprocessing(model, clip.visual.preprocess_cfg)
        self._tower = clip.visual  # the text tower is let go
        self._dtype = _dtype(precision)
        self._device = torch.device(device)
        self._size_px = model.image.size_px
        # (pixel / 255 - mean) / std, as one product and one sum
        deviation = 255.0 * torch.tensor(model.image.std)
        self._scale = (1.0 / deviation).view(1, 3, 1, 1).to(self._device)
        self._shift = (-255.0 * torch.tensor(model.image.mean) / deviation).view(1, 3, 1, 1).to(self._device)
        self._runner = BatchRunner(
            model.space.dim,
            cache=VectorCache(cache_size),
            batcher=SubBatcher(max_items, classify=classify_error, release_memory=release_memory),
            forward=self._forward,
            probe=self._probe,
        )

    @property
    def cache(self) -> VectorCache:
        return self._runner.cache

    def encode(self, batch: EncoderInput) -> Encoded:
        """See `Encoder.encode`. The batch holds pixels.

        Raises:
            ConfigError: pixels of another size than the model's: decode pool and encoder run different profiles.
        """
        checked_pixels(batch, self._size_px)
        return self._runner.encode(batch)

    def _forward(self, batch: EncoderInput, rows: Sequence[int]) -> Float32:
        return self._vectors(checked_pixels(batch, self._size_px)[list(rows)])

    def _probe(self) -> None:
        self._vectors(np.full((1, self._size_px, self._size_px, 3), 128, dtype=np.uint8))

    def _vectors(self, pixels: UInt8) -> Float32:
        """uint8[n, size, size, 3] → float32[n, dim], not normalised."""
        import torch

        sent = torch.from_numpy(pixels)
        if self._device.type == "cuda":
            sent = sent.pin_memory().to(self._device, non_blocking=True)
        with torch.inference_mode():
            # bytes arrive as NHWC: seen as NCHW they are what torch calls channels_last
            planes = sent.permute(0, 3, 1, 2).float().mul_(self._scale).add_(self._shift)
            return _to_numpy(self._tower(planes.to(self._dtype)))


class ClipTextEncoder:
    """Texts into the joint space. CLIP reads 77 tokens or fewer; what is beyond them is cut off.

    Args, raises: as `ClipImageEncoder`.
    """

    def __init__(
        self,
        model: ClipSpec,
        fingerprint: Fingerprint,
        *,
        device: str,
        precision: Precision,
        cache_size: int,
        max_items: int,
    ) -> None:
        from penstock.encoders.torch_errors import classify_error, release_memory

        self.name = JOINT_TEXT
        self.space: Space = model.space
        self.fingerprint = fingerprint
        self._model = build(model, precision, device)
        self._model.visual = None  # the image tower is let go
        self._tokenize = _tokenizer(model)
        self._device = device
        self._runner = BatchRunner(
            model.space.dim,
            cache=VectorCache(cache_size),
            batcher=SubBatcher(max_items, classify=classify_error, release_memory=release_memory),
            forward=lambda batch, rows: self._vectors([batch.texts[row] for row in rows]),
            probe=lambda: self._vectors([_PROBE_TEXT]),
        )

    @property
    def cache(self) -> VectorCache:
        return self._runner.cache

    def encode(self, batch: EncoderInput) -> Encoded:
        """See `Encoder.encode`. The batch holds texts."""
        checked_texts(batch)
        return self._runner.encode(batch)

    def _vectors(self, texts: list[str]) -> Float32:
        """float32[len(texts), dim], not normalised."""
        import torch

        tokens = self._tokenize(texts).to(self._device)
        with torch.inference_mode():
            return _to_numpy(self._model.encode_text(tokens))


def build(model: ClipSpec, precision: Precision, device: str) -> Any:
    """The model as open_clip builds it, in evaluation mode, with `visual.preprocess_cfg` set.

    Raises:
        ConfigError, UnavailableError: the weights cannot be had, or do not fit.
    """
    import open_clip
    import torch

    from penstock.encoders.torch_errors import load_error

    with _quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.source.seed if isinstance(model.source, RandomWeights) else 0)
        try:
            built = open_clip.create_model(**_arguments(model), precision=precision, device=device)
        except PenstockError:
            raise
        except Exception as exc:  # a damaged file makes each format's reader raise errors of its own
            raise load_error(exc, model.name) from exc
    return built.eval()


def _arguments(model: ClipSpec) -> dict[str, Any]:
    """How open_clip is told of a model."""
    import open_clip

    source = model.source
    if isinstance(source, RandomWeights):
        return {"model_name": model.architecture, "pretrained_text": False}
    located = locate(source, model.name)
    if isinstance(source, ShippedWeights):
        return {"model_name": f"local-dir:{located.folder}", "require_pretrained": True}
    return {
        "model_name": model.architecture,
        # by file, so that no network is asked about what the cache has; preprocessing as open_clip has it for the tag
        "pretrained": str(located.weights),
        "force_preprocess_cfg": open_clip.get_pretrained_cfg(model.architecture, model.tag),
        "require_pretrained": True,
    }


def _tokenizer(model: ClipSpec) -> Any:
    """open_clip's tokenizer of an architecture. CLIP's own comes with open_clip, others from the hub."""
    import open_clip

    from penstock.encoders.torch_errors import load_error

    try:
        return open_clip.get_tokenizer(model.architecture)
    except (OSError, ValueError) as exc:
        raise load_error(exc, f"the tokenizer of {model.name}") from exc


def check_preprocessing(model: ClipSpec, found: dict[str, Any]) -> None:
    """Compares what open_clip says of a model with the profile, by which the decode pool has made the pictures.

    Args:
        model: as the profile has it.
        found: open_clip's `preprocess_cfg`.

    Raises:
        ConfigError: they differ.
    """
    size = found["size"]
    height, width = (size, size) if isinstance(size, int) else size
    actual = ImageSpec(
        size_px=height,
        resize_mode=found["resize_mode"],
        interpolation=found["interpolation"],
        fill=found["fill_color"],
        mean=tuple(found["mean"]),
        std=tuple(found["std"]),
    )
    if height != width or actual != model.image:
        raise ConfigError(
            f"{model.name}: open_clip prepares its pictures as {actual}, but the profile says {model.image}; "
            "put the profile right in encoders/profiles.py"
        )


def _dtype(precision: Precision) -> torch.dtype:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _to_numpy(vectors: torch.Tensor) -> Float32:
    result: Float32 = vectors.float().cpu().numpy()
    return result


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip logs each step of a load on the root logger; what matters of it comes back as an exception."""
    root = logging.getLogger()

    def ours(record: logging.LogRecord) -> bool:
        return "open_clip" not in record.pathname

    root.addFilter(ours)
    try:
        yield
    finally:
        root.removeFilter(ours)
