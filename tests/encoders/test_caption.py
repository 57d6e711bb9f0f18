from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from penstock.encoders.load import describe_models
from penstock.encoders.load_image_text import load_image_to_text
from penstock.encoders.ocr.options import OcrOptions
from penstock.encoders.profiles import CAPTION, Profile, load_profile
from penstock.errors import ConfigError
from tests.encoders.tiny_models import WORDS, save_blip

SMALL = Path(__file__).parents[2] / "src/penstock/encoders/profiles/small.toml"


def profile_of(folder: Path) -> Profile:
    file = folder / "profile.toml"
    table = '[caption]\nmodel = "tiny/blip"\nmax_tokens = 5\nweights = { folder = "blip" }\n'
    file.write_text(SMALL.read_text() + table)
    return load_profile(str(file))


def test_images_of_any_size_get_captions_of_bounded_length(tmp_path: Path) -> None:
    save_blip(tmp_path / "blip")
    profile = profile_of(tmp_path)
    model = load_image_to_text(CAPTION, profile, ocr=OcrOptions(), precision="fp32", device="cpu")
    images = [np.full((40, 90, 3), value, dtype=np.uint8) for value in (0, 200)] + [np.zeros((500, 20, 3), np.uint8)]
    captions = model.texts(images)
    assert len(captions) == 3
    for caption in captions:
        assert not caption.failed
        assert 0 < len(caption.text.split()) <= 5
        assert set(caption.text.split()) <= set(WORDS)
    assert model.texts([]) == ()
    assert {row.role: row.present for row in describe_models(profile, device="cpu")}[CAPTION]


def test_an_image_that_fails_leaves_the_others_their_captions(tmp_path: Path) -> None:
    save_blip(tmp_path / "blip")
    model = load_image_to_text(CAPTION, profile_of(tmp_path), ocr=OcrOptions(), precision="fp32", device="cpu")
    good, bad = np.zeros((20, 20, 3), np.uint8), np.zeros((0, 3, 3), np.uint8)
    first, second, third = model.texts([good, bad, good])
    assert (first.failed, bool(second.failed), third.failed) == ("", True, "")
    assert first == third


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tiny/blip"):
        load_image_to_text(CAPTION, profile_of(tmp_path), ocr=OcrOptions())
