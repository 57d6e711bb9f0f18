"""All settings, in one place: the only package that reads settings files and the environment.

A setting comes from the first source that has it: the command line; an environment variable (`PENSTOCK_` and the names
joined by two underscores, such as `PENSTOCK_KAFKA__BOOTSTRAP_SERVERS`); the file that `PENSTOCK_CONFIG` names, else
`penstock.toml` in the working directory; the default. `penstock config` shows each with its source.
"""

from penstock.config.addresses import is_loopback
from penstock.config.audit_log import AuditLogSettings
from penstock.config.auth import AuthSettings
from penstock.config.credentials import api_key_for, authorization_for, local_key_file, metrics_authorization
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
from penstock.config.feedback import FeedbackSettings
from penstock.config.fetch import FetchRule, FetchSettings
from penstock.config.generate import GenerateSettings, UnsupportedRule
from penstock.config.ingest import IngestSettings
from penstock.config.kafka import KafkaOAuthSettings, KafkaSettings
from penstock.config.limits import LimitsSettings, RequestLimits
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
from penstock.config.oidc import OidcSettings
from penstock.config.query import (
    LEARNED_FUSION,
    LEARNED_REFUSED,
    FirstPlaceRule,
    FusionMethod,
    Normalisation,
    QuerySettings,
    SourceSettings,
)
from penstock.config.quota import QuotaSettings, TenantQuota
from penstock.config.secrets import mask_userinfo, without_secrets
from penstock.config.section import MIB
from penstock.config.settings import Settings, keep_secrets_in_files, load_settings, to_environment
from penstock.config.store import LITE_CEILING, LITE_ENTRIES, STANDALONE_LACKS, AssetStoreSettings, StoreSettings
from penstock.config.understand import SpellingMode, UnderstandSettings
from penstock.config.vector_index import VectorIndexSettings

__all__ = [
    "AssetStoreSettings",
    "AuthSettings",
    "AuditLogSettings",
    "CanarySettings",
    "DocumentSettings",
    "Endpoints",
    "ExplainedSetting",
    "FetchRule",
    "FeedbackSettings",
    "FetchSettings",
    "FirstPlaceRule",
    "FusionMethod",
    "GenerateSettings",
    "ImageSettings",
    "IngestSettings",
    "KafkaOAuthSettings",
    "KafkaSettings",
    "LEARNED_FUSION",
    "LEARNED_REFUSED",
    "LITE_CEILING",
    "LITE_ENTRIES",
    "LimitsSettings",
    "LongMediaSettings",
    "MIB",
    "LogSettings",
    "MediaLinkSettings",
    "MetricsSettings",
    "Normalisation",
    "OcrSettings",
    "OidcSettings",
    "QuerySettings",
    "QuotaSettings",
    "STANDALONE_LACKS",
    "SourceSettings",
    "RequestLimits",
    "Settings",
    "SpeechSettings",
    "SpellingMode",
    "StoreSettings",
    "TenantQuota",
    "TextSettings",
    "TracingSettings",
    "UnderstandSettings",
    "UnsupportedRule",
    "api_key_for",
    "authorization_for",
    "VideoSettings",
    "demo_folder",
    "endpoints_file",
    "explain",
    "is_loopback",
    "keep_secrets_in_files",
    "load_settings",
    "local_key_file",
    "mask_userinfo",
    "metrics_authorization",
    "read_endpoints",
    "start_hint",
    "to_environment",
    "with_endpoints",
    "without_secrets",
    "write_endpoints",
    "VectorIndexSettings",
]
