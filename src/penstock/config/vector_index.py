"""Settings of the index of vectors."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from penstock.config.section import Section


class VectorIndexSettings(Section):
    """The index of vectors and the width of its searches. `penstock tune` measures and writes them."""

    type: Literal["auto", "FLAT", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "SCANN", "IVF_RABITQ"] = Field(
        "auto",
        description="type of the index of new collections, by Milvus's names; auto: FLAT in Milvus Lite, HNSW in other "
        "servers. Existing collections keep theirs until a reindex",
    )
    m: int = Field(16, ge=2, le=128, description="links of a vector in HNSW, of new collections")
    ef_construction: int = Field(200, ge=8, le=2_048, description="beam while HNSW is built, of new collections")
    ef: int = Field(
        100,
        ge=1,
        le=32_768,
        description="beam of an HNSW search of up to 50 entries, wider in proportion for more. Words that search "
        "images need a wider one than images do; `penstock tune` measures both (docs/tune.md)",
    )
    nlist: int = Field(256, ge=1, le=65_536, description="cells of an IVF index, of new collections")
    nprobe: int = Field(32, ge=1, le=65_536, description="cells that a search of an IVF index reads, at most nlist")
    refine: int = Field(
        4,
        ge=1,
        le=64,
        description="entries that SCANN and IVF_RABITQ read again exactly, a multiple of those wanted",
    )
