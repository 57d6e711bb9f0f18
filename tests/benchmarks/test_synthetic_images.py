from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.synthetic_images import HEIGHT, WIDTH, SyntheticImages, commented, small_image


def decoded(data: bytes, kind: str = "JPEG") -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=[kind]) as image:
        return np.asarray(image)


def test_pictures_are_those_of_a_camera_in_size() -> None:
    picture = SyntheticImages(1).image(0)
    assert decoded(picture).shape == (HEIGHT, WIDTH, 3)
    assert 30_000 < len(picture) < 120_000


def test_the_same_numbers_give_the_same_bytes_and_others_never() -> None:
    pictures = SyntheticImages(2)
    assert pictures.images(0, 6) == SyntheticImages(2).images(0, 6)
    assert len(set(pictures.images(0, 6))) == 6


def test_a_comment_changes_the_bytes_alone() -> None:
    picture = SyntheticImages(1).image(0)
    assert np.array_equal(decoded(commented(picture, b"other")), decoded(picture))


@pytest.mark.parametrize("size", [1_024, 1_500, 100_000])
def test_a_small_picture_has_the_size_that_was_asked_for(size: int) -> None:
    picture = small_image(7, size)
    assert len(picture) == size
    assert decoded(picture, "BMP").shape == (16, 16, 3)
    assert picture != small_image(8, size)


def test_a_picture_that_cannot_be_so_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        small_image(0, 100)
