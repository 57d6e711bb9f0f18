"""Divides the queries of a set by language, kind, and the style and modality of their relevant documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from penstock.evaluate.evaluation_set import EvaluationSet

EVERYTHING = "all"


@dataclass(frozen=True)
class Slice:
    """Some queries of a set.

    Attributes:
        dimension: what they have in common: lang, kind, style or modality; `all` for all queries.
        value: such as `de` or `image + text`.
        places: int64[n], where they are among the evaluated queries.
    """

    dimension: str
    value: str
    places: npt.NDArray[np.int64] = field(repr=False)


def slices_of(dataset: EvaluationSet, queries: npt.NDArray[np.int64]) -> list[Slice]:
    """Returns the slice of all queries, then those of each dimension in which the queries differ.

    Args:
        dataset: the set.
        queries: int64[n], rows of the evaluated queries.
    """
    slices = [Slice(EVERYTHING, EVERYTHING, np.arange(len(queries)))]
    for dimension, value_of in _DIMENSIONS.items():
        values = [value_of(dataset, query) for query in queries.tolist()]
        distinct = sorted(set(values))
        if len(distinct) > 1:
            slices += [Slice(dimension, value, _places(values, value)) for value in distinct if value]
    return slices


def _places(values: Sequence[str], value: str) -> npt.NDArray[np.int64]:
    return np.flatnonzero([other == value for other in values])


def _style(dataset: EvaluationSet, query: int) -> str:
    return _joined({dataset.documents[row].style for row in dataset.judgements.rows_of(query)} - {""})


def _modality(dataset: EvaluationSet, query: int) -> str:
    return _joined({dataset.documents[row].modality for row in dataset.judgements.rows_of(query)})


def _joined(values: set[str]) -> str:
    return " + ".join(sorted(values))


_DIMENSIONS: Mapping[str, Callable[[EvaluationSet, int], str]] = {
    "lang": lambda dataset, query: dataset.queries[query].lang,
    "kind": lambda dataset, query: dataset.queries[query].kind,
    "style": _style,
    "modality": _modality,
}
