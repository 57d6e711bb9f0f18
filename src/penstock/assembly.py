"""Opens the store, the asset store and Ray as the settings say, for every process that needs them.

Imports are made inside the functions: a process that opens no store does not spend 50 MB on its client.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.config import Settings, StoreSettings, read_endpoints
from penstock.errors import ConfigError, UnavailableError
from penstock.observability.logs import is_json

if TYPE_CHECKING:
    from penstock.assets import AssetStore
    from penstock.store.clicks import ClickTable
    from penstock.store.milvus.store import MilvusStore


def open_store(
    settings: StoreSettings,
    before_write: Callable[[], None] | None = None,
    *,
    for_queries: bool = False,
    version: int | None = None,
) -> MilvusStore:
    """Connects to the Milvus of the settings. The caller closes it.

    Args:
        settings: of the store.
        before_write: called before each request that changes rows; what it raises stops the write.
        for_queries: takes the read-only token of the settings, if there is one, and creates nothing then.
        version: searches go to the collections of this version; None: to whatever the aliases serve.

    Raises:
        ConfigError: no store is configured.
        UnavailableError: it does not answer.
    """
    from penstock.store.milvus.client import no_op
    from penstock.store.milvus.store import MilvusStore

    if settings.uri is None:
        raise ConfigError("no store is configured: set store.uri (PENSTOCK_STORE__URI), or start one: `penstock up`")
    return MilvusStore(settings, before_write or no_op, for_queries=for_queries, version=version)


def open_version(settings: StoreSettings, version: int) -> MilvusStore:
    """Connects to the store for the rows and entries of one version of the index, whatever is served.

    Raises:
        ConfigError: there is no such version, or no store is configured.
        UnavailableError: it does not answer.
    """
    store = open_store(settings)
    try:
        store.use_version(version, store.collections_of(version))
    except BaseException:
        store.close()
        raise
    return store


def open_clicks(settings: StoreSettings, encoder: str, *, for_queries: bool = False) -> ClickTable:
    """Opens the click memory in the Milvus of the settings. The caller closes it.

    Args:
        settings: of the store.
        encoder: of the questions that it compares (`encoders.questions.question_encoder`).
        for_queries: takes the read-only token of the settings, if there is one, and creates nothing then.

    Raises:
        ConfigError: no store is configured.
    """
    from penstock.store.milvus.clicks import MilvusClicks

    return MilvusClicks(settings, encoder, for_queries=for_queries)


def open_assets(settings: Settings) -> AssetStore:
    """Opens the asset store of the settings, by default a folder of `data_dir`.

    Raises:
        ConfigError: the URL cannot be used.
    """
    from penstock.assets import AssetStore

    return AssetStore(settings.asset_store_url)


def folders_that_grow(settings: Settings, assets: AssetStore) -> Sequence[Path]:
    """Returns the folders of this machine in which every event takes space.

    They are that of the asset store, and that of an embedded broker and store. Without either, nothing grows.
    """
    folders = [] if assets.local_folder is None else [assets.local_folder]
    return folders if read_endpoints(settings.data_dir) is None else [*folders, settings.data_dir]


def join_ray(address: str | None) -> None:
    """Connects this process to a Ray cluster, or starts a local Ray if `address` is None.

    Has no effect if this process has joined one already.

    Raises:
        UnavailableError: Ray cannot be joined or started.
    """
    import ray

    if ray.is_initialized():
        return
    try:
        ray.init(
            address=address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            configure_logging=not is_json(),
        )
    except (ConnectionError, RuntimeError, ValueError) as exc:
        where = address or "this machine"
        raise UnavailableError(f"Ray at {where} cannot be joined: {exc}. Check ray_address.") from exc
