"""Settings of the query plane."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from penstock.config.section import MIB, Section
from penstock.config.understand import UnderstandSettings
from penstock.records import Collection

LEARNED_FUSION = "learned"
LEARNED_REFUSED = (
    "learned is reserved for a fusion that is trained, which searches do not offer: `penstock train fusion` measures "
    "it, and none is better than one tuned weight (docs/learned-fusion.md)"
)


class FusionMethod(StrEnum):
    """Names the methods that make one ranking of several. `docs/search.md` explains each."""

    CALIBRATED = "calibrated"  # log-odds where the channels are calibrated, else z-by-channel
    WEIGHTED = "weighted"  # a weighted sum of normalised scores
    EARLY = "early"  # α·text + (1-α)·image, for assets that have both in one space
    RRF = "rrf"  # reciprocal rank fusion: ranks only


class Normalisation(StrEnum):
    """Names the scales on which scores become comparable. `query/fusion/normalise.py` has the formulas."""

    MIN_MAX = "min-max"
    THEORETICAL_MIN = "theoretical-min"
    Z_SCORE = "z-score"
    ROBUST = "robust"
    Z_BY_CHANNEL = "z-by-channel"
    LOG_ODDS = "log-odds"
    NONE = "none"


class FirstPlaceRule(StrEnum):
    """Names what decides which kind of hit is first: a text, an image or a moment."""

    INDEX = "index"  # relevance, and for each kind its share of the index
    RELEVANCE = "relevance"  # relevance alone


class SourceSettings(Section):
    """A named source: the part of the index that meets a filter."""

    filter: Mapping[str, Any] = Field(description="which entries it has, as `filter` of a request")
    description: str = Field("", description="what it is about, in words; questions that resemble it weigh it more")
    weight: float = Field(1.0, gt=0, description="its weight in fusion, as that of a collection")


class QuerySettings(UnderstandSettings):
    """The HTTP endpoint, its replicas, and the limits and defaults of searches.

    Over the limit because each setting is an attribute.
    """

    host: str = Field("127.0.0.1", description="address that the HTTP endpoint listens on")
    port: int = Field(8600, ge=0, le=65535, description="port of the HTTP endpoint; 0: a free one")
    url: str | None = Field(
        None, description="query plane that commands ask; unset: that of `penstock up`, else host and port"
    )
    hosts: tuple[str, ...] = Field(
        (),
        description="names by which clients reach the endpoint, without a port, *.example.com for those below a "
        "domain; requests for others are refused. Unset: those of loopback if it listens there, else any",
    )
    tls_cert_file: Path | None = Field(
        None, description="file of the endpoint's certificate and those above it (PEM), which then speaks https"
    )
    tls_key_file: Path | None = Field(None, description="file of the key of tls_cert_file (PEM)")
    ca_file: Path | None = Field(
        None,
        description="file of the CA certificates (PEM) by which commands, canaries and `penstock up` check the query "
        "plane's certificate; unset: those of the system",
    )
    proxies: Literal["head", "every"] = Field(
        "head", description="nodes of the Ray cluster that take requests: its head, or every one that has a replica"
    )
    page: bool = Field(True, description="whether `/` shows the page to search, play and ask in a browser")
    replicas: int = Field(1, ge=1, description="replicas that answer requests")
    # Above 0, as Ray's autoscaler takes a node for idle whose actors reserve nothing, and removes it.
    replica_cpus: float = Field(
        0.1, ge=0, description="CPUs that Ray reserves for a replica; 0: it is placed on any node, also a full one"
    )
    replica_gpus: float = Field(0.0, ge=0, description="GPUs of a replica, for its encoders; 0: they run on CPU")
    preload: bool | None = Field(
        None,
        description="whether a replica loads the image encoder before it is ready, instead of with the first query by "
        "image; unset: true, and false for `penstock up`",
    )

    # --- results ---
    limit: int = Field(10, ge=1, description="number of hits when a request sets no limit")
    max_limit: int = Field(200, ge=1, description="largest limit that a request may set")
    # A page at the end of a thousand hits of 20,000 entries costs what docs/pages.md says, and its cursor 8 kB.
    max_paged_hits: int = Field(
        1_000,
        ge=1,
        le=10_000,
        description="hits that the pages of one search have together; then there is no next page",
    )
    diversify_top: int = Field(
        30, ge=2, le=200, description="hits that may change places if a request has diversify; their vectors are read"
    )
    deadline_ms: int = Field(2_000, ge=10, description="time for a search when a request sets no deadline, ms")
    candidates: int = Field(
        50, ge=1, description="entries of each channel that decide the first hits; more if the limit needs them"
    )
    fusion: FusionMethod = Field(
        FusionMethod.CALIBRATED, description="how rankings become one: calibrated, weighted, early or rrf"
    )
    normalise: Normalisation = Field(
        Normalisation.Z_BY_CHANNEL,
        description="normalisation of scores by method weighted: min-max, theoretical-min, z-score, robust, "
        "z-by-channel, log-odds or none",
    )
    fusion_alpha: float = Field(
        0.5, ge=0, le=1, description="share of the text by method early; the image has the rest"
    )
    first_places: FirstPlaceRule = Field(
        FirstPlaceRule.INDEX,
        description="how often texts, images and moments are first by method calibrated: about as often as they occur "
        "in the index (index), or when they are the most relevant (relevance)",
    )
    # On the 237 sample texts beside 1,000 image vectors, with titles as queries: the right text is among the first ten
    # for 0.81 with the paper's 60 and for 0.88 with 10; with their sentences as queries 0.997 and 1.0. The paper fused
    # rankings of a thousand entries; here they have 50.
    rrf_k: int = Field(10, ge=1, description="k of reciprocal rank fusion (Cormack et al., 2009)")
    weights: Mapping[Collection, float] = Field(
        default_factory=lambda: dict.fromkeys(Collection, 1.0),
        description="weight of each collection in fusion",
    )
    # On the questions of `mixed` that name a kind auto finds .256 (MRR@10) and all .231; others it leaves alone.
    route: Literal["auto", "all"] = Field(
        "auto", description="weights of collections: by what the question says (auto), or all alike (all)"
    )
    route_words: Path | None = Field(None, description="file of words that name collections, besides the shipped ones")
    route_exemplars: Path | None = Field(None, description="file of example questions, besides the shipped ones")
    proposal_words: Path | None = Field(None, description="file of words that imply filters, besides the shipped ones")
    sources: Mapping[str, SourceSettings] = Field(
        default_factory=dict,
        description="named sources that `route` weighs as it does collections; each has filter, description and weight",
    )
    # Off: on by default it would have to gain 0.01 of MRR@10 on the sets. MaxSim of MiniLM gains .008 [.000, .015] on
    # wordnet and .009 on mixed (first places by relevance in both runs), for 65 ms for ten passages on two cores.
    rerank: Literal["off", "auto"] = Field(
        "off", description="reorder the best hits by the profile's reranking model: off or auto"
    )
    rerank_top: int = Field(10, ge=1, le=1_000, description="hits that may change places by reranking")
    # Ten passages that are not cached take 65 ms with MaxSim of MiniLM on two cores.
    rerank_ms: int = Field(100, ge=1, description="time for reranking, of what the deadline leaves, ms")
    rerank_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of what is left of the deadline that reranking may take at most",
    )
    # On three sets of texts some 15 % of the questions without an answer in the index reach it, and of those with one
    # 65, 39 and 33 %.
    relevance_floor: float = Field(
        0.3, ge=0, le=1, description="relevance below which a hit does not count as found; 0: every hit counts"
    )
    calibration: Path | None = Field(
        None,
        description="file that `penstock train calibration` wrote, the only one tried; unset: the first that fits the "
        "index of calibration/<profile>.json in data_dir and the one that the profile ships",
    )
    # A passage of speech lasts 5 to 30 s and a shot mostly less: enough for a passage, its neighbours and their shots.
    max_moment_gap_ms: int = Field(
        5_000, ge=0, description="largest gap between entries of one audio or video that form a moment, milliseconds"
    )
    max_moment_ms: int = Field(
        120_000, ge=1, description="longest moment, milliseconds; a longer shot is a moment of its own"
    )

    # --- requests ---
    vector_cache_size: int = Field(10_000, ge=0, description="query embeddings cached in each replica")
    mcp_hosts: tuple[str, ...] = Field(
        ("127.0.0.1", "localhost", "[::1]"),
        description="names by which clients reach /mcp, without a port; requests to others are refused. *: any",
    )
    max_live_clients: int = Field(
        100,
        ge=0,
        description="clients that may follow the changes of the index at one replica; further ones get HTTP 429",
    )
    # An answer of ten hits takes some 20 kB: 3,000 answers.
    max_watches: int = Field(1_000, ge=0, description="watches that a tenant may have")
    result_cache_bytes: int = Field(
        64 * MIB,
        ge=0,
        description="bytes of answers cached in each replica, for at most a minute and until the tenant's index "
        "changes; 0: none",
    )
    accept_events: bool | None = Field(
        None,
        description="whether POST /v1/events takes events from callers with the permission `events`, which needs the "
        "right to write to the media topics; unset: true, but false behind a proxy that authenticates "
        "(auth.allow_anonymous)",
    )
    max_events: int = Field(500, ge=1, le=10_000, description="events in one request of POST /v1/events")
    max_image_bytes: int = Field(20 * MIB, ge=1, description="largest image in a request, bytes")
    # 16 bits a sample and three of them: 150 MB in memory.
    max_image_pixels: int = Field(
        25_000_000,
        ge=1,
        description="largest image that is searched by, pixels; of a JPEG two and a half times as many, as it "
        "is decoded at a part of its size",
    )
    max_audio_bytes: int = Field(20 * MIB, ge=1, description="largest audio in a request (a spoken query), bytes")
    max_audio_s: float = Field(60.0, gt=0, description="longest spoken query, seconds")
    # Whisper base takes about 2 s for a query on two cores, so that a full queue is done within the last one's timeout.
    transcription_timeout_s: float = Field(
        30.0, gt=0, description="time to transcribe a spoken query before its search begins, seconds"
    )
    transcription_queue_size: int = Field(
        8, ge=0, description="spoken queries that may wait for transcription; further ones get HTTP 429"
    )
    search_threads: int = Field(16, ge=1, description="searches of the store that a replica runs concurrently")
    search_queue_size: int = Field(
        256, ge=0, description="searches that may wait for a thread; further ones get HTTP 429"
    )

    max_lag_ms: float = Field(
        200.0,
        ge=0,
        description="time of one turn of the event loop that counts as full load of a replica, from a fifth of which "
        "searches leave out steps, ms; 0: only the queue of the store counts",
    )

    @property
    def has_tls(self) -> bool:
        """Whether the endpoint speaks https."""
        return self.tls_cert_file is not None

    @model_validator(mode="after")
    def _certificate_has_a_key(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file belong together: set both, or neither")
        return self

    @field_validator("fusion", mode="before")
    @classmethod
    def _refuse_learned(cls, value: object) -> object:
        if value == LEARNED_FUSION:
            raise ValueError(LEARNED_REFUSED)
        return value
