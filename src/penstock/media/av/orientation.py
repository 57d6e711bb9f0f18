"""Turns and mirrors a frame by the display matrix of its track, as FFmpeg's player does."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

# The matrix has three rows of three numbers; a point (x, y) of the frame is shown at (x·m0 + y·m3, x·m1 + y·m4).
_X_TO_X, _Y_TO_X, _Y_TO_Y = 0, 3, 4


def upright(image: Image.Image, frame: VideoFrame) -> Image.Image:
    """Returns the image of a frame as a player shows it.

    Args:
        image: the pixels of the frame, at any scale.
        frame: has the matrix as side data; without one the image stays as it is.
    """
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return image
    matrix = np.frombuffer(bytes(side_data), dtype=np.int32)  # type: ignore[call-overload]  # PyAV's stubs: an object
    for transpose in _transposes(round(frame.rotation) % 360, matrix):
        image = image.transpose(transpose)
    return image if frame.rotation % 90 == 0 else image.rotate(frame.rotation, expand=True)


def _transposes(counterclockwise: int, matrix: np.ndarray) -> list[Image.Transpose]:
    """Returns the steps for a rotation by quarter turns; the signs of the matrix decide whether it mirrors too."""
    match counterclockwise:
        case 90:
            return [Image.Transpose.TRANSVERSE if matrix[_Y_TO_X] < 0 else Image.Transpose.ROTATE_90]
        case 270:
            return [Image.Transpose.TRANSPOSE if matrix[_Y_TO_X] > 0 else Image.Transpose.ROTATE_270]
        case 180 if matrix[_X_TO_X] < 0:
            mirrored = [Image.Transpose.FLIP_LEFT_RIGHT]
            return [*mirrored, Image.Transpose.FLIP_TOP_BOTTOM] if matrix[_Y_TO_Y] < 0 else mirrored
        case 0 | 180 if matrix[_Y_TO_Y] < 0:
            return [Image.Transpose.FLIP_TOP_BOTTOM]
        case _:
            return []
