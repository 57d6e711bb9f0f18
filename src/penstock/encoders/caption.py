"""Describes images in a sentence, by an image-to-text model of transformers such as BLIP."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from penstock.encoders.base import Fingerprint
from penstock.encoders.precision import choose_device, choose_precision
from penstock.encoders.profiles import CaptionSpec
from penstock.encoders.sub_batching import SubBatcher
from penstock.encoders.weights import RandomWeights, locate
from penstock.errors import ConfigError
from penstock.records import ImageText, UInt8

logger = logging.getLogger(__name__)

_IMAGES_ON_CPU = 4
_IMAGES_ON_GPU = 32
_PROBE = np.full((64, 64, 3), 128, dtype=np.uint8)


class Captioner:
    """Describes images, several at a time. Not thread-safe.

    Args:
        model: with `generate`, in evaluation mode.
        image_processor, tokenizer: the model's own.
        fingerprint: identifies it.
        device: where it runs.
        max_images: in one batch.
        max_tokens: of a caption.
    """

    def __init__(
        self,
        model: Any,
        image_processor: Any,
        tokenizer: Any,
        fingerprint: Fingerprint,
        *,
        device: str,
        max_images: int,
        max_tokens: int,
    ) -> None:
        from penstock.encoders.torch_errors import torch_batcher

        self.fingerprint = fingerprint
        self.max_images = max_images
        self._model = model
        self._process = image_processor
        self._tokenizer = tokenizer
        self._device = device
        self._max_tokens = max_tokens
        self._batcher: SubBatcher = torch_batcher(max_images)

    def texts(self, images: Sequence[UInt8]) -> tuple[ImageText, ...]:
        """Returns a caption of each image: see `ImageToText.texts`."""
        results = self._batcher.run(
            range(len(images)), lambda rows: self._captions([images[row] for row in rows]), self._caption_known_good
        )
        captions = {row: caption for part, texts in results.encoded for row, caption in zip(part, texts, strict=True)}
        failed = dict(results.failed)
        return tuple(ImageText(captions.get(row, ""), failed.get(row, "")) for row in range(len(images)))

    def _captions(self, images: Sequence[UInt8]) -> list[str]:
        import torch

        writable = [np.array(image) for image in images]  # torch warns of views of the object store
        pixels = self._process(images=writable, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            tokens = self._model.generate(
                pixel_values=pixels.to(self._device, self._model.dtype), max_new_tokens=self._max_tokens, num_beams=1
            )
        return [text.strip() for text in self._tokenizer.batch_decode(tokens, skip_special_tokens=True)]

    def _caption_known_good(self) -> list[str]:
        return self._captions([_PROBE])


def load_captioner(
    spec: CaptionSpec, fingerprint: Fingerprint, *, precision: str, device: str, threads: int
) -> Captioner:
    """Loads the model into this process. Arguments and errors as `load_image_to_text`."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    from penstock.encoders.torch_errors import load_error

    if isinstance(spec.source, RandomWeights):
        raise ConfigError(f"{spec.name}: caption models with random weights are not supported")
    folder = str(locate(spec.source, spec.name).folder)
    device = choose_device(device)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[choose_precision(precision, device)]
    torch.set_num_threads(threads)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of reading a local file
    try:
        model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, local_files_only=True)
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)  # type: ignore[no-untyped-call]
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as exc:  # a damaged file makes each format's reader raise errors of its own
        raise load_error(exc, spec.name) from exc
    return Captioner(
        model.to(device).eval(),
        processor,
        tokenizer,
        fingerprint,
        device=device,
        max_images=_IMAGES_ON_CPU if device == "cpu" else _IMAGES_ON_GPU,
        max_tokens=spec.max_tokens,
    )
