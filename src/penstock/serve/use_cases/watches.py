"""Creates, lists and deletes watches."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Mapping, Sequence

from penstock.errors import QueryError, UnavailableError
from penstock.query.types import SearchRequest
from penstock.query.watches.context import WatchPreparer
from penstock.query.watches.registry import WatchRegistry
from penstock.records import Access, Watch

_MAX_BYTES = 64 * 1024
# The relevance of hits is known for words alone; the others choose among hits that are known already.
_REFUSED = {
    "image": "the relevance of hits is not known for a search by image",
    "audio": "send the words of a spoken query as text",
    "frame": "the relevance of hits is not known for a search by image",
    "like": "the relevance of hits is not known for a search by entries",
    "not": "the relevance of hits is not known for a search with exclusions",
    "cursor": "a watch has no pages",
}


class WatchService:
    """The use case behind `/v1/watches`.

    Args:
        registry: keeps the watches; None: there is no Kafka, or no topic for them.
        preparer: checks their searches.
        matches_topic: of their matches.
        wall_ms: milliseconds since the epoch.
    """

    def __init__(
        self,
        registry: WatchRegistry | None,
        preparer: WatchPreparer,
        *,
        matches_topic: str,
        wall_ms: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._preparer = preparer
        self.matches_topic = matches_topic
        self._wall_ms = wall_ms

    async def create(self, name: str, search: Mapping[str, object], request: SearchRequest) -> Watch:
        """Keeps a watch, once its search has been answered for the whole index.

        Args:
            name: a label.
            search: as JSON.
            request: the same search.

        Raises:
            QueryError: the search is invalid, has no `min_relevance` or parts of unknown relevance, or there are too
                many watches.
            UnavailableError: Kafka or the store does not answer.
        """
        registry = self._require_registry()
        for part, reason in _REFUSED.items():
            if part in search:
                raise QueryError(f"{part} cannot be part of a watch: {reason}", field=f"/{part}")
        if request.min_relevance is None:
            raise QueryError("a watch needs min_relevance, which an entry has to reach", field="/min_relevance")
        if len(json.dumps(search).encode()) > _MAX_BYTES:
            raise QueryError(f"the search of a watch has more than {_MAX_BYTES:,} bytes as JSON", status=413)
        id_, access = uuid.uuid4().hex, request.access
        watch = Watch(id_, name, access.tenant, request.min_relevance, self._wall_ms(), search, access.labels)
        await self._preparer.prepare(watch, request)
        await asyncio.to_thread(registry.add, watch)
        return watch

    async def list(self, access: Access) -> Sequence[Watch]:
        """Returns the watches that a caller may see. Raises UnavailableError while they are not known."""
        return self._require_registry().of(access)

    async def delete(self, access: Access, watch_id: str) -> None:
        """Deletes a watch.

        Raises:
            QueryError: 404, there is no such watch that the caller may see.
            UnavailableError: Kafka does not answer.
        """
        if not await asyncio.to_thread(self._require_registry().delete, access, watch_id):
            raise QueryError(f"tenant {access.tenant} has no watch {watch_id}", status=404)

    def _require_registry(self) -> WatchRegistry:
        if self._registry is None:
            raise UnavailableError(
                "this query plane keeps no watches: set kafka.bootstrap_servers, kafka.changes_topic and "
                "kafka.watches_topic"
            )
        return self._registry
