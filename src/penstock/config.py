"""Every setting, in one place: the only module that reads files and the environment.

A setting comes from, the first that has it: the command line, an environment variable (`PENSTOCK_` and the names joined
by two underscores, such as `PENSTOCK_KAFKA__BOOTSTRAP_SERVERS`), the file that `PENSTOCK_CONFIG` names or else
`penstock.toml` in the working folder, the default below. `penstock config` prints them all with where each came from.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from platformdirs import user_data_path
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from penstock.errors import ConfigError
from penstock.records import Collection, Modality

MIB = 1024 * 1024
_ENV_PREFIX = "PENSTOCK_"
_CONFIG_VARIABLE = "PENSTOCK_CONFIG"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(_Section):
    """The broker and the topics."""

    bootstrap_servers: str | None = Field(None, description="host:port,…; unset: the embedded broker of data_dir")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: str | None = Field(None, description="PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER")
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: Path | None = None
    group: str = Field("penstock", description="consumer group of the ingest plane")
    text_topic: str = "media.text"
    image_topic: str = "media.image"
    audio_topic: str = "media.audio"
    video_topic: str = "media.video"
    dead_letter_topic: str = "media.dlq"
    partitions: int = Field(4, ge=1, description="partitions of a topic that Penstock creates; existing ones are kept")
    replication_factor: int = Field(1, ge=1, description="replication factor of a topic that Penstock creates")
    max_message_bytes: int = Field(16 * MIB, ge=1024, description="largest message of a media topic, in bytes")
    # Kafka's own default is 45 s. A lane that was killed says no goodbye, and for so long nobody takes its partitions;
    # heartbeats come from a thread of their own, so that a busy lane does not miss them.
    session_timeout_ms: int = Field(
        15_000, ge=1_000, description="a lane that is silent for so long loses its partitions"
    )
    max_poll_interval_ms: int = Field(300_000, ge=1_000)

    def topics(self) -> Mapping[str, Modality]:
        """The media topics with the one modality of each."""
        return {
            self.text_topic: Modality.TEXT,
            self.image_topic: Modality.IMAGE,
            self.audio_topic: Modality.AUDIO,
            self.video_topic: Modality.VIDEO,
        }

    def topic_of(self, modality: Modality) -> str:
        return {found: topic for topic, found in self.topics().items()}[modality]

    @model_validator(mode="after")
    def _topics_differ(self) -> Self:
        names = [
            self.text_topic,
            self.image_topic,
            self.audio_topic,
            self.video_topic,
            self.dead_letter_topic,
        ]
        if len(set(names)) != len(names):
            raise ValueError(f"a topic is of one modality, but a name is used twice in {names}")
        return self


class StoreSettings(_Section):
    """The Milvus that holds the index."""

    uri: str | None = Field(None, description="http(s)://host:port; unset: the embedded Milvus Lite of data_dir")
    token: SecretStr | None = Field(None, description="user:password or an API key")
    database: str = "default"
    num_shards: int = Field(2, ge=1, description="shards of a new collection, where the store has shards")
    consistency: Literal["Strong", "Bounded", "Session", "Eventually"] = Field(
        "Bounded", description="of searches; reads that a decision rests on are always Strong"
    )
    timeout_s: float = Field(30.0, gt=0, description="of one request to the store")
    version: int = Field(1, ge=1, description="version of the physical collections to write, image__<model>__v1")


class AssetStoreSettings(_Section):
    """Where inline media are kept, so that a result can always be shown."""

    url: str | None = Field(None, description="any fsspec URL, such as s3://bucket/media; unset: a folder of data_dir")
    grace_s: float = Field(86_400.0, ge=0, description="age under which media are never swept, seconds")
    sweep_interval_s: float = Field(3_600.0, gt=0, description="how often what nothing refers to is swept, seconds")


class FetchSettings(_Section):
    """What a claim check (`dataref`) may point to. Everything is refused that is not allowed here."""

    allowed_roots: tuple[Path, ...] = Field((), description="folders whose files may be claimed by file: addresses")
    allowed_schemes: tuple[str, ...] = Field(
        ("file", "http", "https", "s3"), description="schemes that are allowed at all"
    )
    allow_private_addresses: bool = Field(
        False, description="allow hosts that resolve to loopback, private, link-local"
    )
    max_bytes: int = Field(256 * MIB, ge=1, description="largest media, in bytes, fetched or inline")
    deadline_s: float = Field(30.0, gt=0, description="for one claim check with all its tries; then `unreachable`")
    s3_endpoint: str | None = Field(None, description="endpoint of an S3-compatible store")


class TextSettings(_Section):
    """How text is cut into passages."""

    max_passage_tokens: int = Field(200, ge=16, description="most tokens of the sentence encoder in a passage")
    overlap_tokens: int = Field(
        40, ge=0, description="tokens of whole sentences repeated at the head of the next passage"
    )
    max_passages: int = Field(10_000, ge=1, description="a text of more passages is rejected as too large")

    @model_validator(mode="after")
    def _overlap_is_smaller(self) -> Self:
        if self.overlap_tokens * 2 > self.max_passage_tokens:
            raise ValueError("overlap_tokens may be at most half of max_passage_tokens")
        return self


class ImageSettings(_Section):
    """Limits of pictures."""

    max_pixels: int = Field(178_956_970, ge=1, description="width × height above which a picture is refused as a bomb")


class SpeechSettings(_Section):
    """How speech is found in sound, and cut into passages."""

    threshold: float = Field(0.5, gt=0, lt=1, description="probability of speech at which a window of speech begins")
    min_silence_ms: int = Field(2_000, ge=100, description="silence that ends a window of speech, milliseconds")
    min_passage_s: float = Field(5.0, ge=0, description="a shorter passage goes on, if the speech does, seconds")
    max_passage_s: float = Field(30.0, gt=0, description="and never beyond this, seconds")
    language: str | None = Field(None, description="ISO 639-1 code of all speech; unset: the model tells, by window")


class VideoSettings(_Section):
    """What counts as a shot, and how its picture is kept."""

    scene_threshold: float = Field(
        0.08, gt=0, lt=1, description="how much of full brightness pixels differ by, in the mean, for a new shot"
    )
    max_sample_gap_ms: int = Field(
        5_000, ge=100, description="no longer than this goes by without looking, milliseconds"
    )
    min_shot_ms: int = Field(
        500, ge=0, description="a shot that is over sooner belongs to the one before, milliseconds"
    )
    thumbnail_px: int = Field(320, ge=16, le=640, description="longer side of a shot's thumbnail; it is kept as JPEG")


class LongMediaSettings(_Section):
    """Long media are indexed a slice at a time. What is lost with a worker, a lane or a partition is done again: of
    each medium a slice, and the shot or the speech that was under way at its start, at most two minutes more.
    """

    first_segment_s: float = Field(60.0, gt=0, description="media up to so long are indexed at once, seconds")
    segment_s: float = Field(120.0, gt=0, description="length of each further slice, seconds")
    max_worker_s: float = Field(
        20.0,
        gt=0,
        description="slices of a batch end sooner once their worker has read for so long, seconds of the clock",
    )
    transcription_chunk_s: float | None = Field(
        None,
        gt=0,
        description="the transcriber hears long media for so long at a time, seconds; clips go in between; unset: 0.1 "
        "on a CPU, 1 on a GPU",
    )
    max_concurrent: int = Field(
        2, ge=1, description="long media of one topic under way at once, in one lane; the rest wait"
    )
    max_open: int = Field(4, ge=1, description="long media that a decode worker keeps open between two slices")


class IngestSettings(_Section):
    """The ingest plane: lanes, pools, batches and budgets."""

    modalities: tuple[Modality, ...] = Field((Modality.TEXT, Modality.IMAGE), description="topics that are consumed")
    lanes: int = Field(1, ge=1, description="consumers; more than there are partitions idle")
    decoders: int = Field(1, ge=1, description="decode workers, a CPU each; the fewest, if max_decoders is set")
    max_decoders: int | None = Field(
        None, ge=1, description="decode workers at most: their number follows the load; unset: it stays at decoders"
    )
    long_media_decoders: int = Field(
        1, ge=1, description="decode workers more, for long sound and film alone; only where those are taken in"
    )
    encoders: int = Field(1, ge=1, description="workers of each encoder; the fewest, if max_encoders is set")
    max_encoders: int | None = Field(
        None, ge=1, description="workers of each encoder at most, as the load asks for; unset: it stays at encoders"
    )
    # A batch waits for seconds meanwhile. Shrinking has time: the autoscalers of Kubernetes wait five minutes too, and
    # what is let go has to load its models again.
    scale_up_after_s: float = Field(15.0, gt=0, description="a pool grows once it has been overloaded for so long")
    scale_down_after_s: float = Field(300.0, gt=0, description="a pool shrinks once fewer workers did for so long")
    worker_start_timeout_s: float = Field(
        180.0,
        gt=0,
        description="a further worker is given up if it is not ready by then; more for an autoscaler's node",
    )
    call_timeout_s: float = Field(
        300.0, gt=0, description="a worker that is busy with one batch for so long is taken to hang, and killed"
    )
    encoder_threads: int = Field(0, ge=0, description="CPU threads of an encoder worker without a GPU; 0: every core")
    encoder_gpus: float = Field(
        1.0, gt=0, description="GPUs of an encoder worker, where there are any; 0.25: four share one"
    )
    writers: int = Field(1, ge=1, description="writers, sharded by the asset's hash; the embedded store allows one")
    # A real Milvus is slow to answer: some ms, and 0.2 to 0.4 s where a read has to see what was written just before.
    concurrent_writes: int = Field(
        8, ge=1, description="batches that a writer has under way at once; the embedded store allows one"
    )
    batch_events: int = Field(32, ge=1, description="a batch goes at so many events")
    max_batch_events: int = Field(1_024, ge=1, description="where more wait, a batch takes up to so many")
    target_step_ms: int = Field(
        250, ge=1, description="as long as its slowest step, the wait for a store aside, takes no longer than this, ms"
    )
    max_batch_bytes: int = Field(16 * MIB, ge=1, description="a batch goes, and is full, at so many bytes")
    linger_ms: int = Field(50, ge=0, description="or when its first event has waited so long")
    max_batches_in_flight: int = Field(4, ge=1, description="batches of one topic under way at once, in one lane")
    max_in_flight_bytes: int = Field(
        128 * MIB, ge=1, description="bytes in flight in a lane, its records and 1 kB for each; above, partitions pause"
    )
    commit_interval_ms: int = Field(500, ge=1)
    drain_timeout_s: float = Field(
        20.0, ge=0, description="how long a stop or a revoked partition waits for what is in flight"
    )
    encoder_cache_size: int = Field(4_096, ge=0, description="vectors kept in each encoder worker, by content hash")
    min_free_disk_bytes: int = Field(1024 * MIB, ge=0, description="below so much free disk in data_dir, ingest pauses")
    initial_backoff_s: float = Field(0.2, gt=0)
    max_backoff_s: float = Field(10.0, gt=0)

    @property
    def decoder_limit(self) -> int:
        return self.max_decoders or self.decoders

    @property
    def encoder_limit(self) -> int:
        """Of each role."""
        return self.max_encoders or self.encoders

    @model_validator(mode="after")
    def _pools_have_a_range(self) -> Self:
        for name in ("decoders", "encoders"):
            fewest, most = getattr(self, name), getattr(self, f"max_{name}")
            if most is not None and most < fewest:
                raise ValueError(f"max_{name} is {most}, less than {name}, which is {fewest}")
        return self


class QuerySettings(_Section):
    """The query plane."""

    host: str = Field("127.0.0.1", description="address that the HTTP endpoint listens on")
    port: int = Field(8600, ge=0, le=65535, description="port of the HTTP endpoint; 0: a free one")
    replicas: int = Field(1, ge=1)
    limit: int = Field(10, ge=1, description="hits when a request names no limit")
    max_limit: int = Field(200, ge=1)
    deadline_ms: int = Field(2_000, ge=10, description="for a whole search when a request names no deadline")
    candidates: int = Field(50, ge=1, description="entries asked of each channel, at least the limit")
    # On the 237 sample texts beside 1,000 picture vectors, titles as queries: the right text is among the first ten for
    # 0.81 with the paper's 60 and for 0.88 with 10; for their sentences 0.997 and 1.0. The paper fused rankings of a
    # thousand entries, here they are of 50.
    rrf_k: int = Field(10, ge=1, description="k of reciprocal rank fusion (Cormack et al., 2009)")
    weights: Mapping[Collection, float] = Field(
        default_factory=lambda: dict.fromkeys(Collection, 1.0),
        description="weight of each collection in fusion",
    )
    # A passage of speech lasts 5 to 30 s and a shot mostly less: room for one, its neighbours and the shots beside it.
    max_moment_gap_ms: int = Field(
        5_000, ge=0, description="what was found of one recording no further apart than so is one moment, milliseconds"
    )
    max_moment_ms: int = Field(
        120_000, ge=1, description="longest moment, milliseconds; a shot that lasts longer stands alone"
    )
    vector_cache_size: int = Field(10_000, ge=0, description="query vectors kept")
    max_image_bytes: int = Field(20 * MIB, ge=1, description="largest picture in a request")
    max_audio_bytes: int = Field(20 * MIB, ge=1, description="largest sound in a request: a question by voice")
    max_audio_s: float = Field(60.0, gt=0, description="longest question by voice, seconds")
    # Whisper base takes some 2 s for a question on two cores: a full line is worked off within the time of the last.
    transcription_timeout_s: float = Field(
        30.0, gt=0, description="for the words of a question by voice, before its search begins, seconds"
    )
    transcription_queue_size: int = Field(
        8, ge=0, description="questions by voice that may wait for the one that is listened to; beyond, HTTP 429"
    )
    search_threads: int = Field(16, ge=1, description="searches of the store under way at once, in one replica")
    search_queue_size: int = Field(256, ge=0, description="searches that may wait for a thread; beyond, HTTP 429")
    replica_cpus: float = Field(
        0.0, ge=0, description="CPUs that Ray sets aside for a replica; 0: it is placed on any node, also a full one"
    )
    replica_gpus: float = Field(0.0, ge=0, description="GPUs of a replica, for its query encoders; 0: they run on CPU")


class MetricsSettings(_Section):
    """Metrics for Prometheus: one endpoint a node, for all processes of both planes there."""

    enabled: bool = True
    host: str = Field("127.0.0.1", description="address that each node's endpoint listens on; 0.0.0.0 in a cluster")
    port: int = Field(8601, ge=0, le=65535, description="port of the endpoint, http://host:port/metrics; 0: a free one")


class CanarySettings(_Section):
    """Marked events that the ingest plane sends through everything, to measure produced → found by a real query."""

    interval_s: float = Field(10.0, ge=0, description="seconds between two; 0: none are sent")
    timeout_s: float = Field(30.0, gt=0, description="one that is not found within so long counts as late, seconds")
    query_url: str | None = Field(
        None, description="query plane that is asked; unset: the one of `penstock up`, without which none are sent"
    )


class Settings(BaseSettings):
    """All settings. Frozen; checked when made; unknown names are refused."""

    model_config = SettingsConfigDict(
        env_prefix=_ENV_PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", env_ignore_empty=True
    )

    profile: str = Field("reference", description="models: reference, small or gpu (`penstock models`)")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the device is fast at it"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N, for encoders")
    tenant: str = Field("default", description="tenant of events and queries that name none")
    data_dir: Path = Field(
        default_factory=lambda: user_data_path("penstock"), description="folder of the embedded services"
    )
    ray_address: str | None = Field(None, description="a Ray cluster; unset: the embedded one, else a local one")
    kafka: KafkaSettings = KafkaSettings()
    store: StoreSettings = StoreSettings()
    assets: AssetStoreSettings = AssetStoreSettings()
    fetch: FetchSettings = FetchSettings()
    text: TextSettings = TextSettings()
    image: ImageSettings = ImageSettings()
    speech: SpeechSettings = SpeechSettings()
    video: VideoSettings = VideoSettings()
    long_media: LongMediaSettings = LongMediaSettings()
    ingest: IngestSettings = IngestSettings()
    query: QuerySettings = QuerySettings()
    metrics: MetricsSettings = MetricsSettings()
    canary: CanarySettings = CanarySettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=_config_file()))

    @property
    def asset_store_url(self) -> str:
        return self.assets.url or (self.data_dir / "assets").as_uri()

    @property
    def metrics_dir(self) -> Path:
        """Where the processes of a node count, each into files of its own."""
        return self.data_dir / "metrics"


class Endpoints(_Section):
    """Where the services of a running `penstock up` listen; kept in `data_dir/endpoints.json` while it runs."""

    pid: int
    bootstrap_servers: str
    store_uri: str
    ray_address: str
    query_url: str
    metrics_url: str | None = None


def load_settings(**overrides: Any) -> Settings:
    """Reads file and environment. Nested overrides are mappings: `kafka={"group": "g"}`.

    Raises:
        ConfigError: one line that names the setting, its value and what is allowed.
    """
    try:
        return Settings(**overrides)
    except ValidationError as exc:
        raise ConfigError(_first_problem(exc)) from exc
    except SettingsError as exc:  # a section's variable that is not JSON
        raise ConfigError(f"environment: {exc}. A section is a JSON object; `penstock config` lists the names") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{_config_file()} is not valid TOML: {exc}") from exc


def to_environment(settings: Settings) -> dict[str, str]:
    """The variables from which `load_settings` makes these very settings in a child process, whatever its own were.

    Secrets stand in it as plain text: hand it to a process, never write it down.
    """
    values: dict[str, Any] = _plain(settings)
    environment = {
        f"{_ENV_PREFIX}{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
        if value is not None
    }
    return environment | {_CONFIG_VARIABLE: os.devnull}


@dataclass(frozen=True, slots=True)
class ExplainedSetting:
    """One setting for people: its dotted name, what it is, and where that came from."""

    name: str
    value: Any
    source: str
    variable: str
    default: Any
    description: str


def explain(settings: Settings, overrides: Mapping[str, Any]) -> tuple[ExplainedSetting, ...]:
    """Every setting, in order. Secrets are masked.

    Args:
        settings: as loaded.
        overrides: what `load_settings` was given.
    """
    file = _read_toml(_config_file())
    found: list[ExplainedSetting] = []
    for path, info, value in _leaves(settings):
        variable = _ENV_PREFIX + "__".join(path).upper()
        if _reaches(overrides, path):
            source = "command line"
        elif set_by := _variable_that_sets(path):
            source = f"environment: {set_by}"
        elif _reaches(file, path):
            source = f"file: {_config_file()}"
        else:
            source = "default"
        default = info.get_default(call_default_factory=True)
        shown = str(value) if isinstance(value, SecretStr) else value
        found.append(ExplainedSetting(".".join(path), shown, source, variable, default, info.description or ""))
    return tuple(found)


def with_endpoints(settings: Settings) -> Settings:
    """Fills unset addresses from the `penstock up` that runs on the same data folder, if one does."""
    found = read_endpoints(settings.data_dir)
    if found is None:
        return settings
    kafka, store = settings.kafka, settings.store
    if kafka.bootstrap_servers is None:
        kafka = kafka.model_copy(update={"bootstrap_servers": found.bootstrap_servers})
    if store.uri is None:
        store = store.model_copy(update={"uri": found.store_uri})
    ray_address = settings.ray_address or found.ray_address
    return settings.model_copy(update={"kafka": kafka, "store": store, "ray_address": ray_address})


def endpoints_file(data_dir: Path) -> Path:
    return data_dir / "endpoints.json"


def read_endpoints(data_dir: Path) -> Endpoints | None:
    """The endpoints of the `penstock up` that runs on this folder; None if none does."""
    try:
        endpoints = Endpoints.model_validate(json.loads(endpoints_file(data_dir).read_text()))
        os.kill(endpoints.pid, 0)
    except (OSError, ValueError):
        return None
    return endpoints


def demo_folder(settings: Settings) -> Path:
    """Where the demo keeps its data, apart from the user's own."""
    return settings.data_dir / "demo"


def start_hint(settings: Settings) -> str:
    """What to do when nothing runs on the data folder: one sentence."""
    demo = demo_folder(settings)
    if read_endpoints(demo) is not None:
        return f"Start one with `penstock up`, or use the demo that runs: `penstock --data-dir {demo} …`"
    return "Start one with `penstock up`"


def write_endpoints(data_dir: Path, endpoints: Endpoints) -> None:
    """Replaces the file in one step, so that a reader never sees half of it."""
    target = endpoints_file(data_dir)
    temporary = target.with_suffix(".tmp")
    temporary.write_text(endpoints.model_dump_json(indent=2))
    temporary.replace(target)


def _config_file() -> Path:
    return Path(os.environ.get(_CONFIG_VARIABLE, "penstock.toml"))


def _read_toml(file: Path) -> Mapping[str, Any]:
    return tomllib.loads(file.read_text()) if file.is_file() else {}


def _plain(model: BaseModel) -> dict[str, Any]:
    """JSON-like values with the secrets in clear."""
    values = model.model_dump(mode="json")
    for name, value in model:
        if isinstance(value, SecretStr):
            values[name] = value.get_secret_value()
        elif isinstance(value, BaseModel):
            values[name] = _plain(value)
    return values


def _leaves(model: BaseModel, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo, Any]]:
    """(path, field, value) of every setting that is not a section, in order."""
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), info, value


def _reaches(tree: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    """Whether nested mappings hold something at the path."""
    found: Any = tree
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return False
        found = found[name]
    return True


def _variable_that_sets(path: tuple[str, ...]) -> str | None:
    """The environment variable that gives this setting: its own, or its section's as a JSON object."""
    given = {name.upper(): value for name, value in os.environ.items() if value}
    own = _ENV_PREFIX + "__".join(path).upper()
    if own in given:
        return own
    section = _ENV_PREFIX + path[0].upper()
    if len(path) > 1 and section in given and _reaches(json.loads(given[section]), path[1:]):
        return section
    return None


def _first_problem(exc: ValidationError) -> str:
    problem = exc.errors()[0]
    name = ".".join(str(part) for part in problem["loc"]) or "settings"
    more = f" (and {exc.error_count() - 1} more)" if exc.error_count() > 1 else ""
    return f"setting {name}: {problem['msg']}, got {problem['input']!r}{more}. `penstock config` lists all settings."
