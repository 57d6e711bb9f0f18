"""Turns the detector's map into rectangles of text lines, in reading order.

The detector gives each pixel the probability that it lies in the shrunk core of a text line (differentiable
binarization, Liao et al., 2020). A connected region of high probability is a core; grown by a distance that follows
from its area and perimeter, it covers the line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from penstock.records import Float32

# The values of the method's authors for the map's threshold and the growth, and a lower bound for the mean of a region.
_PIXEL_THRESHOLD = 0.3
_MIN_REGION_MEAN = 0.55
_GROWTH = 1.6
_MIN_SIDE_PX = 3  # of a core; a smaller one is noise
_MIN_ROW_OVERLAP = 0.5  # of the smaller height, for two rectangles that stand in one row
_ANGLES = np.deg2rad(np.arange(-45.0, 45.0))


@dataclass(frozen=True, slots=True)
class Region:
    """A rotated rectangle around a line of text.

    Attributes:
        x, y: its centre, pixels.
        width, height: along and across the text, pixels.
        angle: of the text's direction, radians; positive turns clockwise, as y grows downwards.
        score: mean probability of its core.
    """

    x: float
    y: float
    width: float
    height: float
    angle: float
    score: float

    def turned(self) -> Region:
        """Returns the same rectangle for text that runs in the opposite direction."""
        return replace(self, angle=self.angle + math.pi)

    def scaled(self, factor_x: float, factor_y: float) -> Region:
        """Returns the same rectangle in an image of another size, whose aspect ratio is nearly the same."""
        factor = math.sqrt(factor_x * factor_y)
        return replace(
            self, x=self.x * factor_x, y=self.y * factor_y, width=self.width * factor, height=self.height * factor
        )


def has_text(probabilities: Float32) -> bool:
    """Returns whether any pixel of a map float32[height, width] may belong to text."""
    return bool((probabilities > _PIXEL_THRESHOLD).any())


def find_regions(probabilities: Float32) -> list[Region]:
    """Returns the lines of text in a map.

    Args:
        probabilities: float32[height, width].
    """
    mask = probabilities > _PIXEL_THRESHOLD
    labels, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=int))
    if not count:
        return []
    means = ndimage.mean(probabilities, labels, index=np.arange(1, count + 1))
    regions: list[Region] = []
    for number, (box, mean) in enumerate(zip(ndimage.find_objects(labels), means, strict=True), 1):
        if mean < _MIN_REGION_MEAN:
            continue
        core = _smallest_rectangle(_edge_points(labels[box] == number), (box[1].start, box[0].start), float(mean))
        if min(core.width, core.height) >= _MIN_SIDE_PX:
            regions.append(_grown(core))
    return regions


def _edge_points(inside: NDArray[np.bool_]) -> Float32:
    """Returns the corners of the first and last pixel of each row, float32[n, 2] as x, y."""
    rows = np.flatnonzero(inside.any(axis=1))
    first = inside[rows].argmax(axis=1)
    last = inside.shape[1] - inside[rows, ::-1].argmax(axis=1)
    x = np.concatenate([first, first, last, last])
    y = np.concatenate([rows, rows + 1, rows, rows + 1])
    return np.stack([x, y], axis=1).astype(np.float32)


def _smallest_rectangle(points: Float32, origin: tuple[int, int], score: float) -> Region:
    """Returns the rectangle of the smallest area around points, to a degree.

    Text runs along its longer side, unless that is less than a half longer: a short word may be higher than wide.
    """
    cos, sin = np.cos(_ANGLES), np.sin(_ANGLES)
    along = points @ np.stack([cos, sin])  # [n, angles]
    across = points @ np.stack([-sin, cos])
    widths, heights = np.ptp(along, axis=0), np.ptp(across, axis=0)
    # Among nearly equal areas the angle closest to level is taken: small regions are blunt.
    best = int(np.argmin(widths * heights * (1 + 0.02 * np.abs(_ANGLES))))
    u = (along[:, best].min() + along[:, best].max()) / 2
    v = (across[:, best].min() + across[:, best].max()) / 2
    x, y = origin[0] + u * cos[best] - v * sin[best], origin[1] + u * sin[best] + v * cos[best]
    width, height, angle = float(widths[best]), float(heights[best]), float(_ANGLES[best])
    if height > 1.5 * width:
        width, height, angle = height, width, angle + (math.pi / 2 if angle <= 0 else -math.pi / 2)
    return Region(float(x), float(y), width, height, angle, score)


def _grown(core: Region) -> Region:
    distance = core.width * core.height * _GROWTH / (2 * (core.width + core.height))
    return replace(core, width=core.width + 2 * distance, height=core.height + 2 * distance)


# --- reading order ---------------------------------------------------------------------------------------------------


def in_reading_order(regions: Sequence[Region]) -> Iterator[list[int]]:
    """Yields the rows of text from top to bottom, each as the numbers of its regions from left to right.

    All are turned back by their median angle first, so that the rows of an image at an angle stay apart.
    """
    if not regions:
        return
    angles = sorted(region.angle for region in regions)
    cos, sin = math.cos(angles[len(angles) // 2]), math.sin(angles[len(angles) // 2])
    turned = [(region.x * cos + region.y * sin, region.y * cos - region.x * sin) for region in regions]
    row: list[int] = []
    for number in sorted(range(len(regions)), key=lambda number: turned[number][1]):
        if row and not _in_one_row(row[0], number, regions, turned):
            yield sorted(row, key=lambda member: turned[member][0])
            row = []
        row.append(number)
    yield sorted(row, key=lambda member: turned[member][0])


def _in_one_row(first: int, second: int, regions: Sequence[Region], turned: Sequence[tuple[float, float]]) -> bool:
    heights = regions[first].height, regions[second].height
    overlap = sum(heights) / 2 - abs(turned[first][1] - turned[second][1])
    return overlap >= _MIN_ROW_OVERLAP * min(heights)
