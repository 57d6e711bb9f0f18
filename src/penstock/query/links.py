"""Links the trace of a search to the traces of the events that it found."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from penstock.errors import PenstockError
from penstock.observability import tracing
from penstock.query.executor import BoundedExecutor
from penstock.query.types import Hit
from penstock.store.base import EntrySearch

logger = logging.getLogger(__name__)

_TIMEOUT_S = 5.0


async def link_found_events(hits: Sequence[Hit], store: EntrySearch, executor: BoundedExecutor) -> None:
    """Links the current span to the traces that the asset rows of these hits keep.

    Reads nothing unless the span is sampled, and is called after the answer, so that no search waits for it. An asset
    row of another version than the hit, and one of an event that was not sampled, has no link.
    """
    traces = tracing.current()
    if not hits or not traces.carrier():
        return
    asset_ids = sorted({hit.entry.asset.id for hit in hits})
    try:
        rows = await executor.call(lambda _: store.asset_rows(asset_ids), deadline_s=executor.clock() + _TIMEOUT_S)
    except (PenstockError, TimeoutError) as exc:
        logger.info("a traced search has no links to the events that it found: %s", exc)
        return
    origins = {hit.entry.origin: hit.entry.asset.id for hit in hits}
    for origin, asset_id in origins.items():
        row = rows.get(asset_id)
        if row is not None and row.origin == origin:
            traces.link(row.traceparent, origin)
