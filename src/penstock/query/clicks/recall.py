"""Recalls what was chosen for questions close to the present one, and reads those entries as they are now.

    1 embed    the question, by the sentence encoder; concurrent channels share the vector
    2 recall   the choices of the tenant whose questions are closest
    3 judge    which of them count, and for how much (`query.clicks.guards`)
    4 read     their entries, of those that the caller may read and that satisfy the request

So a choice shows no caller what the index would not: an entry that was deleted, has other labels now or is filtered out
does not come back by it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Set

from penstock.encoders.profiles import Profile
from penstock.errors import PenstockError
from penstock.query.clicks.guards import ClickRules, click_evidence
from penstock.query.conditions import where_in
from penstock.query.embed import QueryEncoder
from penstock.query.executor import BoundedExecutor
from penstock.query.fusion.calibration import ScoreMap
from penstock.query.trace import Trace
from penstock.query.types import Query
from penstock.records import ClickedEntry, Collection, Field
from penstock.store.base import EntrySearch
from penstock.store.clicks import ClickTable
from penstock.store.filter_semantics import matches

logger = logging.getLogger(__name__)

# Enough for some forty votes for each of the ten entries of a page. One voter can fill them only by as many choices.
MAX_RECALLED = 400
# Entries that are read: those with the most evidence.
MAX_CLICKED = 50
NOT_RECALLED = "Choices of earlier questions were not considered, as the click memory failed or was late."


class ClickMemory:
    """Recalls choices for searches. Belongs to the event loop of the pipeline.

    Args:
        clicks: the choices.
        store: the index.
        executor: runs their calls.
        encoder: makes the vector of a question.
        profile: names its encoder.
        rules: by which choices count.
        wall_ms: milliseconds since the epoch.
    """

    def __init__(
        self,
        clicks: ClickTable,
        store: EntrySearch,
        executor: BoundedExecutor,
        encoder: QueryEncoder,
        *,
        profile: Profile,
        rules: ClickRules,
        wall_ms: Callable[[], int],
    ) -> None:
        self._clicks = clicks
        self._store = store
        self._executor = executor
        self._encoder = encoder
        self._question_encoder = profile.query_encoder(Field.PASSAGE)
        self._rules = rules
        self._wall_ms = wall_ms

    async def recall(
        self, query: Query, collections: Set[Collection], score_map: ScoreMap, trace: Trace, *, deadline_s: float
    ) -> tuple[ClickedEntry, ...]:
        """Returns the chosen entries with their evidence, the most likely first; none, and a notice, if that fails.

        Args:
            query: in words.
            collections: that are searched.
            score_map: of the calibration, from the cosine of two questions to log-odds.
            trace: takes the notice.
            deadline_s: the end of the search, on the clock of the executor.
        """
        try:
            return await self._recall(query, collections, score_map, deadline_s)
        except (PenstockError, TimeoutError) as exc:
            logger.warning("choices of earlier questions are not considered: %s", exc)
        except Exception:  # whatever it is, the channels of the index have answered
            logger.exception("choices of earlier questions are not considered")
        trace.add_notice(NOT_RECALLED)
        return ()

    async def _recall(
        self, query: Query, collections: Set[Collection], score_map: ScoreMap, deadline_s: float
    ) -> tuple[ClickedEntry, ...]:
        access = query.access
        vector = await self._encoder.encode_text(self._question_encoder, query.text or "")  # 1
        recalled = await self._executor.call(  # 2
            lambda timeout_s: self._clicks.recall(vector, access.tenant, limit=MAX_RECALLED, timeout_s=timeout_s),
            deadline_s=deadline_s,
        )
        evidence = click_evidence(recalled, score_map, self._rules, self._wall_ms())  # 3
        best = sorted(evidence, key=lambda entry_id: (-evidence[entry_id].log_odds, entry_id))[:MAX_CLICKED]
        if not best:
            return ()
        entries = await self._executor.call(  # 4
            lambda timeout_s: self._store.entries(best, access=access, timeout_s=timeout_s), deadline_s=deadline_s
        )
        assets = {match.choice.entry_id: match.choice.asset for match in recalled}
        return tuple(
            ClickedEntry(entry, evidence[entry_id].log_odds, evidence[entry_id].voters)
            for entry_id in best
            if (entry := entries.get(entry_id)) is not None
            and entry.collection in collections
            and entry.asset == assets[entry_id]
            and entry_id not in query.parts.excluded
            and ((where := where_in(query, entry.collection)) is None or matches(where, entry))
        )
