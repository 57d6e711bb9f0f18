"""Opens the fusion that the query plane would use by the settings."""

from __future__ import annotations

from penstock.config import QuerySettings
from penstock.query.fusion.base import Fusion
from penstock.query.fusion.rrf import ReciprocalRankFusion


def open_fusion(settings: QuerySettings) -> Fusion:
    """Returns the fusion of a query plane with these settings."""
    return ReciprocalRankFusion(settings.weights, k=settings.rrf_k)


def describe_fusion(settings: QuerySettings) -> str:
    """Returns the fusion in words, for the head of a result."""
    return f"rrf, k {settings.rrf_k}"
