"""Compares a calibration of suggested labels with one of random labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from penstock.encoders.load import profile_fingerprints
from penstock.evaluate.datasets import read_set
from penstock.evaluate.fusions import open_fusion, shares_of
from penstock.evaluate.metrics import NDCG, measure
from penstock.evaluate.offline import SetRankings, fuse_offline, search_offline
from penstock.evaluate.vectors import VectorFiles
from penstock.query.calibrations import channel_encoders, channel_index_types
from penstock.query.fusion.calibration import Provenance
from penstock.query.types import FuseOptions
from penstock.train.alignment_data import IntArray
from penstock.train.calibration import fit_calibration
from penstock.train.labels import LabelledRankings, spare_entries
from penstock.train.suggest import suggest_questions

PICKED, RANDOM, POOL, DRAWS, TEST = 20, 50, 500, 10, 400


@dataclass(frozen=True, slots=True)
class SuggestionRow:
    """Compares calibrations of suggested and of random labels by nDCG@10 of the fused search.

    Attributes:
        set_name: of the evaluation set.
        draws: of the pool to choose from.
        not_worse: draws in which the suggested labels gave at least as much.
        suggested, random: means over the draws.
    """

    set_name: str
    draws: int
    not_worse: int
    suggested: float
    random: float


def measure_suggestions(folder: Path, vectors: VectorFiles) -> SuggestionRow:
    """Returns the row of a set: 20 labels that were suggested among 500 questions, and 50 random ones of them."""
    dataset = read_set(folder)
    rankings = search_offline(dataset, vectors, spare=spare_entries(dataset))
    rng = np.random.default_rng(0)
    test = rng.permutation(dataset.select(split="test"))[:TEST]
    suggested, random = [], []
    for _ in range(DRAWS):
        pool = rng.permutation(dataset.select(split="train"))[:POOL]
        picked = np.array([question.row for question in suggest_questions(rankings, pool, PICKED)], dtype=np.int64)
        suggested.append(_found(rankings, picked, test, vectors))
        random.append(_found(rankings, pool[:RANDOM], test, vectors))
    not_worse = int(np.sum(np.array(suggested) >= np.array(random)))
    return SuggestionRow(dataset.name, DRAWS, not_worse, float(np.mean(suggested)), float(np.mean(random)))


def _found(rankings: SetRankings, labelled: IntArray, test: IntArray, vectors: VectorFiles) -> float:
    """Returns nDCG@10 on some questions by a calibration of others."""
    profile = vectors.profile
    calibration = fit_calibration(
        list(LabelledRankings(rankings, labelled)),
        channel_encoders(profile, profile_fingerprints(profile)),
        channel_index_types("FLAT"),
        Provenance({}, len(labelled), 0, profile.name),
    )
    fusion = open_fusion(FuseOptions(), calibration, shares_of(rankings.dataset))
    run = fuse_offline(rankings, fusion, queries=test).run
    return float(measure(run, rankings.dataset.judgements.take(test))[NDCG].mean())
