from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from penstock.encoders.base import Fingerprint
from penstock.encoders.load_image_text import load_image_to_text
from penstock.encoders.ocr.options import OcrOptions
from penstock.encoders.ocr.pp_ocr import PpOcr, straighten
from penstock.encoders.ocr.regions import Region
from penstock.encoders.profiles import OCR, OcrSpec, Profile, load_profile
from penstock.encoders.weights import RandomWeights, locate
from penstock.errors import ConfigError
from penstock.records import UInt8


def spec() -> OcrSpec:
    """Returns the models of the profile shelf, or skips the test."""
    models = load_profile("shelf").ocr
    if models is None:
        pytest.skip("rapidocr-onnxruntime is not installed")
    return models


def reader(options: OcrOptions | None = None, clock: Callable[[], float] | None = None) -> PpOcr:
    models = spec()
    assert not isinstance(models.detector, RandomWeights)
    assert not isinstance(models.recogniser, RandomWeights)
    return PpOcr(
        locate(models.detector, "detector").weights,
        locate(models.recogniser, "recogniser").weights,
        Fingerprint("ocr", "0" * 16, "0" * 16),
        options or OcrOptions(),
        clock=clock or (lambda: 0.0),
    )


def image_of(*lines: str, size: int = 32, ink: str = "black", paper: str = "white") -> Image.Image:
    image = Image.new("RGB", (480, 60 + len(lines) * 2 * size), paper)
    for number, line in enumerate(lines):
        font = ImageFont.load_default(size)
        ImageDraw.Draw(image).text((30, 30 + number * 2 * size), line, font=font, fill=ink)
    return image


def pixels(image: Image.Image) -> UInt8:
    return np.asarray(image, dtype=np.uint8)


@pytest.fixture(scope="module")
def ocr() -> PpOcr:
    return reader()


def test_lines_are_read_in_order(ocr: PpOcr) -> None:
    (result,) = ocr.texts([pixels(image_of("Opening hours", "Monday 9 to 17", "Platform 7b"))])
    assert result.text.split("\n") == ["Opening hours", "Monday 9 to 17", "Platform 7b"]
    assert not result.failed


@pytest.mark.parametrize("degrees", [-7, 20, 90, 180, 270])
def test_text_is_read_at_any_angle(ocr: PpOcr, degrees: int) -> None:
    image = image_of("harbour festival", "ticket 4711").rotate(degrees, expand=True, fillcolor="white")
    (result,) = ocr.texts([pixels(image)])
    assert result.text.split("\n") == ["harbour festival", "ticket 4711"]


@pytest.mark.parametrize(("ink", "paper"), [("yellow", "navy"), ("darkred", "tan"), ("white", "black")])
def test_colours_do_not_matter(ocr: PpOcr, ink: str, paper: str) -> None:
    (result,) = ocr.texts([pixels(image_of("Museum closed", ink=ink, paper=paper))])
    assert result.text == "Museum closed"


def test_an_image_without_text_has_no_words(ocr: PpOcr) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    plain = np.full((10, 900, 3), 200, dtype=np.uint8)
    assert [result.text for result in ocr.texts([noise, plain])] == ["", ""]


def test_an_image_that_cannot_be_read_fails_alone(ocr: PpOcr) -> None:
    broken = np.zeros((5, 5, 7), dtype=np.uint8)
    first, second = ocr.texts([broken, pixels(image_of("still here"))])
    assert first.failed
    assert (second.text, second.failed) == ("still here", "")


def test_reading_ends_in_time_and_keeps_what_it_has() -> None:
    clock = itertools.count(0.0, 3.0)
    (result,) = reader(OcrOptions(max_image_s=5.0), lambda: next(clock)).texts(
        [pixels(image_of("one one", "two two", "three three", "four four"))]
    )
    assert len(result.text.split("\n")) == 2


def test_a_profile_loads_its_reader_and_names_one_that_it_lacks() -> None:
    spec()
    model = load_image_to_text(OCR, load_profile("shelf"), ocr=OcrOptions())
    assert model.fingerprint.model == "PP-OCRv4"
    without: Profile = load_profile("reference")
    with pytest.raises(ConfigError, match="profile reference has no role ocr"):
        load_image_to_text(OCR, without, ocr=OcrOptions())


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / "detector.onnx"
    damaged.write_bytes(b"no model")
    with pytest.raises(ConfigError, match=r"detector\.onnx: it could not be loaded"):
        PpOcr(damaged, damaged, Fingerprint("ocr", "0" * 16, "0" * 16), OcrOptions())


def test_a_region_becomes_an_upright_line() -> None:
    image = Image.new("RGB", (200, 100), "white")
    ImageDraw.Draw(image).rectangle((40, 30, 139, 49), fill="black")
    angle = math.radians(30)
    turned = image.rotate(-30, Image.Resampling.BICUBIC, center=(90, 40), fillcolor="white")
    line = np.asarray(straighten(turned, Region(90, 40, 100, 20, angle, 1.0)).convert("L"))
    assert line.shape == (48, 240)
    assert line[8:40, 10:230].max() < 60
