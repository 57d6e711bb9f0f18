"""Opens the fusion that a query plane uses by its settings, a request's options and a calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields

from penstock.config import FusionMethod, QuerySettings
from penstock.errors import UsageError
from penstock.evaluate.evaluation_set import EvaluationSet
from penstock.query.fusion.base import Fusion, kind_of
from penstock.query.fusion.calibration import Calibration
from penstock.query.fusion.choose import FusionChooser, RunningFusion
from penstock.query.fusion.first_places import FirstPlaces
from penstock.query.fusion.statistics import ChannelStatistics
from penstock.query.types import FuseOptions, FuseRequest, Kind
from penstock.query.understand.fuse_options import fuse_options
from penstock.records import COLLECTIONS_OF, Modality


def open_fusion(
    options: FuseOptions, calibration: Calibration | None = None, shares: Mapping[Kind, float] | None = None
) -> Fusion:
    """Returns the fusion of a query plane that has answered no question yet.

    Its running statistics grow with the queries of the evaluation, as those of a plane grow with its questions.

    Args:
        options: of all queries.
        calibration: of the channels; None: there is none.
        shares: of the documents, by kind, see `shares_of`; None: they do not decide on first places.
    """
    first_places = FirstPlaces(QuerySettings().relevance_floor)
    return RunningFusion(FusionChooser(ChannelStatistics(), calibration, first_places), options, shares=shares)


def shares_of(dataset: EvaluationSet) -> Mapping[Kind, float]:
    """Returns the share of the documents of a set that become hits of each kind."""
    counts = Counter(kind_of(COLLECTIONS_OF[Modality(document.modality)][0]) for document in dataset.documents)
    return {kind: count / counts.total() for kind, count in counts.items()}


def parse_fuse(document: object, settings: QuerySettings) -> FuseOptions:
    """Returns the checked options of the `fuse` of a request, with the settings for what it leaves out.

    Raises:
        UsageError: it is no object, or has an option that does not exist or has a wrong value.
    """
    names = [field.name for field in fields(FuseRequest)]
    if not isinstance(document, dict) or not set(document) <= set(names):
        raise UsageError(f"--fuse must be a JSON object with some of {', '.join(names)}")
    return fuse_options(FuseRequest(**document), settings)


def describe_fusion(options: FuseOptions, calibration: Calibration | None = None) -> str:
    """Returns the fusion in words, for the head of a result."""
    match options.method:
        case FusionMethod.RRF:
            return f"rrf, k {options.k}"
        case FusionMethod.WEIGHTED:
            return f"weighted, {options.normalise}"
        case FusionMethod.EARLY:
            return f"early, alpha {options.alpha:g}"
        case _:
            if calibration is None:
                return f"{options.method}, without calibration"
            return f"{options.method}, with calibration, first places by {options.first_places}"
