"""Settings of the vector store and the asset store."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from penstock.config.addresses import is_in_the_clear
from penstock.config.secrets import refuse_userinfo
from penstock.config.section import Section
from penstock.config.vector_index import VectorIndexSettings

# Milvus Lite reads every row of a collection for each search: 44 ms a channel at 20,000 rows and 220 to 350 ms at
# 100,000, on two shared cores.
LITE_ENTRIES = 20_000
LITE_CEILING = (
    f"Milvus Lite reads every entry for each search: 44 ms a channel at {LITE_ENTRIES:,} entries of a kind, 220 to "
    "350 ms at 100,000. For more, set store.embedded=milvus on a new data folder, or store.uri"
)
STANDALONE_LACKS = (
    "The embedded Milvus 2.3.5 has no lexical search (BM25) and one vector field in a collection: passages are found "
    "by meaning, images and frames by the image encoder alone"
)


class StoreSettings(Section):
    """The Milvus that holds the index.

    Over the limit because each setting is an attribute.
    """

    uri: str | None = Field(None, description="http(s)://host:port; unset: the embedded store of data_dir")
    embedded: Literal["lite", "milvus"] = Field(
        "lite",
        description="store that `penstock up` runs if uri is unset: Milvus Lite (lite), or a real Milvus 2.3.5 "
        "(milvus, `penstock[milvus]`, Linux on x86-64), for more than 20,000 entries of a kind; a folder keeps its own",
    )
    token: SecretStr | None = Field(None, description="user:password or an API key")
    token_file: Path | None = Field(None, description="file of the token, read again when the store refuses it")
    readonly_token: SecretStr | None = Field(
        None,
        description="token of the query plane, whose user need not write: collections are then checked and not created",
    )
    readonly_token_file: Path | None = Field(None, description="file of that token, read again as token_file is")
    allow_clear_token: bool = Field(
        False, description="lets tokens be sent over http to another machine, as in a network that encrypts by itself"
    )
    ca_file: Path | None = Field(
        None,
        description="file of the CA certificates (PEM) that the server's certificate is checked against, with https; "
        "unset: those of the system",
    )
    cert_file: Path | None = Field(
        None, description="file of the client certificate (PEM), for servers that demand one (mutual TLS)"
    )
    key_file: Path | None = Field(None, description="file of the key of cert_file (PEM)")
    server_name: str | None = Field(
        None, description="name that the server's certificate has to be for; unset: that of the address"
    )
    database: str = Field("default", description="Milvus database that holds the collections")
    num_shards: int = Field(2, ge=1, description="shards of a new collection, where the store has shards")
    consistency: Literal["Strong", "Bounded", "Session", "Eventually"] = Field(
        "Bounded",
        description="consistency level of searches; reads that a write depends on see all earlier writes in any case",
    )
    timeout_s: float = Field(30.0, gt=0, description="timeout of one request to the store, seconds")
    version: int = Field(1, ge=1, description="version of the physical collections to write, image__<model>__v1")
    index: VectorIndexSettings = VectorIndexSettings()

    @field_validator("uri")
    @classmethod
    def _has_no_password(cls, value: str | None) -> str | None:
        return refuse_userinfo(value, "set store.token or store.token_file")

    @model_validator(mode="after")
    def _transport_is_meant(self) -> Self:
        uri = self.uri or ""
        has_token = self.has_secret("token") or self.has_secret("readonly_token")
        if has_token and is_in_the_clear(uri) and not self.allow_clear_token:
            raise ValueError(
                f"the token would be sent to {uri} in the clear: use an https address, or set allow_clear_token to true"
            )
        of_tls = {name: getattr(self, name) for name in ("ca_file", "cert_file", "key_file", "server_name")}
        given = ", ".join(name for name, value in of_tls.items() if value is not None)
        if given and not uri.startswith("https://"):
            raise ValueError(f"{given} would not be used: set uri to an https address, or leave it out")
        certificate = (self.cert_file, self.key_file)
        if any(certificate) and not all((*certificate, self.ca_file)):
            raise ValueError("cert_file, key_file and ca_file belong together: set all three")
        return self


class AssetStoreSettings(Section):
    """The asset store, which keeps inline media and thumbnails so that a result can always be shown."""

    url: str | None = Field(None, description="any fsspec URL, such as s3://bucket/media; unset: a folder of data_dir")
    max_swept: float = Field(
        0.05,
        ge=0,
        le=1,
        description="largest part of the media that a sweep removes; with more than that (and more than 20) it removes "
        "nothing, as the index may have been lost, until `penstock sweep --force`",
    )
    rest_s: float = Field(
        604_800.0,
        ge=0,
        description="time for which media that were swept rest in the store's folder `trash`, seconds; 0: none",
    )
    grace_s: float = Field(86_400.0, ge=0, description="age below which the sweep keeps media in any case, seconds")
    sweep_interval_s: float = Field(
        3_600.0, gt=0, description="interval between sweeps, which remove media that nothing refers to, seconds"
    )

    @field_validator("url")
    @classmethod
    def _has_no_password(cls, value: str | None) -> str | None:
        return refuse_userinfo(value, "give the credentials by the environment, or by the role of the machine")
