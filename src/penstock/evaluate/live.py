"""Evaluates a set through the running planes."""

from __future__ import annotations

from collections.abc import Callable

from penstock.config import Settings
from penstock.evaluate.evaluation import Evaluated, EvaluationOptions
from penstock.evaluate.evaluation_set import EvaluationSet


def evaluate_live(
    dataset: EvaluationSet, settings: Settings, options: EvaluationOptions, *, report: Callable[[str], None]
) -> Evaluated:
    """Evaluates a set through the running planes."""
    raise NotImplementedError
