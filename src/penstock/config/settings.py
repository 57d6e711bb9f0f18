"""All settings together, read from the command line, the environment and a file."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from platformdirs import user_data_path
from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from penstock.config.ingest import IngestSettings
from penstock.config.kafka import KafkaSettings
from penstock.config.media import (
    FetchSettings,
    ImageSettings,
    LongMediaSettings,
    OcrSettings,
    SpeechSettings,
    TextSettings,
    VideoSettings,
)
from penstock.config.observability import CanarySettings, LogSettings, MetricsSettings, TracingSettings
from penstock.config.placement import PlacementSettings
from penstock.config.query import QuerySettings
from penstock.config.store import AssetStoreSettings, StoreSettings
from penstock.config.understand import GenerateSettings
from penstock.errors import ConfigError

ENV_PREFIX = "PENSTOCK_"
_CONFIG_VARIABLE = "PENSTOCK_CONFIG"


class Settings(BaseSettings):
    """All settings, frozen and checked when created. Unknown names are refused.

    Over the limit because each setting and each section is an attribute.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", env_ignore_empty=True
    )

    profile: str = Field(
        "auto",
        description="set of models: reference, shelf, small, gpu or a TOML file (see `penstock models`); auto: the one "
        "that the data folder began with, for a new folder shelf where its packages are installed, else reference",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="number format of the models: auto, fp32, bf16 or fp16; auto: bf16 where the device is fast"
    )
    device: str = Field(
        "auto",
        description="device of the encoders: auto, cpu, cuda, cuda:N or mps; with cuda those of the ingest "
        "plane wait for nodes with GPUs, with auto they take GPUs if the Ray cluster has some when the plane starts",
    )
    tenant: str = Field("default", description="tenant of events and queries that name none")
    data_dir: Path = Field(
        default_factory=lambda: user_data_path("penstock"), description="folder of the embedded services and of state"
    )
    ray_address: str | None = Field(
        None, description="address of a Ray cluster; unset: the embedded one, else a local one"
    )
    kafka: KafkaSettings = KafkaSettings()
    store: StoreSettings = StoreSettings()
    assets: AssetStoreSettings = AssetStoreSettings()
    fetch: FetchSettings = FetchSettings()
    text: TextSettings = TextSettings()
    image: ImageSettings = ImageSettings()
    ocr: OcrSettings = OcrSettings()
    speech: SpeechSettings = SpeechSettings()
    video: VideoSettings = VideoSettings()
    long_media: LongMediaSettings = LongMediaSettings()
    ingest: IngestSettings = IngestSettings()
    placement: PlacementSettings = PlacementSettings()
    query: QuerySettings = QuerySettings()
    generate: GenerateSettings = GenerateSettings()
    metrics: MetricsSettings = MetricsSettings()
    canary: CanarySettings = CanarySettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Returns the sources, the first of which wins: the caller, the environment, the file."""
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_file()))

    @field_validator("profile")
    @classmethod
    def _absolute_profile(cls, value: str) -> str:
        """Makes the path of a profile's file absolute: the processes of both planes run in folders of their own."""
        path, colon, choices = value.partition(".toml:")
        if colon:
            return str(Path(f"{path}.toml").expanduser().absolute()) + f":{choices}"
        return str(Path(value).expanduser().absolute()) if value.endswith(".toml") else value

    @property
    def asset_store_url(self) -> str:
        """The asset store's URL: that of `assets.url`, else of a folder of `data_dir`."""
        return self.assets.url or (self.data_dir / "assets").as_uri()

    @property
    def metrics_dir(self) -> Path:
        """The folder in which each process of a node keeps the files of its metrics."""
        return self.data_dir / "metrics"


def load_settings(**overrides: object) -> Settings:
    """Reads file and environment. Nested overrides are mappings: `kafka={"group": "g"}`.

    Raises:
        ConfigError: a setting is invalid; one line with its name, its value and what is allowed.
    """
    try:
        return Settings(**cast(Mapping[str, Any], overrides))
    except ValidationError as exc:
        raise ConfigError(_first_problem(exc)) from exc
    except SettingsError as exc:  # a section's variable that is not JSON
        raise ConfigError(f"environment: {exc}. A section is a JSON object; `penstock config` lists the names") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{config_file()} is not valid TOML: {exc}") from exc


def to_environment(settings: Settings) -> dict[str, str]:
    """Returns the variables from which `load_settings` gives equal settings in a child process.

    Nothing in the child's own environment or files changes them. They contain secrets as plain text: pass them to a
    process, and never write them down.
    """
    values: dict[str, Any] = _plain(settings)
    environment = {
        f"{ENV_PREFIX}{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
        if value is not None
    }
    return environment | {_CONFIG_VARIABLE: os.devnull}


def config_file() -> Path:
    """Returns the path of the settings file, whether it exists or not."""
    return Path(os.environ.get(_CONFIG_VARIABLE, "penstock.toml"))


def _plain(model: BaseModel) -> dict[str, Any]:
    """Returns JSON-like values with the secrets as plain text."""
    values = model.model_dump(mode="json")
    for name, value in model:
        if isinstance(value, SecretStr):
            values[name] = value.get_secret_value()
        elif isinstance(value, BaseModel):
            values[name] = _plain(value)
    return values


def _first_problem(exc: ValidationError) -> str:
    problem = exc.errors()[0]
    name = ".".join(str(part) for part in problem["loc"]) or "settings"
    more = f" (and {exc.error_count() - 1} more)" if exc.error_count() > 1 else ""
    return f"setting {name}: {problem['msg']}, got {problem['input']!r}{more}. `penstock config` lists all settings."
