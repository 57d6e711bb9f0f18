"""Measures learned fusion: every way to make one score of an asset's vectors, and every rule on and off.

1 floors     averages, concatenation, one modality alone, ranks
2 tuned      α of early and of late fusion, by dev
3 trained    the gate alone; cross-attention with all rules, minus each, each alone, and none, over several seeds
4 compare    MRR@10 on test with the late α: difference, interval, p, and p after Holm over the rows
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from penstock.evaluate.intervals import Interval, bootstrap, holm, randomisation_p
from penstock.evaluate.metrics import MRR, FloatArray
from penstock.evaluate.offline import SetRankings
from penstock.train.fusion.asset_tokens import AssetTokens, candidates
from penstock.train.fusion.cached_scores import CachedScores
from penstock.train.fusion.explanations import MaskingTest, masking_test
from penstock.train.fusion.judge import mean_mrr, reciprocal_ranks
from penstock.train.fusion.plain import ALPHAS, UNTRAINED, Scoring, early, late
from penstock.train.fusion.rules import AttentionRules, ablation
from penstock.train.fusion.training import FusionOptions, Questions, TrainedFusion, recommended_bottleneck, train_fusion

BASE = "late α"


@dataclass(frozen=True, slots=True)
class FusionRow:
    """One fusion on the questions of test.

    Attributes:
        fusion: its name.
        figure: MRR@10 over assets.
        deviation: of it between seeds; 0 without training.
        difference: from the base, the late α.
        p, corrected_p: of the difference, and after Holm over the rows.
        seconds: of training, of one seed.
        score_ms: 95th percentile of the computing time for the candidates of one question, with one thread.
        masking: of the first seed; None without attention.
    """

    fusion: str
    figure: Interval
    deviation: float
    difference: Interval
    p: float
    seconds: float
    score_ms: float
    masking: MaskingTest | None = None
    corrected_p: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class FusionData:
    """The questions of each split with their candidates.

    Attributes:
        assets: of the set.
        train, dev, test: the right asset is among the candidates of train.
    """

    assets: AssetTokens
    train: Questions
    dev: Questions
    test: Questions

    @classmethod
    def of(cls, assets: AssetTokens, rankings: SetRankings) -> FusionData:
        """Returns the candidates of every question, from the rankings of all channels."""
        by_split = {}
        for split in ("train", "dev", "test"):
            rows = assets.rows(split)
            by_split[split] = Questions(rows, candidates(assets, rankings, rows, with_right=split == "train"))
        return cls(assets, **by_split)

    def tuned(self, of_alpha: Callable[[float], Scoring]) -> float:
        """Returns the α that dev judges best."""
        return max(ALPHAS, key=lambda alpha: self._on_dev(of_alpha(alpha)))

    def _on_dev(self, scoring: Scoring) -> float:
        scores = scoring(self.assets, self.dev.rows, self.dev.assets)
        return mean_mrr(self.assets, self.dev.rows, self.dev.assets, scores)


@dataclass(frozen=True, slots=True, eq=False)
class _Tried:
    """The figures of one fusion: float64[questions of test], averaged over seeds."""

    name: str
    values: FloatArray
    deviation: float = 0.0
    seconds: float = 0.0
    score_ms: float = 0.0
    masking: MaskingTest | None = None


def measure_fusion(
    data: FusionData,
    *,
    seeds: Sequence[int],
    draws: int,
    seed: int,
    report: Callable[[str], None] = lambda _: None,
    tried: Iterable[tuple[str, FusionOptions]] | None = None,
) -> list[FusionRow]:
    """Returns a row for every fusion, the base among them.

    Args:
        data: assets and questions.
        seeds: of training; figures are means over them.
        draws, seed: of intervals.
        report: takes the name of each fusion that begins.
        tried: the trained fusions; None: all of `trained_options`.
    """
    options = trained_options() if tried is None else tried
    measured = [*_untrained(data), *_trained(data, seeds, report, options)]
    base = next(fusion for fusion in measured if fusion.name.startswith(BASE))
    groups = data.assets.dataset.query_groups[data.test.rows]
    rows = []
    for fusion in measured:
        difference = fusion.values - base.values
        intervals = bootstrap({MRR: fusion.values, "Δ": difference}, groups, draws=draws, seed=seed)
        p = randomisation_p(difference, groups, draws=draws, seed=seed)
        rows.append(
            FusionRow(
                fusion.name,
                intervals[MRR],
                fusion.deviation,
                intervals["Δ"],
                p,
                fusion.seconds,
                fusion.score_ms,
                fusion.masking,
            )
        )
    corrected = iter(holm([row.p for row, fusion in zip(rows, measured, strict=True) if fusion is not base]))
    return [
        row if fusion is base else replace(row, corrected_p=next(corrected))
        for row, fusion in zip(rows, measured, strict=True)
    ]


def _untrained(data: FusionData) -> Iterator[_Tried]:
    """Yields what needs no training; α is chosen by dev."""
    named = list(UNTRAINED.items())
    for name, of_alpha in (("early α", early), (BASE, late)):
        alpha = data.tuned(of_alpha)
        named.append((f"{name} {alpha:g}", of_alpha(alpha)))
    for name, scoring in named:
        scores = scoring(data.assets, data.test.rows, data.test.assets)
        yield _Tried(name, reciprocal_ranks(data.assets, data.test.rows, data.test.assets, scores))


def trained_options(epochs: int | None = None) -> Iterator[tuple[str, FusionOptions]]:
    """Yields every trained fusion with its name."""
    usual = FusionOptions() if epochs is None else FusionOptions(epochs=epochs)
    gate = replace(usual, rules=AttentionRules.only("gate"), attend=False)
    yield "gate sigmoid(W(v + t) + b), no attention", gate
    for name, rules in ablation():
        yield f"cross-attention, {name}", replace(usual, rules=rules)
    beta = recommended_bottleneck()
    yield f"cross-attention, all, bottleneck β {beta:g}", replace(usual, bottleneck=beta)
    for temperature in (0.5, 2.0):
        options = replace(usual, temperature=temperature)
        yield f"cross-attention, all, temperature {temperature:g}", options


def _trained(
    data: FusionData,
    seeds: Sequence[int],
    report: Callable[[str], None],
    tried: Iterable[tuple[str, FusionOptions]],
) -> Iterator[_Tried]:
    weight = data.tuned(late)
    for name, options in tried:
        report(name)
        started = time.perf_counter()
        fusions = [
            train_fusion(data.assets, data.train, data.dev, options, weight=weight, seed=of_run) for of_run in seeds
        ]
        seconds = (time.perf_counter() - started) / len(seeds)
        test = data.test
        values = np.stack([
            reciprocal_ranks(data.assets, test.rows, test.assets, fusion.scores(test)) for fusion in fusions
        ])  # fmt: skip
        masking = masking_test(fusions[0], test, seed=seeds[0]) if fusions[0].model.shape.attend else None
        yield _Tried(
            name,
            values.mean(axis=0),
            float(values.mean(axis=1).std()),
            seconds,
            score_p95_ms(fusions[0], test),
            masking,
        )


def use_one_thread() -> None:
    """Makes torch compute with one thread: matrices as small as these take longer with more."""
    torch.set_num_threads(1)


def score_p95_ms(fusion: TrainedFusion, questions: Questions) -> float:
    """Returns the 95th percentile of the computing time for the candidates of one question; the first ones warm up."""
    caches = fusion.model.rules.cache and fusion.model.shape.attend
    scores = CachedScores(fusion).scores if caches else fusion.scores
    times_ms = []
    for place in range(min(60, len(questions.rows))):
        single = questions.take(np.array([place]))
        started = time.thread_time()
        scores(single)
        times_ms.append((time.thread_time() - started) * 1000)
    return float(np.percentile(times_ms[5:] or times_ms, 95))
