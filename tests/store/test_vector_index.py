"""Tests of the parameters of indexes of vectors."""

from __future__ import annotations

import pytest

from penstock.config import VectorIndexSettings
from penstock.errors import ConfigError
from penstock.store.vector_index import beam, build_params, bytes_per_row, index_type, search_params

DEFAULT = VectorIndexSettings()
SUPPORTED = ("FLAT", "HNSW")


def test_auto_is_the_type_of_the_backend() -> None:
    assert index_type(DEFAULT, "HNSW", SUPPORTED, "milvus 2.3.5") == "HNSW"
    assert index_type(VectorIndexSettings(type="FLAT"), "HNSW", SUPPORTED, "milvus 2.3.5") == "FLAT"


def test_a_type_that_the_backend_lacks_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(
        ConfigError, match=r"IVF_RABITQ: milvus 2\.3\.5 has no such index; use auto or one of FLAT, HNSW"
    ):
        index_type(VectorIndexSettings(type="IVF_RABITQ"), "HNSW", SUPPORTED, "milvus 2.3.5")


@pytest.mark.parametrize(
    ("limit", "expected"), [(1, 100), (10, 100), (50, 100), (51, 102), (200, 400), (16_384, 32_768)]
)
def test_the_beam_widens_in_proportion_to_what_is_wanted(limit: int, expected: int) -> None:
    assert beam(100, limit) == expected


def test_the_beam_is_never_narrower_than_what_is_wanted() -> None:
    assert beam(10, 50) == 50
    assert beam(32_768, 16_384) == 32_768


def test_the_defaults_are_the_parameters_that_existing_collections_have() -> None:
    assert build_params(DEFAULT, "HNSW", 384) == {"M": 16, "efConstruction": 200}
    assert build_params(DEFAULT, "FLAT", 384) == {}
    assert search_params(DEFAULT, "HNSW", 50) == {"ef": 100}
    assert search_params(DEFAULT, "FLAT", 50) == {}


@pytest.mark.parametrize("dim", [384, 512, 98, 7])
def test_product_quantisation_divides_the_dimensions(dim: int) -> None:
    parts = build_params(DEFAULT, "IVF_PQ", dim)["m"]
    assert isinstance(parts, int)
    assert dim % parts == 0


def test_a_search_reads_no_more_cells_than_there_are() -> None:
    few = VectorIndexSettings(nlist=8, nprobe=32)
    assert search_params(few, "IVF_FLAT", 10)["nprobe"] == 8


def test_the_bytes_of_a_row() -> None:
    sizes = {kind: bytes_per_row(DEFAULT, kind, 384) for kind in ("FLAT", "HNSW", "HNSW_SQ", "IVF_SQ8", "IVF_RABITQ")}
    assert sizes == {"FLAT": 1536, "HNSW": 1664, "HNSW_SQ": 512, "IVF_SQ8": 392, "IVF_RABITQ": 440}
