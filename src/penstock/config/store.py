"""Settings of the vector store and the asset store."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from penstock.config.section import Section


class StoreSettings(Section):
    """The Milvus that holds the index."""

    uri: str | None = Field(None, description="http(s)://host:port; unset: the embedded Milvus Lite of data_dir")
    token: SecretStr | None = Field(None, description="user:password or an API key")
    database: str = Field("default", description="Milvus database that holds the collections")
    num_shards: int = Field(2, ge=1, description="shards of a new collection, where the store has shards")
    consistency: Literal["Strong", "Bounded", "Session", "Eventually"] = Field(
        "Bounded",
        description="consistency level of searches; reads that a write depends on see all earlier writes in any case",
    )
    timeout_s: float = Field(30.0, gt=0, description="timeout of one request to the store, seconds")
    version: int = Field(1, ge=1, description="version of the physical collections to write, image__<model>__v1")


class AssetStoreSettings(Section):
    """The asset store, which keeps inline media and thumbnails so that a result can always be shown."""

    url: str | None = Field(None, description="any fsspec URL, such as s3://bucket/media; unset: a folder of data_dir")
    grace_s: float = Field(86_400.0, ge=0, description="age below which the sweep keeps media in any case, seconds")
    sweep_interval_s: float = Field(
        3_600.0, gt=0, description="interval between sweeps, which remove media that nothing refers to, seconds"
    )
