"""The records of an evaluation's result, and their JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from penstock.errors import UsageError
from penstock.evaluate.intervals import Interval, WinTieLoss

FORMAT = 1
DIGITS = 6


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one system on one slice.

    Attributes:
        system: `chance`, a channel such as `text.passage`, `search` for the fused ranking, or `imported`.
        dimension, value: the slice, such as lang and de.
        queries, groups: how many the figures are a mean of.
        figures: by metric, as shares from 0 to 1.
    """

    system: str
    dimension: str
    value: str
    queries: int
    groups: int
    figures: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """The difference of this run to another one on one slice, in one metric.

    Attributes:
        difference: this run minus the other, with its interval.
        p, p_holm: of Fisher's randomisation test, alone and corrected for all rows of the comparison.
    """

    set_name: str
    dimension: str
    value: str
    queries: int
    metric: str
    base: float
    difference: Interval
    p: float
    p_holm: float
    counts: WinTieLoss


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of a step's time over the queries of a run, milliseconds."""

    step: str
    queries: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Describes a set and its spaces, beside the figures.

    Attributes:
        left_out: queries without a figure, as their relevant documents are in two splits.
        divided_groups: groups of near-duplicates with documents in more than one split.
        cosines: mean cosine by `space: modality / modality`.
        centroid_distances: distance of the centroids of two modalities, by `space: modality / modality`.
        first_places: share of each modality among the first hits.
        relevant: share of each modality among the relevant documents, each query having the weight 1.
    """

    left_out: int
    divided_groups: int
    cosines: Mapping[str, float] = field(default_factory=dict)
    centroid_distances: Mapping[str, float] = field(default_factory=dict)
    first_places: Mapping[str, float] = field(default_factory=dict)
    relevant: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SetResult:
    """The result of one set.

    Attributes:
        name, hash: of the set.
        split: the evaluated queries are of it.
        documents: searched, whatever their split.
        rows: row 0 of each slice first: chance, the channels alone, then the fused search.
        per_query: the figures of the fused search for each query id, for later comparisons.
    """

    name: str
    hash: str
    split: str
    documents: int
    rows: Sequence[Row]
    diagnostics: Diagnostics
    latency: Sequence[Latency] = ()
    per_query: Mapping[str, Mapping[str, float]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an evaluation.

    Attributes:
        mode: `offline` or `live`.
        command: the command line that repeats it.
        commit: of the checkout; empty without one.
        machine: where it ran.
        profile: the set of models.
        encoders: fingerprint of each encoder, as `model weights preprocessing`.
        fusion: the method and its settings, in words.
        seed, draws: of intervals and tests.
    """

    mode: str
    command: str
    commit: str
    machine: str
    profile: str
    encoders: Mapping[str, str]
    fusion: str
    seed: int
    draws: int
    sets: Sequence[SetResult]
    against: str = ""
    comparisons: Sequence[PairedComparison] = ()

    def without_queries(self) -> Result:
        """Returns the result without the figures of single queries, which no later comparison can then use."""
        return replace(self, sets=[replace(of_set, per_query={}) for of_set in self.sets])


def to_json(result: Result) -> str:
    """Returns the JSON of a result, with numbers of six digits: equal figures give equal bytes."""
    document = {"format": FORMAT, **asdict(result)}
    return json.dumps(_rounded(document), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def write(result: Result, path: Path, markdown: str) -> None:
    """Writes the JSON to `path`, and the tables beside it with the ending `.md`.

    Raises:
        UsageError: the files cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_json(result), encoding="utf-8")
        path.with_suffix(".md").write_text(markdown, encoding="utf-8")
    except OSError as exc:
        raise UsageError(f"the result cannot be written to {path}: {exc.strerror}") from exc


def read_result(path: Path) -> Result:
    """Reads the JSON of a result.

    Raises:
        UsageError: it is missing, or no result of this format.
    """
    try:
        return parse_result(json.loads(path.read_text(encoding="utf-8")))
    except OSError as exc:
        raise UsageError(f"the result {path} cannot be read: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise UsageError(f"{path} is no result of `penstock evaluate`: {type(exc).__name__}: {exc}") from exc


def as_read(result: Result) -> Result:
    """Returns the result as `read_result` would return it, with rounded numbers: its tables stay the same."""
    return parse_result(json.loads(to_json(result)))


def parse_result(document: object) -> Result:
    """Returns the result that parsed JSON describes. Reuses the objects of `document`.

    Raises:
        ValueError, KeyError, TypeError: it is no result, or of another format.
    """
    if not isinstance(document, dict):
        raise ValueError("no object")
    if document.pop("format") != FORMAT:
        raise ValueError("another format of results; evaluate again")
    document["sets"] = [_set_result(of_set) for of_set in document["sets"]]
    document["comparisons"] = [_comparison(row) for row in document["comparisons"]]
    return Result(**document)


def _set_result(document: dict[str, Any]) -> SetResult:
    document["rows"] = [_row(row) for row in document["rows"]]
    document["diagnostics"] = Diagnostics(**document["diagnostics"])
    document["latency"] = [Latency(**row) for row in document["latency"]]
    return SetResult(**document)


def _row(document: dict[str, Any]) -> Row:
    document["figures"] = {name: Interval(**interval) for name, interval in document["figures"].items()}
    return Row(**document)


def _comparison(document: dict[str, Any]) -> PairedComparison:
    document["difference"] = Interval(**document["difference"])
    document["counts"] = WinTieLoss(**document["counts"])
    return PairedComparison(**document)


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value
