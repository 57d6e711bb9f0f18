"""Maps weights in safetensors into memory, so that all processes that read a file share its pages.

The format: eight bytes with the length of a header in JSON, which has each array's type, shape and place; the arrays.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # as the library that writes the format bounds it
_TYPES: Mapping[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I64": np.dtype("<i8")}


Weights: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""The arrays of a model by name."""


def map_weights(path: Path) -> Weights:
    """Returns the arrays of a file by name, read-only. A page is read from the file when it is first needed.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or has an array of another type than float32, float16 and int64.
    """
    content: npt.NDArray[np.uint8] = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    if len(content) < _LENGTH_BYTES:
        raise ValueError("the file has no header")
    header_bytes = int.from_bytes(content[:_LENGTH_BYTES].tobytes(), "little")
    start = _LENGTH_BYTES + header_bytes
    if header_bytes > _MAX_HEADER_BYTES or start > len(content):
        raise ValueError("the header is longer than the file")
    header = json.loads(content[_LENGTH_BYTES:start].tobytes())
    if not isinstance(header, dict):
        raise ValueError("the header is no table")
    return {name: _array(content[start:], name, row) for name, row in header.items() if name != "__metadata__"}


def _array(values: npt.NDArray[np.uint8], name: str, row: Any) -> npt.NDArray[Any]:
    try:
        dtype, shape, (begin, end) = _TYPES[row["dtype"]], tuple(row["shape"]), row["data_offsets"]
    except (KeyError, TypeError, ValueError) as exc:
        raise ValueError(f"the header describes {name} in a way that is not known") from exc
    if not 0 <= begin <= end <= len(values) or end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"the file has no place for {name}")
    array: npt.NDArray[Any] = values[begin:end].view(dtype).reshape(shape)
    return array
