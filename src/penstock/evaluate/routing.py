"""Weighs collections by what each query says, in an offline evaluation as in the query plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from penstock.config import QuerySettings
from penstock.query.fusion.base import Candidate, MomentRules
from penstock.query.fusion.choose import FusionChooser
from penstock.query.routing.router import Router
from penstock.query.types import FuseOptions, Kind, Rankings, SearchRequest
from penstock.query.understand.validate import validate


class RoutedFusion:
    """A `Fusion` with weights of its own for each query.

    Examples of questions take no part, as rankings have no vector of the query.

    Args:
        chooser: makes the fusion of each query.
        router: weighs collections.
        mode: auto or all.
        shares: of the documents by kind, for first places; None: they do not decide.
        options: of all queries, before the weights.
        depth: entries of each channel that are counted in the statistics.
    """

    def __init__(
        self,
        chooser: FusionChooser,
        router: Router,
        *,
        mode: str = "auto",
        shares: Mapping[Kind, float] | None = None,
        options: FuseOptions | None = None,
        depth: int = 50,
    ) -> None:
        self._chooser = chooser
        self._router = router
        self._mode = mode
        self._shares = shares
        self._options = options or FuseOptions()
        self._depth = depth

    def rank(self, rankings: Rankings, rules: MomentRules, limit: int) -> list[tuple[float, Candidate]]:
        """See `Fusion.rank`. Queries by image weigh all alike."""
        self._chooser.statistics.observe(rankings, self._depth)
        options = self._options
        if rankings.text is not None:
            query = validate(SearchRequest(text=rankings.text, route=self._mode), QuerySettings())
            searched = {channel.collection for channel in rankings.by_channel}
            query = replace(query, collections=tuple(name for name in query.collections if name in searched))
            options = self._router.route(query).applied_to(options)
        return self._chooser.choose(options, rankings, self._shares).rank(rankings, rules, limit)
