"""All settings together, read from the command line, the environment and a file."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
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

from penstock.config.audit_log import AuditLogSettings
from penstock.config.auth import AuthSettings
from penstock.config.feedback import FeedbackSettings
from penstock.config.fetch import FetchSettings
from penstock.config.generate import GenerateSettings
from penstock.config.ingest import IngestSettings
from penstock.config.kafka import KafkaSettings
from penstock.config.limits import LimitsSettings
from penstock.config.media import (
    DocumentSettings,
    ImageSettings,
    LongMediaSettings,
    OcrSettings,
    SpeechSettings,
    TextSettings,
    VideoSettings,
)
from penstock.config.media_links import MediaLinkSettings
from penstock.config.observability import CanarySettings, LogSettings, MetricsSettings, TracingSettings
from penstock.config.placement import PlacementSettings
from penstock.config.query import QuerySettings
from penstock.config.quota import QuotaSettings
from penstock.config.replay import ReplaySettings
from penstock.config.retention import RetentionSettings
from penstock.config.secrets import FOLDER, is_secret, keep_in_files, mask_userinfo, remove_variables, secret_names
from penstock.config.section import HasSecrets
from penstock.config.store import AssetStoreSettings, StoreSettings
from penstock.errors import ConfigError

ENV_PREFIX = "PENSTOCK_"
_CONFIG_VARIABLE = "PENSTOCK_CONFIG"


class Settings(HasSecrets, BaseSettings):
    """All settings, frozen and checked when created. Unknown names are refused.

    Over the limit because each setting and each section is an attribute.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        hide_input_in_errors=True,
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
    api_key: SecretStr | None = Field(
        None,
        description="API key or bearer token that commands, the canary and `penstock mcp` send to the query plane; "
        "unset: that of `api_key_file`",
    )
    api_key_file: Path | None = Field(
        None,
        description="file with the API key, read again at each use; unset: the one that `penstock up` made in "
        "`data_dir`, sent to this `up` alone",
    )
    ray_address: str | None = Field(
        None, description="address of a Ray cluster; unset: the embedded one, else a local one"
    )
    auth: AuthSettings = AuthSettings()
    kafka: KafkaSettings = KafkaSettings()
    store: StoreSettings = StoreSettings()
    assets: AssetStoreSettings = AssetStoreSettings()
    fetch: FetchSettings = FetchSettings()
    text: TextSettings = TextSettings()
    image: ImageSettings = ImageSettings()
    ocr: OcrSettings = OcrSettings()
    speech: SpeechSettings = SpeechSettings()
    video: VideoSettings = VideoSettings()
    documents: DocumentSettings = DocumentSettings()
    long_media: LongMediaSettings = LongMediaSettings()
    ingest: IngestSettings = IngestSettings()
    quota: QuotaSettings = QuotaSettings()
    media_links: MediaLinkSettings = MediaLinkSettings()
    limits: LimitsSettings = LimitsSettings()
    replay: ReplaySettings = ReplaySettings()
    retention: RetentionSettings = RetentionSettings()
    placement: PlacementSettings = PlacementSettings()
    query: QuerySettings = QuerySettings()
    feedback: FeedbackSettings = FeedbackSettings()
    generate: GenerateSettings = GenerateSettings()
    metrics: MetricsSettings = MetricsSettings()
    canary: CanarySettings = CanarySettings()
    log: LogSettings = LogSettings()
    audit_log: AuditLogSettings = AuditLogSettings()
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
    def keys_file(self) -> Path:
        """The file of API keys: `auth.keys_file`, else one of `data_dir`."""
        return self.auth.keys_file or self.data_dir / "keys.json"

    @property
    def takes_events(self) -> bool:
        """Whether the query plane takes events by HTTP (`query.accept_events`)."""
        accepts = self.query.accept_events
        return not self.auth.allow_anonymous if accepts is None else accepts

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


def keep_secrets_in_files(settings: Settings, command: str) -> Settings:
    """Returns the settings of a process that starts others: with the secrets in files of the data folder.

    The variables that hold secrets are removed from the environment, which children inherit.

    Args:
        settings: those that are already in files stay where they are.
        command: has files of its own, as the planes may share a data folder and log in as different users.

    Raises:
        ConfigError: a file cannot be written.
    """
    kept = keep_in_files(settings, settings.data_dir / FOLDER / command)
    secrets = list(secret_names(Settings))
    sections = {path[0] for path in secrets}  # a section's variable is a JSON object with its secrets in it
    remove_variables([ENV_PREFIX + "__".join(path) for path in (*secrets, *((section,) for section in sections))])
    return kept


def to_environment(settings: Settings) -> dict[str, str]:
    """Returns the variables from which `load_settings` gives equal settings in a child process.

    Nothing in the child's own environment or files changes them. Secrets are in files, of which they have the paths.
    """
    kept = keep_in_files(settings, settings.data_dir / FOLDER / "children")
    values = kept.model_dump(mode="json")
    environment = {
        f"{ENV_PREFIX}{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
        if value is not None
    }
    return environment | {_CONFIG_VARIABLE: os.devnull}


def config_file() -> Path:
    """Returns the path of the settings file, whether it exists or not."""
    return Path(os.environ.get(_CONFIG_VARIABLE, "penstock.toml"))


def _first_problem(exc: ValidationError) -> str:
    problem = exc.errors()[0]
    name = ".".join(str(part) for part in problem["loc"]) or "settings"
    more = f" (and {exc.error_count() - 1} more)" if exc.error_count() > 1 else ""
    value = f", got {mask_userinfo(repr(problem['input']))}" if _is_shown(problem["loc"], problem["input"]) else ""
    return f"setting {name}: {problem['msg']}{value}{more}. `penstock config` lists all settings."


def _is_shown(path: Sequence[int | str], value: object) -> bool:
    """Returns whether a refused value may be shown: not a secret, a section with secrets, or one of an unknown name."""
    model: type[BaseModel] = Settings
    for name in path:
        field = model.model_fields.get(str(name))
        if field is None or is_secret(field.annotation):
            return False
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return not isinstance(value, Mapping)
        model = field.annotation
    return False
