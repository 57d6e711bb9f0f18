from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image, ImageDraw

from penstock.encoders.ocr.regions import Region, find_regions, has_text, in_reading_order
from penstock.records import Float32


def map_with(*boxes: tuple[int, int, int, int], turned_by: float = 0.0, value: int = 230) -> Float32:
    """Returns a detector's map, 320 × 240, of boxes as left, top, width, height; turned clockwise, in degrees."""
    image = Image.new("L", (320, 240))
    for left, top, width, height in boxes:
        ImageDraw.Draw(image).rectangle((left, top, left + width - 1, top + height - 1), fill=value)
    return np.asarray(image.rotate(-turned_by, Image.Resampling.BILINEAR), dtype=np.float32) / 255


def region(x: float, y: float, *, width: float = 40, height: float = 20, angle: float = 0.0) -> Region:
    return Region(x, y, width, height, angle, 1.0)


def test_a_map_without_probable_pixels_has_no_text() -> None:
    empty = np.full((32, 32), 0.2, dtype=np.float32)
    assert not has_text(empty)
    assert find_regions(empty) == []


def test_a_core_is_grown_by_a_distance_that_follows_from_its_area_and_perimeter() -> None:
    (line,) = find_regions(map_with((100, 80, 120, 20)))
    distance = 120 * 20 * 1.6 / (2 * (120 + 20))
    assert (line.x, line.y) == pytest.approx((160, 90))
    assert (line.width, line.height) == pytest.approx((120 + 2 * distance, 20 + 2 * distance))
    assert line.angle == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("degrees", [-40, -8, 3, 15, 44, 60, 90, -60])
def test_a_rectangle_follows_the_angle_of_its_text(degrees: int) -> None:
    (line,) = find_regions(map_with((90, 110, 140, 20), turned_by=degrees))
    difference = math.remainder(line.angle - math.radians(degrees), math.pi)
    assert abs(math.degrees(difference)) <= 1.5
    assert (line.x, line.y) == pytest.approx((160, 120), abs=1.5)
    assert line.width / line.height > 3


def test_small_and_faint_regions_are_noise() -> None:
    assert find_regions(map_with((10, 10, 2, 2), (50, 50, 1, 30))) == []
    assert find_regions(map_with((10, 10, 60, 20), value=100)) == []


def test_regions_are_scaled_to_another_size() -> None:
    scaled = region(10, 20).scaled(2.0, 2.0)
    assert (scaled.x, scaled.y, scaled.width, scaled.height) == (20, 40, 80, 40)


def test_rows_are_read_from_top_to_bottom_and_each_from_left_to_right() -> None:
    regions = [region(200, 52), region(50, 120), region(50, 50), region(120, 48)]
    assert list(in_reading_order(regions)) == [[2, 3, 0], [1]]
    assert list(in_reading_order([])) == []


def test_rows_at_an_angle_stay_apart() -> None:
    angle = math.radians(20)
    cos, sin = math.cos(angle), math.sin(angle)
    upright = [(0, 0), (100, 0), (200, 0), (0, 40), (100, 40)]
    regions = [region(x * cos - y * sin, x * sin + y * cos, angle=angle) for x, y in upright]
    assert list(in_reading_order(regions)) == [[0, 1, 2], [3, 4]]


def test_a_picture_upside_down_is_read_from_its_own_top() -> None:
    regions = [region(100, 100).turned(), region(50, 100).turned(), region(100, 40).turned()]
    assert list(in_reading_order(regions)) == [[0, 1], [2]]
