"""Measures the blocks of learning and tuning: learned fusion, reranking, compression, indexes, serving."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from penstock.encoders.load import load_encoder
from penstock.encoders.profiles import PASSAGE_TEXT, Profile, load_profile
from penstock.encoders.rerank import load_scorer
from penstock.errors import UsageError
from penstock.evaluate.datasets import read_set
from penstock.evaluate.fusions import open_fusion, shares_of
from penstock.evaluate.intervals import Interval, bootstrap, randomisation_p
from penstock.evaluate.metrics import MRR, NDCG, measure
from penstock.evaluate.offline import fuse_offline, search_offline
from penstock.evaluate.reranking import RerankedFusion
from penstock.evaluate.vectors import VectorFiles
from penstock.query.fusion.base import Fusion
from penstock.query.types import FuseOptions
from penstock.records import Modality
from penstock.train.compression.measure import CompressionRow, measure_compression, read_channel
from penstock.train.fusion.asset_tokens import read_assets
from penstock.train.fusion.measure import FusionData, FusionRow, measure_fusion, use_one_thread
from tools.measure_retrieval.experiments import Table

DRAWS = 10_000
SEED = 20_260
FUSION_SEEDS = (0, 1, 2, 3, 4)
COMPRESSED = (
    ("reference", "wordnet", Modality.TEXT, None),
    ("reference", "debian", Modality.TEXT, "en"),
    ("shelf", "clipart", Modality.IMAGE, None),
)
RERANKED_QUESTIONS = 400
RERANK_DEPTHS = (10, 20, 50)


@dataclass(frozen=True)
class Sources:
    """The folders of sets and vectors.

    Attributes:
        sets, vectors: folders.
        profiles: names of those to measure.
        fusion_seeds: of the trainings of learned fusion.
    """

    sets: Path
    vectors: Path
    profiles: Sequence[str]
    fusion_seeds: Sequence[int] = FUSION_SEEDS

    def profile(self, name: str) -> Profile | None:
        """Returns a profile with all of its models; None if it is not wanted, or lacks one."""
        if name not in self.profiles:
            return None
        profile = load_profile(name)
        return None if profile.substitutions else profile

    def files(self, profile: Profile) -> VectorFiles:
        """Returns the stored vectors of a profile."""
        return VectorFiles(self.vectors, profile)

    def has(self, name: str) -> bool:
        """Returns whether a set is built."""
        return (self.sets / name / "corpus.jsonl").is_file()


def learned_fusion(sources: Sources) -> Iterator[Table]:
    """Yields the ablation of learned fusion on `mixed`, one table a profile."""
    use_one_thread()
    for name in sources.profiles:
        profile = sources.profile(name)
        if profile is None or not sources.has("mixed"):
            continue
        dataset, vectors = read_set(sources.sets / "mixed"), sources.files(profile)
        try:
            data = FusionData.of(read_assets(dataset, vectors), search_offline(dataset, vectors))
        except UsageError:  # texts and images of this profile have no space in common
            continue
        rows = measure_fusion(data, seeds=sources.fusion_seeds, draws=DRAWS, seed=SEED)
        yield Table(
            f"{name}, assets of mixed",
            ("fusion", "MRR@10", "sd of seeds", "Δ to late α", "p", "p (Holm)", "train, s", "p95, ms", "masking"),
            [_fusion_cells(row) for row in rows],
            f"{data.assets.tokens.shape[0]} assets; {len(data.train.rows)} questions to train on, "
            f"{len(data.dev.rows)} of dev, {len(data.test.rows)} of test; "
            f"seeds of training: {len(sources.fusion_seeds)}.",
        )


def reranking(sources: Sources) -> Iterator[Table]:
    """Yields the gain of the profile's reranking model over the default fusion, one table a set."""
    for name in sources.profiles:
        profile = sources.profile(name)
        for set_name in ("wordnet", "debian"):
            if profile is not None and sources.has(set_name):
                yield _reranked(sources, profile, name, set_name)


def compression(sources: Sources) -> Iterator[Table]:
    """Yields figures against bytes, one table a channel."""
    for name, set_name, modality, lang in COMPRESSED:
        profile = sources.profile(name)
        if profile is None or not sources.has(set_name):
            continue
        data = read_channel(read_set(sources.sets / set_name), sources.files(profile), modality=modality, lang=lang)
        rows = measure_compression(data, seed=SEED, draws=DRAWS)
        yield Table(
            f"{name}, {set_name}, {modality}{'' if lang is None else ' in ' + lang}",
            ("vectors", "dimensions", "values", "bytes", MRR, NDCG, f"Δ {NDCG}", "p (Holm)"),
            [_compression_cells(row) for row in rows],
            f"{len(data.test):,} questions of test; {len(data.train):,} to fit to.",
        )


def _reranked(sources: Sources, profile: Profile, name: str, set_name: str) -> Table:
    dataset, vectors = read_set(sources.sets / set_name), sources.files(profile)
    rankings = search_offline(dataset, vectors)
    english = dataset.select(split="test", lang="en")
    queries = np.sort(np.random.default_rng(SEED).permutation(english)[:RERANKED_QUESTIONS])
    judged, groups = dataset.judgements.take(queries), dataset.query_groups[queries]

    def default() -> Fusion:
        return open_fusion(FuseOptions(), None, shares_of(dataset))

    base_run = fuse_offline(rankings, default(), queries=queries)
    base = measure(base_run.run, judged)
    rows = [["none", *_figures(base, base, groups), f"{np.percentile(base_run.fuse_cpu_ms, 95):.1f}"]]
    encoder = load_encoder(PASSAGE_TEXT, profile, cache_size=0)
    scorer = load_scorer(profile, encoder)
    if scorer is None:
        raise UsageError(f"profile {profile.name} has no model that reranks")
    for top in RERANK_DEPTHS:
        fusion = RerankedFusion(default(), scorer=scorer, top=top)
        fuse_offline(rankings, fusion, queries=queries)  # reads the passages, which a plane has read before too
        fused = fuse_offline(rankings, fusion, queries=queries)
        values = measure(fused.run, judged)
        rows.append([f"first {top}", *_figures(values, base, groups), f"{np.percentile(fused.fuse_cpu_ms, 95):.1f}"])
    columns = ("reranked", MRR, NDCG, f"Δ {MRR}", "p", "p95, ms (computing)")
    return Table(f"{name}, {set_name}", columns, rows, f"{len(queries)} questions of test in English.")


def _figures(values: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray], groups: np.ndarray) -> list[str]:
    difference = values[MRR] - base[MRR]
    intervals = bootstrap({MRR: values[MRR], NDCG: values[NDCG], "Δ": difference}, groups, draws=DRAWS, seed=SEED)
    p = randomisation_p(difference, groups, draws=DRAWS, seed=SEED)
    return [_percent(intervals[MRR]), _percent(intervals[NDCG]), _signed(intervals["Δ"]), f"{p:.4f}"]


def _fusion_cells(row: FusionRow) -> list[str]:
    return [
        row.fusion,
        _percent(row.figure),
        f"{100 * row.deviation:.1f}",
        _signed(row.difference),
        f"{row.p:.4f}",
        f"{row.corrected_p:.4f}",
        f"{row.seconds:.1f}",
        f"{row.score_ms:.2f}" if row.score_ms else "",
        "" if row.masking is None else f"{row.masking.share:.0%}",
    ]


def _compression_cells(row: CompressionRow) -> list[str]:
    return [
        row.method,
        str(row.dim),
        row.code,
        f"{row.bytes:,}",
        _percent(row.figures[MRR]),
        _percent(row.figures[NDCG]),
        _signed(row.difference),
        f"{row.corrected_p:.4f}",
    ]


def _percent(interval: Interval) -> str:
    return f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _signed(interval: Interval) -> str:
    return f"{100 * interval.mean:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"
