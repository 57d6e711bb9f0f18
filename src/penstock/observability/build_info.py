"""Exports which version, profile, index and models this process runs, to distinguish two deployments."""

from __future__ import annotations

from collections.abc import Iterable

from penstock import __version__
from penstock.observability import metrics


def export_build_info(*, profile: str, index_version: int, models: Iterable[str]) -> None:
    """Exports one series of the value 1.

    Args:
        profile: name of the models' set.
        index_version: of the physical collections.
        models: names of the models in the collections' names, some repeatedly.
    """
    model = "+".join(sorted(set(models)))
    metrics.BUILD_INFO.labels(__version__, profile, index_version, model).set(1)
