"""Settings of the ingest plane."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from penstock.config.section import MIB, Section
from penstock.records import Modality


class IngestSettings(Section):
    """The lanes, pools, batches and limits of the ingest plane.

    Over the limit because each setting is an attribute.
    """

    modalities: tuple[Modality, ...] = Field(
        (Modality.TEXT, Modality.IMAGE),
        description="modalities whose topics are consumed; unset, `penstock up` takes all that its profile can index",
    )
    lanes: int = Field(1, ge=1, description="consumers; any beyond the number of partitions are idle")

    # --- workers ---
    decoders: int = Field(1, ge=1, description="decode workers; the minimum if max_decoders is set")
    max_decoders: int | None = Field(
        None, ge=1, description="maximum of decode workers, up to which their number follows the load; unset: decoders"
    )
    long_media_decoders: int = Field(
        1,
        ge=1,
        description="further decode workers for long media only; started if audio, video or documents are consumed",
    )
    encoders: int = Field(1, ge=1, description="workers of each encoder; the minimum if max_encoders is set")
    max_encoders: int | None = Field(
        None, ge=1, description="maximum of workers of each encoder, up to which they follow the load; unset: encoders"
    )
    # A batch waits for seconds in between. Shrinking is not urgent: the autoscalers of Kubernetes wait five minutes as
    # well, and a worker that was stopped too early has to load its models again.
    scale_up_after_s: float = Field(15.0, gt=0, description="time of overload after which a pool grows, seconds")
    scale_down_after_s: float = Field(
        300.0, gt=0, description="time in which fewer workers sufficed, after which a pool shrinks, seconds"
    )
    worker_start_timeout_s: float = Field(
        180.0, gt=0, description="time for an added worker to be ready, seconds; raise it if nodes are autoscaled"
    )
    call_timeout_s: float = Field(
        300.0, gt=0, description="time that a worker may take for one batch, seconds; then it is killed as hung"
    )
    worker_cpus: float = Field(
        1.0,
        gt=0,
        description="CPUs that Ray reserves for a worker that decodes or encodes; with less than 1 more of them share "
        "a node than it has CPUs",
    )
    encoder_threads: int = Field(
        0, ge=0, description="CPU threads of an encoder worker without a GPU; 0: every core that the container may use"
    )
    encoder_gpus: float = Field(
        1.0, gt=0, description="GPUs of an encoder worker, where there are any; 0.25: four workers share one"
    )
    preload: bool | None = Field(
        None,
        description="whether models of speech, sounds and the words of images are loaded before the first event, "
        "instead of by the first one that needs them; unset: true, and false for `penstock up`",
    )
    encoder_cache_size: int = Field(
        4_096, ge=0, description="embeddings cached in each encoder worker, by content hash"
    )
    writers: int = Field(1, ge=1, description="writers, sharded by the asset's hash; the embedded store allows one")
    # A real Milvus is slow to answer: some ms, and 0.2 to 0.4 s for a read that has to see the latest writes.
    concurrent_writes: int = Field(
        8, ge=1, description="batches that a writer processes concurrently; the embedded store allows one"
    )

    # --- batches ---
    batch_events: int = Field(32, ge=1, description="number of events at which a batch is dispatched")
    max_batch_events: int = Field(1_024, ge=1, description="largest batch, in events, where more of them wait")
    target_step_ms: int = Field(
        250, ge=1, description="step time below which batches may exceed batch_events, ms; waits for a store excluded"
    )
    max_batch_bytes: int = Field(16 * MIB, ge=1, description="largest batch, bytes; at this size it is dispatched")
    linger_ms: int = Field(
        50, ge=0, description="longest time that the first event of a batch waits for others, milliseconds"
    )
    max_batches_in_flight: int = Field(4, ge=1, description="batches of one topic that a lane processes concurrently")
    max_in_flight_bytes: int = Field(
        128 * MIB,
        ge=1,
        description="bytes of records in flight in a lane, plus 1 KiB a record; above, partitions pause",
    )
    min_free_disk_bytes: int = Field(
        1024 * MIB, ge=0, description="free disk space in data_dir below which ingest pauses, bytes"
    )

    # --- lease ---
    # Long enough for a pause of the broker or of the driver's machine, short enough that a standby takes over in 30 s.
    lease_timeout_s: float = Field(
        10.0,
        ge=1,
        description="time without a confirmation after which another driver may take over, seconds; writers stop at "
        "four fifths of it. Brokers allow 6 s to 1,800 s by default",
    )
    wait_for_lease: bool = Field(
        False, description="whether a second driver of the consumer group waits for the first one to end (--wait)"
    )

    # --- commits and retries ---
    commit_interval_ms: int = Field(500, ge=1, description="interval between commits of offsets, milliseconds")
    drain_timeout_s: float = Field(
        20.0, ge=0, description="wait for work in flight at a stop or when a partition is revoked, seconds"
    )
    initial_backoff_s: float = Field(
        0.2, gt=0, description="longest wait after a first transient failure, seconds; it doubles with each further one"
    )
    max_backoff_s: float = Field(10.0, gt=0, description="longest wait after any transient failure, seconds")

    @property
    def decoder_limit(self) -> int:
        """The maximum of decode workers."""
        return self.max_decoders or self.decoders

    @property
    def preloads(self) -> bool:
        """Whether every model is loaded at the start."""
        return self.preload is not False

    @property
    def encoder_limit(self) -> int:
        """The maximum of workers of each encoder."""
        return self.max_encoders or self.encoders

    @model_validator(mode="after")
    def _maximum_is_not_below_minimum(self) -> Self:
        for name in ("decoders", "encoders"):
            minimum, maximum = getattr(self, name), getattr(self, f"max_{name}")
            if maximum is not None and maximum < minimum:
                raise ValueError(f"max_{name} is {maximum}, less than {name}, which is {minimum}")
        return self
