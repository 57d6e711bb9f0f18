"""All settings, in one place: the only package that reads settings files and the environment.

A setting comes from the first source that has it: the command line; an environment variable (`PENSTOCK_` and the names
joined by two underscores, such as `PENSTOCK_KAFKA__BOOTSTRAP_SERVERS`); the file that `PENSTOCK_CONFIG` names, else
`penstock.toml` in the working directory; the default. `penstock config` shows each with its source.
"""

from penstock.config.endpoints import (
    Endpoints,
    demo_folder,
    endpoints_file,
    read_endpoints,
    start_hint,
    with_endpoints,
    write_endpoints,
)
from penstock.config.explain import ExplainedSetting, explain
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
from penstock.config.query import (
    LEARNED_FUSION,
    LEARNED_REFUSED,
    FirstPlaceRule,
    FusionMethod,
    Normalisation,
    QuerySettings,
    SourceSettings,
)
from penstock.config.section import MIB
from penstock.config.settings import Settings, load_settings, to_environment
from penstock.config.store import AssetStoreSettings, StoreSettings
from penstock.config.understand import GenerateSettings, SpellingMode, UnderstandSettings

__all__ = [
    "AssetStoreSettings",
    "CanarySettings",
    "Endpoints",
    "ExplainedSetting",
    "FetchSettings",
    "FirstPlaceRule",
    "FusionMethod",
    "GenerateSettings",
    "ImageSettings",
    "IngestSettings",
    "KafkaSettings",
    "LEARNED_FUSION",
    "LEARNED_REFUSED",
    "LongMediaSettings",
    "MIB",
    "LogSettings",
    "MetricsSettings",
    "Normalisation",
    "OcrSettings",
    "QuerySettings",
    "SourceSettings",
    "Settings",
    "SpeechSettings",
    "SpellingMode",
    "StoreSettings",
    "TextSettings",
    "TracingSettings",
    "UnderstandSettings",
    "VideoSettings",
    "demo_folder",
    "endpoints_file",
    "explain",
    "load_settings",
    "read_endpoints",
    "start_hint",
    "to_environment",
    "with_endpoints",
    "write_endpoints",
]
