"""Evaluates the profiles on the sets, and the fusions on the sets where they matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from penstock.config import FirstPlaceRule, FusionMethod, Normalisation, QuerySettings
from penstock.encoders.load import profile_fingerprints
from penstock.encoders.profiles import Profile
from penstock.errors import QueryError
from penstock.evaluate.datasets import read_set
from penstock.evaluate.environment import describe_commit, describe_machine
from penstock.evaluate.evaluation import Evaluated, EvaluationOptions, evaluate_offline, evaluate_rankings
from penstock.evaluate.fusions import describe_fusion, open_fusion, shares_of
from penstock.evaluate.offline import search_offline
from penstock.evaluate.result import Result
from penstock.evaluate.tables import compare
from penstock.evaluate.vectors import VectorFiles
from penstock.query.fusion.calibration import Calibration
from penstock.query.types import FuseOptions

SETS = ("foods", "clipart", "emoji_twitter", "mixed", "wordnet", "debian")
# Sets on which every fusion is measured: two collections, and two channels of one collection.
FUSION_SETS = ("mixed", "wordnet", "debian")
BASE = FuseOptions(method=FusionMethod.RRF)
COMMAND = "make measure"
# hit@5 and recall@5 say nothing that those beside them do not.
OPTIONS = EvaluationOptions(ks=(1, 10))


@dataclass(frozen=True)
class Subject:
    """A profile to measure, with its vectors.

    Attributes:
        calibration: of its channels; None: the fusion without labels.
    """

    profile: Profile
    vectors: VectorFiles
    calibration: Calibration | None = None


def measure_set(subject: Subject, folder: Path, options: EvaluationOptions = OPTIONS) -> Result:
    """Returns the result of a set by the default fusion, compared with taking turns."""
    default = FuseOptions(weights=QuerySettings().weights)
    dataset = read_set(folder)
    base = evaluate_offline(dataset, subject.vectors, open_fusion(BASE), options)
    fusion = open_fusion(default, subject.calibration, shares_of(dataset))
    evaluated = evaluate_offline(dataset, subject.vectors, fusion, options)
    result = _result(subject, describe_fusion(default, subject.calibration), evaluated, options)
    return _against(result, evaluated, base, options)


def measure_fusions(subject: Subject, folder: Path, options: EvaluationOptions = OPTIONS) -> list[Result]:
    """Returns the results of a set by every fusion, without its rows of channels, compared with taking turns."""
    dataset = read_set(folder)
    rankings = search_offline(dataset, subject.vectors)
    base = [evaluate_rankings(rankings, open_fusion(BASE), options)]
    results = []
    for fuse in _fusions():
        try:
            fusion = open_fusion(fuse, subject.calibration, shares_of(dataset))
            evaluated = [evaluate_rankings(rankings, fusion, options)]
        except QueryError:  # this fusion needs what the profile or the set lacks
            continue
        result = _result(subject, describe_fusion(fuse, subject.calibration), evaluated, options)
        results.append(_only_search(_against(result, evaluated, base, options)))
    return results


def _fusions() -> Iterator[FuseOptions]:
    yield BASE
    for normalise in Normalisation:
        yield FuseOptions(method=FusionMethod.WEIGHTED, normalise=normalise)
    yield FuseOptions(method=FusionMethod.EARLY)
    yield FuseOptions(first_places=FirstPlaceRule.RELEVANCE)
    yield FuseOptions()


def _result(subject: Subject, fusion: str, evaluated: Sequence[Evaluated], options: EvaluationOptions) -> Result:
    encoders: Mapping[str, str] = {
        role: f"{identity.model} {identity.weights} {identity.preprocessing}"
        for role, identity in profile_fingerprints(subject.profile).items()
    }
    return Result(
        mode="offline",
        command=COMMAND,
        commit=describe_commit(),
        machine=describe_machine(),
        profile=subject.profile.name,
        encoders=encoders,
        fusion=fusion,
        seed=options.seed,
        draws=options.draws,
        sets=[of_set.result for of_set in evaluated],
    )


def _against(
    result: Result, evaluated: Sequence[Evaluated], base: Sequence[Evaluated], options: EvaluationOptions
) -> Result:
    sets = [(of_set.dataset, of_set.queries, of_set.result) for of_set in evaluated]
    comparisons = compare(sets, [of_set.result for of_set in base], draws=options.draws, seed=options.seed)
    against = f"{result.profile}, {describe_fusion(BASE)}"
    return replace(result.without_queries(), against=against, comparisons=comparisons)


def _only_search(result: Result) -> Result:
    sets = [replace(of_set, rows=[row for row in of_set.rows if row.system == "search"]) for of_set in result.sets]
    return replace(result, sets=sets)
