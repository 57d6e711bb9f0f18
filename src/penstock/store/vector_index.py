"""Translates the settings of the index of vectors into the parameters of Milvus, and estimates its bytes.

Sources: Milvus's documentation of its indexes; Malkov and Yashunin, "HNSW" (2016), for the links of a vector.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from penstock.config import VectorIndexSettings
from penstock.errors import ConfigError

# `ef` is the beam of a search of this number of entries: `query.candidates` as it comes.
ENTRIES_OF_EF = 50
_MAX_EF = 32_768  # Milvus's limit

_GRAPHS = frozenset({"HNSW", "HNSW_SQ"})
_CELLS = frozenset({"IVF_FLAT", "IVF_SQ8", "IVF_PQ", "SCANN", "IVF_RABITQ"})
_REFINED = frozenset({"SCANN", "IVF_RABITQ"})
# Bytes of a dimension; those that refine keep the vector, or its bytes, beside the code.
_BYTES_PER_DIM: Mapping[str, float] = {
    "FLAT": 4,
    "HNSW": 4,
    "HNSW_SQ": 1,
    "IVF_FLAT": 4,
    "IVF_SQ8": 1,
    "IVF_PQ": 1 / 4,  # a byte for four dimensions
    "SCANN": 4 + 1 / 4,  # 4 bits for two dimensions, beside the vector
    "IVF_RABITQ": 1 + 1 / 8,  # a bit, beside a byte to refine by
}
_LINK_BYTES = 4
_LIST_BYTES = 8  # the id of a vector in a cell


def index_type(settings: VectorIndexSettings, default: str, supported: Sequence[str], product: str) -> str:
    """Returns the type of the index of new collections.

    Args:
        settings: of the index.
        default: of the backend.
        supported: the types of the backend.
        product: its name, for the message.

    Raises:
        ConfigError: the backend has no such index.
    """
    if settings.type == "auto":
        return default
    if settings.type not in supported:
        raise ConfigError(
            f"store.index.type={settings.type}: {product} has no such index; use auto or one of {', '.join(supported)}"
        )
    return settings.type


def build_params(settings: VectorIndexSettings, kind: str, dim: int) -> Mapping[str, object]:
    """Returns what Milvus builds an index of a type by.

    Args:
        settings: of the index.
        kind: type of the index.
        dim: of the vectors.
    """
    if kind in _GRAPHS:
        params: dict[str, object] = {"M": settings.m, "efConstruction": settings.ef_construction}
        return params | ({"sq_type": "SQ8"} if kind == "HNSW_SQ" else {})
    if kind not in _CELLS:
        return {}
    params = {"nlist": settings.nlist}
    if kind == "IVF_PQ":
        params |= {"m": _divisor(dim, dim // 4), "nbits": 8}
    elif kind == "SCANN":
        params |= {"with_raw_data": True}
    elif kind == "IVF_RABITQ":
        params |= {"refine": True, "refine_type": "SQ8"}
    return params


def search_params(settings: VectorIndexSettings, kind: str, limit: int) -> Mapping[str, object]:
    """Returns how far Milvus looks in an index of a type for a number of entries."""
    if kind in _GRAPHS:
        return {"ef": beam(settings.ef, limit)}
    if kind not in _CELLS:
        return {}
    params: dict[str, object] = {"nprobe": min(settings.nprobe, settings.nlist)}
    if kind == "SCANN":
        params["reorder_k"] = settings.refine * limit
    elif kind == "IVF_RABITQ":
        params["refine_k"] = float(settings.refine)
    return params


def beam(ef: int, limit: int) -> int:
    """Returns the beam of an HNSW search: wider in proportion beyond 50 entries, and never below those wanted."""
    return max(limit, min(_MAX_EF, max(ef, math.ceil(ef * limit / ENTRIES_OF_EF))))


def bytes_per_row(settings: VectorIndexSettings, kind: str, dim: int) -> int:
    """Returns the bytes that an index keeps of a vector, computed: HNSW has 2·M links on its lowest layer."""
    of_vector = _BYTES_PER_DIM[kind] * dim
    if kind in _GRAPHS:
        of_vector += 2 * settings.m * _LINK_BYTES
    elif kind in _CELLS:
        of_vector += _LIST_BYTES
    return math.ceil(of_vector)


def varied(settings: VectorIndexSettings, kind: str) -> Mapping[str, int]:
    """Returns the settings that matter for a type, by name: those that a table shows."""
    if kind in _GRAPHS:
        return {"m": settings.m, "ef_construction": settings.ef_construction, "ef": settings.ef}
    if kind not in _CELLS:
        return {}
    refined = {"refine": settings.refine} if kind in _REFINED else {}
    return {"nlist": settings.nlist, "nprobe": settings.nprobe, **refined}


def _divisor(number: int, most: int) -> int:
    """Returns the largest divisor of a number up to a limit."""
    return next(part for part in range(max(most, 1), 0, -1) if number % part == 0)
