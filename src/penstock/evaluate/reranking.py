"""Reranks offline: a fusion whose first candidates get the order of a model that reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from penstock.config import Settings
from penstock.encoders.load import load_encoder
from penstock.encoders.profiles import PASSAGE_TEXT, Profile
from penstock.encoders.rerank import PassageScorer, load_scorer
from penstock.errors import UsageError
from penstock.query.fusion.base import Candidate, Fusion, MomentRules
from penstock.query.rerank import order_by_scores
from penstock.query.types import Rankings


def open_reranker(profile: Profile, settings: Settings, *, top: int) -> Callable[[Fusion], RerankedFusion]:
    """Loads the reranking model of a profile, and returns a function that adds it to a fusion.

    Args:
        profile: names the model.
        settings: of precision and device.
        top: number of candidates that may change places.

    Raises:
        UsageError: the profile has no such model, and its sentence encoder has no token vectors.
        ConfigError, UnavailableError: the weights are not available.
    """
    precision, device = settings.precision, settings.device
    encoder = load_encoder(PASSAGE_TEXT, profile, precision=precision, device=device, cache_size=0)
    scorer = load_scorer(profile, encoder, precision=precision, device=device)
    if scorer is None:
        raise UsageError(f"profile {profile.name} has no model that reranks")
    return partial(RerankedFusion, scorer=scorer, top=top)


class RerankedFusion:
    """A `Fusion` that reads its first candidates without a budget, so that equal questions give equal figures.

    Args:
        fusion: ranks the candidates.
        scorer: reads them.
        top: number of candidates that may change places.
    """

    def __init__(self, fusion: Fusion, scorer: PassageScorer, *, top: int) -> None:
        self._fusion = fusion
        self._scorer = scorer
        self._top = top

    def rank(self, rankings: Rankings, rules: MomentRules, limit: int) -> list[tuple[float, Candidate]]:
        """See `Fusion.rank`. A question by image keeps its order."""
        ranked = self._fusion.rank(rankings, rules, max(limit, self._top))
        places = [place for place, (_, candidate) in enumerate(ranked[: self._top]) if candidate.best.text.strip()]
        if rankings.text is None or len(places) < 2:
            return ranked[:limit]
        scored = self._scorer.score(rankings.text, [ranked[place][1].best.text.strip() for place in places])
        fused = np.array([ranked[place][0] for place in places])
        order = order_by_scores(fused, np.asarray(scored.scores, dtype=np.float64))
        reordered = list(ranked)
        for place, row in zip(places, order, strict=True):
            # The score of the fusion within its collection would tell ties apart that the model has decided.
            reordered[place] = ranked[place][0], replace(ranked[places[row]][1], score=-float(place))
        return reordered[:limit]
