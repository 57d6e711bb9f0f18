"""Fits each method to several draws of pairs, and measures the split test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from penstock.encoders.transform import linear_transform
from penstock.evaluate.datasets import read_set
from penstock.evaluate.intervals import bootstrap, holm, randomisation_p
from penstock.evaluate.metrics import MRR
from penstock.evaluate.vectors import VectorFiles
from penstock.records import Float32
from penstock.train.adapter_training import TrainingJob, fit_adapter, train_adapter
from penstock.train.adapters import AdapterOptions, choose_pairs, measure_adapter
from penstock.train.alignment_data import LAST, AlignmentData, IntArray, read_alignment, shuffled
from penstock.train.closed_forms import centring, whitening
from penstock.train.ranks import Float64, reciprocal_ranks
from penstock.train.trainer import Recipe
from tools.measure_adapters.suggestions import SuggestionRow

LANGUAGES = ("en", "de", "fr", "it", "es", "pt", "ru", "ja")
COUNTS = (100, 500)
METHOD_PAIRS = 250
DRAWS = 10_000
SHUFFLES = 20


@dataclass(frozen=True, slots=True)
class MethodRow:
    """The gain of one method on the questions of the split test.

    Attributes:
        block: of rows that are corrected together.
        questions: such as `ja`, or `clipart`.
        method: and its options.
        pairs: that it was fitted to, 0 for none.
        count: questions.
        base, adapted: MRR@10, the mean of the draws of pairs.
        gain, low, high: of MRR@10, with the interval of the mean of the draws.
        p, p_holm: of the randomisation test, plain and corrected in its block.
        seconds: of processor time that one fit takes.
    """

    block: str
    questions: str
    method: str
    pairs: int
    count: int
    base: float
    adapted: float
    gain: float
    low: float
    high: float
    p: float
    p_holm: float
    seconds: float


@dataclass(frozen=True, slots=True)
class GateRow:
    """The decision of the gate on adapters of one kind of pairs.

    Attributes:
        questions: such as `ja`; with `shuffled` for pairs that say nothing.
        trials, promoted: how many, and how many of them passed.
        dev, test: mean gain in MRR@10 on both splits.
        low: of the interval on the split test, of the first trial.
    """

    questions: str
    trials: int
    promoted: int
    dev: float
    test: float
    low: float


def methods() -> Iterator[tuple[str, str, str, Recipe | None, int]]:
    """Yields name, kind, side, recipe and hard negatives of each method."""
    yield "ridge to the identity", "ridge", "query", None, 0
    yield "ridge, documents", "ridge", "document", None, 0
    yield "procrustes", "procrustes", "query", None, 0
    base = Recipe()
    yield "InfoNCE, linear, T 0.07", "linear", "query", base, 0
    for temperature in (0.02, 0.1, 0.5):
        yield f"InfoNCE, linear, T {temperature}", "linear", "query", replace(base, temperature=temperature), 0
    yield "InfoNCE, linear, T learnt", "linear", "query", replace(base, learn_temperature=True), 0
    yield "InfoNCE, low-rank", "low-rank", "query", replace(base, head="low-rank"), 0
    yield "InfoNCE, mlp", "mlp", "query", replace(base, head="mlp"), 0
    yield "InfoNCE, linear, both sides", "linear", "both", replace(base, side="both"), 0
    yield "sigmoid, linear", "linear", "query", replace(base, loss="sigmoid"), 0
    yield "triplet, hardest, margin 0.2", "linear", "query", replace(base, loss="triplet"), 0
    yield "triplet, random, margin 1.0", "linear", "query", replace(base, loss="triplet-random"), 0
    yield "contrastive, margin 1.0", "linear", "query", replace(base, loss="contrastive"), 0
    yield "cosine", "linear", "query", replace(base, loss="cosine"), 0
    yield "InfoNCE + adversary 0.1", "linear", "query", replace(base, adversary=0.1), 0
    yield "InfoNCE + 5 hard negatives", "linear", "query", base, 5
    yield "InfoNCE + gradient noise 0.01", "linear", "query", replace(base, gradient_noise=0.01), 0
    yield "InfoNCE + vector noise 0.2", "linear", "query", replace(base, vector_noise=0.2), 0
    yield "InfoNCE + label smoothing 0.1", "linear", "query", replace(base, label_smoothing=0.1), 0


def measure_languages(data: AlignmentData, seeds: Sequence[int]) -> list[MethodRow]:
    """Returns the gain of ridge by language and number of pairs."""
    rows = []
    for lang in LANGUAGES:
        for pairs in COUNTS:
            if len(data.rows("train", lang=lang)) < pairs:
                continue
            job = _job(data, AdapterOptions(lang=lang, pairs=pairs))
            rows.append(_row("languages", lang, "ridge to the identity", job, seeds))
    return _corrected(rows)


def measure_methods(data: AlignmentData, lang: str | None, label: str, seeds: Sequence[int]) -> list[MethodRow]:
    """Returns the gain of each method on the same draws of pairs, and of corrections without pairs."""
    without_pairs = (("centring", centring), ("whitening", whitening))
    rows = [_without_pairs(data, lang, label, name, fit) for name, fit in without_pairs]
    for name, kind, side, recipe, negatives in methods():
        of_questions = lang if side == "query" else None
        options = AdapterOptions(kind=kind, lang=of_questions, pairs=METHOD_PAIRS, hard_negatives=negatives)  # type: ignore[arg-type]
        chosen = data if lang is None or side == "query" else _of_language(data, lang)
        rows.append(_row(f"methods, {label}", label, name, _job(chosen, options, side, recipe), seeds))
    return _corrected(rows)


def measure_gate(data: AlignmentData, lang: str, *, shuffle: bool) -> GateRow:
    """Returns what the gate decides on adapters of 100 pairs: for draws of pairs, or for shuffled ones.

    Shuffled pairs are judged by the questions of their language alone: with fewer slices more would pass.
    """
    data = _of_language(data, lang) if shuffle else data
    promoted, dev, test = 0, [], []
    low = 0.0
    trials = SHUFFLES if shuffle else 5
    rows = data.rows(LAST, lang=lang)
    for seed in range(trials):
        options = AdapterOptions(lang=lang, pairs=100, seed=seed)
        source = shuffled(data, choose_pairs(data, options), seed) if shuffle else data
        trained = train_adapter(_job(source, options))
        promoted += trained.decision.passes
        dev.append(trained.decision.slices[0].gain.mean)
        before, after = measure_adapter(data, rows, trained.transform, side="query", lang=lang)
        gains = reciprocal_ranks(after) - reciprocal_ranks(before)
        test.append(float(gains.mean()))
        low = bootstrap({MRR: gains}, data.groups[rows], draws=DRAWS)[MRR].low if seed == 0 else low
    name = f"{lang}, shuffled" if shuffle else lang
    return GateRow(name, trials, promoted, float(np.mean(dev)), float(np.mean(test)), low)


def read_data(folder: Path, vectors: VectorFiles) -> AlignmentData:
    """Returns the data of a set."""
    return read_alignment(read_set(folder), vectors)


def as_rows(rows: Sequence[MethodRow | GateRow | SuggestionRow]) -> list[dict[str, object]]:
    """Returns rows as JSON-like values, rounded."""
    return [
        {name: round(value, 5) if isinstance(value, float) else value for name, value in asdict(row).items()}
        for row in rows
    ]


def _job(
    data: AlignmentData, options: AdapterOptions, side: str = "query", recipe: Recipe | None = None
) -> TrainingJob:
    return TrainingJob("measured", data, "", options, side, recipe)


def _row(block: str, questions: str, method: str, job: TrainingJob, seeds: Sequence[int]) -> MethodRow:
    """Returns the row of a method: the mean of its draws, question by question, against the encoder as it is."""
    rows = job.data.rows(LAST, lang=None if questions not in LANGUAGES else questions)
    figures, seconds = [], []
    base = np.zeros(0)
    for seed in seeds:
        drawn = replace(job, options=replace(job.options, seed=seed))
        started = time.thread_time()
        fitted = fit_adapter(drawn, job.data, choose_pairs(job.data, drawn.options))
        seconds.append(time.thread_time() - started)
        before, after = measure_adapter(job.data, rows, fitted.transform, side=job.side, lang=job.options.lang)
        base = reciprocal_ranks(before)
        figures.append(reciprocal_ranks(after))
    row = _empty_row(block, questions, method, pairs=job.options.pairs or 0, seconds=max(seconds))
    return _compared(row, base, np.mean(figures, axis=0), job.data.groups[rows])


def _without_pairs(
    data: AlignmentData,
    lang: str | None,
    label: str,
    name: str,
    fit: Callable[[Float32], tuple[Float32, Float32]],
) -> MethodRow:
    """Returns the row of a correction that needs no pairs: of both sides, each by its own vectors."""
    rows = data.rows(LAST, lang=lang)
    fitted = data.rows("train", lang=lang)
    questions, bank = (linear_transform(*fit(vectors)) for vectors in (data.questions[fitted], data.bank))
    corrected = replace(data, questions=questions.apply(data.questions), bank=bank.apply(data.bank))
    before, _ = measure_adapter(data, rows, None, side="query", lang=None)
    after, _ = measure_adapter(corrected, rows, None, side="query", lang=None)
    row = _empty_row(f"methods, {label}", label, name, pairs=0, seconds=0.0)
    return _compared(row, reciprocal_ranks(before), reciprocal_ranks(after), data.groups[rows])


def _empty_row(block: str, questions: str, method: str, *, pairs: int, seconds: float) -> MethodRow:
    return MethodRow(block, questions, method, pairs, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, seconds)


def _compared(row: MethodRow, base: Float64, adapted: Float64, groups: IntArray) -> MethodRow:
    """Returns a row with its figures."""
    difference = adapted - base
    gain = bootstrap({MRR: difference}, groups, draws=DRAWS)[MRR]
    return replace(
        row,
        count=len(base),
        base=float(base.mean()),
        adapted=float(adapted.mean()),
        gain=gain.mean,
        low=gain.low,
        high=gain.high,
        p=randomisation_p(difference, groups, draws=DRAWS),
    )


def _corrected(rows: Sequence[MethodRow]) -> list[MethodRow]:
    return [replace(row, p_holm=p) for row, p in zip(rows, holm([row.p for row in rows]), strict=True)]


def _of_language(data: AlignmentData, lang: str) -> AlignmentData:
    """Returns the data whose questions to fit to, to judge by and to measure are those of one language."""
    inside = np.zeros(len(data.texts), dtype=np.bool_)
    for split in ("train", "dev", LAST):
        inside[data.rows(split, lang=lang)] = True
    return replace(data, splits=np.where(inside, data.splits, "left out"))
