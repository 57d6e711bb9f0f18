"""A profile that reads and describes images and encodes sounds, as a whole: up, produce, search, audit."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from penstock.broker.base import Message
from penstock.encoders.profiles import load_profile, profile_file
from tests.e2e.stack import Stack
from tests.encoders.test_clap import noise
from tests.encoders.tiny_models import CLAP_DIM, save_blip, save_clap
from tests.media.media_files import write_audio

pytestmark = [pytest.mark.services, pytest.mark.exhaustive, pytest.mark.timeout(600)]

PROFILES = Path(profile_file.__file__).parent


def write_profile(folder: Path) -> Path:
    """Writes the profile `reference` with three further roles, of which two have random weights."""
    save_clap(folder / "clap")
    save_blip(folder / "blip")
    tables = (PROFILES / "reference.toml").read_text().replace("../reference", str(PROFILES.parent / "reference"))
    ocr = (PROFILES / "shelf.toml").read_text().partition("[[ocr]]\n")[2].partition("\n[[")[0]
    ocr = "\n".join(line for line in ocr.splitlines() if not line.startswith("alternative"))
    file = folder / "profile.toml"
    file.write_text(
        f'{tables}\n[ocr]\n{ocr}\n[caption]\nmodel = "tiny/blip"\nmax_tokens = 4\nweights = {{ folder = "blip" }}\n'
        f'[sound]\nmodel = "tiny/clap"\ndim = {CLAP_DIM}\nweights = {{ folder = "clap" }}\n'
    )
    return file


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    if load_profile("shelf").ocr is None:
        pytest.skip("rapidocr-onnxruntime is not installed")
    with tempfile.TemporaryDirectory(prefix="penstock-e2e-") as name:
        folder = Path(name)
        environment = {
            "PENSTOCK_PROFILE": str(write_profile(folder)),
            "PENSTOCK_OCR__ENABLED": "true",
            "PENSTOCK_INGEST__MODALITIES": '["image", "audio"]',
            "PENSTOCK_QUERY__PORT": "0",
        }
        stack = Stack(folder / "data", environment)
        try:
            stack.start()
            yield stack
        finally:
            stack.close()


def sign(text: str) -> bytes:
    image = Image.new("RGB", (500, 160), "white")
    ImageDraw.Draw(image).text((30, 50), text, font=ImageFont.load_default(36), fill="black")
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def test_signs_are_found_by_their_words_and_sounds_have_moments(stack: Stack, tmp_path: Path) -> None:
    rain = write_audio(tmp_path / "rain.wav", noise(1, 25)).read_bytes()
    stack.produce(
        [
            Message("media.image", b"market", sign("Fish market open daily")),
            Message("media.image", b"ferry", sign("Ferry to the island")),
            Message("media.audio", b"rain", rain),
        ]
    )
    stack.settle()
    hits = stack.search("when does the ferry leave", modalities=["image"])
    words = [hit for hit in hits if any(channel["channel"] == "image.lexical" for channel in hit["found_by"])]
    assert [hit["key"] for hit in words] == ["ferry"]
    assert words[0]["text"].startswith("Ferry to the island\nword")  # what is written, then the caption

    hit, *_ = stack.search("rain on a roof", modalities=["audio"])
    assert "sound.joint" in {channel["channel"] for channel in hit["found_by"]}
    assert hit["moment"] is not None
    stack.json("audit")  # which exits with 1 if it does not balance
