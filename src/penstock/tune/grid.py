"""Lists the indexes to try: each is built once, and searched with several settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from penstock.config import VectorIndexSettings
from penstock.store.vector_index import ENTRIES_OF_EF

# 400 for `ef_construction` doubles the time to build for less recall than twice the links give.
_GRAPHS = ((8, 100), (16, 100), (16, 200), (32, 200), (32, 400))
_BEAMS = (10, 16, 32, 50, 64, 100, 128, 200, 256, 400)
_CELLS = (64, 256, 1_024)
_READ_CELLS = (1, 4, 8, 16, 32, 64, 128, 256)
# A cell needs some vectors to have a centre (faiss demands 39 and warns below).
_LEAST_PER_CELL = 39
# A short trial keeps these of the extensive list.
_QUICK_GRAPHS = ((16, 200),)
_QUICK_CELLS = (256,)


@dataclass(frozen=True, slots=True)
class Build:
    """One index to build, and how it is searched.

    Attributes:
        index: as it is built.
        searches: the same index with other settings of a search; at least one.
    """

    index: VectorIndexSettings
    searches: Sequence[VectorIndexSettings]


def builds(index_types: Sequence[str], vectors: int, *, limit: int, quick: bool = False) -> Iterator[Build]:
    """Yields what to try, FLAT first: it finds everything, and is the base of all others.

    Args:
        index_types: those of the server.
        vectors: number in the index.
        limit: entries that a search wants: no beam is narrower.
        quick: few builds instead of all.
    """
    for kind in ("FLAT", *(name for name in index_types if name != "FLAT")):
        if kind == "FLAT":
            flat = VectorIndexSettings(type="FLAT")
            yield Build(flat, (flat,))
        elif kind.startswith("HNSW"):
            yield from _graphs(kind, limit, quick=quick)
        else:
            yield from _cells(kind, vectors, quick=quick)


def _graphs(kind: str, limit: int, *, quick: bool) -> Iterator[Build]:
    beams = sorted({max(beam, limit) for beam in _BEAMS})
    for links, construction in _QUICK_GRAPHS if quick or kind != "HNSW" else _GRAPHS:
        index = VectorIndexSettings.model_validate({"type": kind, "m": links, "ef_construction": construction})
        # `ef` is the beam of a search of 50 entries: one of fewer has the same beam, one of more a wider one.
        yield Build(index, [index.model_copy(update={"ef": _ef_of(beam, limit)}) for beam in beams])


def _ef_of(beam: int, limit: int) -> int:
    return max(1, beam * ENTRIES_OF_EF // max(limit, ENTRIES_OF_EF))


def _cells(kind: str, vectors: int, *, quick: bool) -> Iterator[Build]:
    possible = [cells for cells in _CELLS if cells * _LEAST_PER_CELL <= vectors] or [max(1, vectors // _LEAST_PER_CELL)]
    for cells in [cells for cells in possible if cells in _QUICK_CELLS] or possible[-1:] if quick else possible:
        index = VectorIndexSettings.model_validate({"type": kind, "nlist": cells})
        probes = [probe for probe in _READ_CELLS if probe <= cells]
        yield Build(index, [index.model_copy(update={"nprobe": probe}) for probe in probes])
