"""The asset store: media by the hash of their bytes, and the sweep that removes those that nothing refers to."""

from penstock.assets.purge import MediaPurge, purge_media
from penstock.assets.store import (
    REFRESH_AFTER_S,
    AssetStore,
    MissingAssetError,
    StoredMedia,
    asset_uri,
    sha256_of,
)
from penstock.assets.sweep import SweepLimits, SweepReport, sweep

__all__ = [
    "REFRESH_AFTER_S",
    "AssetStore",
    "MediaPurge",
    "MissingAssetError",
    "StoredMedia",
    "SweepLimits",
    "SweepReport",
    "asset_uri",
    "purge_media",
    "sha256_of",
    "sweep",
]
