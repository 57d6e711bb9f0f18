from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from penstock.encoders.mapped_weights import map_weights

ARRAYS: dict[str, npt.NDArray[Any]] = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b": np.arange(5, dtype=np.float16),
    "c": np.arange(3, dtype=np.int64).reshape(1, 3),
    "d": np.array(7, dtype=np.float32),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(ARRAYS, path, metadata={"format": "np"})
    return path


def test_arrays_are_those_that_the_library_wrote(file: Path) -> None:
    mapped = map_weights(file)
    assert mapped.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert mapped[name].dtype == array.dtype
        np.testing.assert_array_equal(mapped[name], array)


def test_arrays_share_the_memory_of_the_file_and_cannot_be_written(file: Path) -> None:
    weights = map_weights(file)
    assert not weights["a"].flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        weights["a"][0] = 1


@pytest.mark.parametrize("kept", [0, 7, 8, 40, -1])
def test_a_file_that_was_cut_off_is_refused(kept: int, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError):
        map_weights(file)


@pytest.mark.parametrize(
    "row",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]},
        {"dtype": "I4", "shape": [2], "data_offsets": [0, 8]},
        {"shape": [2]},
        None,
    ],
)
def test_a_header_that_fits_no_content_is_refused(row: object, tmp_path: Path) -> None:
    header = json.dumps({"w": row}).encode()
    (tmp_path / "w").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    with pytest.raises(ValueError, match="w"):
        map_weights(tmp_path / "w")
