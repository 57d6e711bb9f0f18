"""Reads the words in images with the detector and the recogniser of PP-OCR, which onnxruntime runs.

1. glance      the detector on a small copy: most photographs have no text, and end here
2. detect      the detector on the image itself gives the rectangles of its lines
3. straighten  each rectangle becomes an upright image of one line
4. recognise   the recogniser gives each line's characters; an unsure line is read upside down as well
5. order       rows from top to bottom, each from left to right
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from penstock.encoders.base import Fingerprint
from penstock.encoders.ocr.characters import Line, decode
from penstock.encoders.ocr.options import OcrOptions
from penstock.encoders.ocr.regions import Region, find_regions, has_text, in_reading_order
from penstock.errors import ConfigError, first_line
from penstock.records import Float32, ImageText, UInt8

logger = logging.getLogger(__name__)

# The models' own preprocessing: channels in the order blue, green, red, ImageNet's mean and deviation for the detector,
# and -1 to 1 for the recogniser, at this height.
_MEAN = np.array([0.406, 0.456, 0.485], dtype=np.float32) * 255
_STD = np.array([0.225, 0.224, 0.229], dtype=np.float32) * 255
_LINE_PX = 48
_MULTIPLE_PX = 32  # the detector halves its input five times

_MAX_LINES = 200
_MAX_LINE_RATIO = 40  # a longer line is squeezed
_MIN_DETECTOR_PX = 64
# Lines that were read upside down reach 0.85, upright ones stay below 0.9 in one of twelve (200 images, 8 fonts).
_SURE = 0.9


@dataclass(frozen=True, slots=True)
class _Reading:
    region: Region
    line: Line


class PpOcr:
    """Reads the words in images, one image after the other. Not thread-safe.

    Args:
        detector, recogniser: files in ONNX format. The recogniser carries its characters in its own metadata.
        fingerprint: identifies both.
        options: limits.
        threads: CPU threads.
        clock: monotonic seconds.

    Raises:
        ConfigError: a file cannot be loaded, or is no such model.
    """

    max_images = 1

    def __init__(
        self,
        detector: Path,
        recogniser: Path,
        fingerprint: Fingerprint,
        options: OcrOptions,
        *,
        threads: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fingerprint = fingerprint
        self._options = options
        self._clock = clock
        self._detector = _OnnxModel(detector, threads)
        self._recogniser = _OnnxModel(recogniser, threads)
        self._characters = _characters(self._recogniser)

    def texts(self, images: Sequence[UInt8]) -> tuple[ImageText, ...]:
        """Returns the words of each image: see `ImageToText.texts`."""
        return tuple(self._text_or_failure(image) for image in images)

    def _text_or_failure(self, image: UInt8) -> ImageText:
        try:
            return ImageText(self._text(Image.fromarray(image)))
        except Exception as exc:  # onnxruntime has an exception type for each of its error codes
            logger.warning("an image is indexed without its words, as they cannot be read: %s", first_line(exc))
            return ImageText("", first_line(exc))

    def _text(self, image: Image.Image) -> str:
        deadline_s = self._clock() + self._options.max_image_s
        readings: list[_Reading] = []
        for region in self._regions(image):
            readings.append(self._read(image, region))
            if self._clock() > deadline_s:
                break
        kept = [reading for reading in readings if reading.line.confidence >= self._options.min_confidence]
        rows = in_reading_order([reading.region for reading in kept])
        return "\n".join(" ".join(kept[number].line.text for number in row) for row in rows)

    # --- detect -----------------------------------------------------------------------------------------------------

    def _regions(self, image: Image.Image) -> list[Region]:
        """Returns the lines, the surest first."""
        if max(image.size) > self._options.glance_px and not has_text(self._map(image, self._options.glance_px)):
            return []
        probabilities = self._map(image, max(image.size))
        height, width = probabilities.shape
        regions = sorted(find_regions(probabilities), key=lambda region: -region.score)[:_MAX_LINES]
        return [region.scaled(image.width / width, image.height / height) for region in regions]

    def _map(self, image: Image.Image, longest_px: int) -> Float32:
        """Returns the probability of text by pixel, float32[height, width] of an image of about this size."""
        scale = min(1.0, longest_px / max(image.size))
        width, height = (
            max(_MIN_DETECTOR_PX, round(side * scale / _MULTIPLE_PX) * _MULTIPLE_PX) for side in image.size
        )
        pixels = _blue_green_red(image.resize((width, height), Image.Resampling.BILINEAR))
        result: Float32 = self._detector.run(_planes((pixels - _MEAN) / _STD))[0, 0]
        return result

    # --- recognise --------------------------------------------------------------------------------------------------

    def _read(self, image: Image.Image, region: Region) -> _Reading:
        upright = straighten(image, region)
        line = self._line(upright)
        if line.confidence < _SURE:
            turned = self._line(upright.transpose(Image.Transpose.ROTATE_180))
            if turned.confidence > line.confidence:
                return _Reading(region.turned(), turned)
        return _Reading(region, line)

    def _line(self, line: Image.Image) -> Line:
        """Reads one line at a time: on a CPU several together cost more, as they are padded to the longest."""
        probabilities = self._recogniser.run(_planes(_blue_green_red(line) / 127.5 - 1.0))[0]
        return decode(probabilities, self._characters)


def straighten(image: Image.Image, region: Region) -> Image.Image:
    """Returns a region as an upright image of the recogniser's height."""
    width, height = max(1, round(region.width)), max(1, round(region.height))
    cos, sin = math.cos(region.angle), math.sin(region.angle)
    along, across = region.width / width, region.height / height
    left = region.x - (cos * region.width - sin * region.height) / 2
    top = region.y - (sin * region.width + cos * region.height) / 2
    matrix = (cos * along, -sin * across, left, sin * along, cos * across, top)
    crop = image.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    ratio = min(_MAX_LINE_RATIO, region.width / region.height)
    return crop.resize((max(_LINE_PX // 4, round(_LINE_PX * ratio)), _LINE_PX), Image.Resampling.BICUBIC)


def _blue_green_red(image: Image.Image) -> Float32:
    return np.asarray(image, dtype=np.float32)[:, :, ::-1]


def _planes(pixels: Float32) -> Float32:
    """Returns float32[1, 3, height, width] of float32[height, width, 3]."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32)


class _OnnxModel:
    """A model with one input and one output."""

    def __init__(self, file: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        # Threads that spin while they wait would take a core from the decoders.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as exc:  # an exception type for each error code
            raise ConfigError(f"{file.name}: it could not be loaded ({first_line(exc)}); install it again") from exc
        self._input = self._session.get_inputs()[0].name
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    def run(self, batch: Float32) -> Float32:
        """Returns the output of float32[1, 3, height, width]."""
        result: Float32 = self._session.run(None, {self._input: batch})[0]
        return result


def _characters(recogniser: _OnnxModel) -> tuple[str, ...]:
    """Returns the characters of the recogniser's classes from 1 on; the last one is the space."""
    listed = recogniser.metadata.get("character")
    if not listed:
        raise ConfigError("[ocr]: the recogniser has no characters in its metadata; use PP-OCR's in ONNX format")
    return (*listed.split("\n"), " ")
