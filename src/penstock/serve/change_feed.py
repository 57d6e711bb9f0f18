"""Connects a replica to the change feed, and builds what depends on it."""

from __future__ import annotations

from penstock.broker.tail import KafkaTail
from penstock.config import KafkaSettings, Settings
from penstock.query.adapters import AdapterSource
from penstock.query.changes import ChangeFollower, IndexChanges
from penstock.query.result_cache import BOUNDED_STALENESS_S, ResultCache, Searches
from penstock.store.base import Capabilities


def follow_changes(settings: KafkaSettings, changes: IndexChanges, *, index_version: int) -> ChangeFollower | None:
    """Starts to follow the changes of an index version; returns None where there is no broker, or no feed."""
    if settings.bootstrap_servers is None or not settings.changes_topic:
        return None
    tail = KafkaTail(settings, settings.changes_topic)
    follower = ChangeFollower(changes, tail, index_version=index_version)
    follower.start()
    return follower


def result_cache(
    searches: Searches,
    changes: IndexChanges,
    settings: Settings,
    capabilities: Capabilities,
    adapters: AdapterSource,
) -> ResultCache:
    """Returns the cache of results of a replica.

    A search shows an acknowledged write immediately at Strong consistency, and in Lite, which has one writer and no
    readers that lag behind.
    """
    immediately = settings.store.consistency == "Strong" or not capabilities.concurrent_writes
    return ResultCache(
        searches,
        changes,
        max_bytes=settings.query.result_cache_bytes,
        visible_after_s=0.0 if immediately else BOUNDED_STALENESS_S,
        adapters=adapters,
    )
