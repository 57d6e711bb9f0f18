"""Trains an adapter from beginning to end: chooses pairs, fits, measures, and describes the result in a card."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from penstock.encoders.transform import LayeredTransform, described, to_bytes
from penstock.errors import UsageError
from penstock.records import Float32
from penstock.train.adapter_card import MAX_BYTES, AdapterCard
from penstock.train.adapters import (
    CLOSED_FORMS,
    AdapterOptions,
    FittedAdapter,
    choose_pairs,
    distinct_items,
    fit_closed_form,
    hold_back,
    is_gain,
    measure_adapter,
    negatives_of,
)
from penstock.train.alignment_data import GATE, LAST, AlignmentData, IntArray, add_chosen_before
from penstock.train.gate import GateDecision, GateFigures, collect, judge
from penstock.train.ranks import reciprocal_ranks

if TYPE_CHECKING:
    from penstock.train.trainer import Recipe

# Fewer questions of the gate decide nothing: their intervals are as wide as any gain.
MIN_GATE_QUESTIONS = 20


@dataclass(frozen=True)
class TrainedAdapter:
    """An adapter that was trained, with its card and the decision of the gate.

    Attributes:
        transform: None: the encoder as it is was best.
    """

    transform: LayeredTransform | None
    card: AdapterCard
    decision: GateDecision


@dataclass(frozen=True)
class TrainingJob:
    """The checked options of one training.

    Attributes:
        name: of the adapter.
        data: questions and documents.
        encoder: identity of the encoder of the questions, in one line.
        options: pairs and kind.
        side: query, document or both.
        recipe: of heads that are trained by gradient; None for closed forms.
        teacher: the same questions and documents by another encoder; None: there is no teacher.
        with_test: whether the split test is measured, too.
        device: of torch.
    """

    name: str
    data: AlignmentData = field(repr=False)
    encoder: str
    options: AdapterOptions
    side: str = "query"
    recipe: Recipe | None = None
    teacher: AlignmentData | None = field(default=None, repr=False)
    with_test: bool = False
    device: str = "cpu"


def train_adapter(job: TrainingJob, report: Callable[[str, int, int], None] = lambda *_: None) -> TrainedAdapter:
    """Trains and measures an adapter. Equal jobs give equal adapters.

    Raises:
        UsageError: there are too few pairs or questions of the gate, or the options do not fit each other.
    """
    started = time.perf_counter()
    _check(job)
    rows = choose_pairs(job.data, job.options)
    data = add_chosen_before(job.data, rows)
    gate = data.rows(GATE)
    if len(data.rows(GATE, lang=job.options.lang)) < MIN_GATE_QUESTIONS:
        raise UsageError(f"{data.name} has fewer than {MIN_GATE_QUESTIONS} questions of split {GATE} for the gate")
    report("fitting", 0, 1)
    fitted = fit_adapter(job, data, rows)
    report("fitting", 1, 1)
    report("measuring", 0, 1)
    figures = _measure(job, data, gate, fitted.transform)
    test = _measure(job, data, data.rows(LAST), fitted.transform) if job.with_test else None
    report("measuring", 1, 1)
    transform = None if fitted.transform is None else _described(job, fitted.transform)
    card = AdapterCard(
        name=job.name,
        fingerprint="" if transform is None else transform.fingerprint,
        kind=job.options.kind,
        side=job.side,
        lang=job.options.lang,
        field=data.field.value,
        role=data.role,
        encoder=job.encoder,
        data=data.name,
        data_hash=data.hash,
        pairs=len(rows),
        seed=job.options.seed,
        parameters=_parameters(job, fitted),
        seconds=round(time.perf_counter() - started, 2),
        figures=figures,
        test=test,
        note=fitted.collapsed,
    )
    return TrainedAdapter(transform, card, judge(figures, lang=job.options.lang))


def _check(job: TrainingJob) -> None:
    options, side = job.options, job.side
    if options.lang is not None and side != "query":
        raise UsageError("an adapter of one language maps questions: --lang needs --side query")
    if options.kind in CLOSED_FORMS and side == "both":
        raise UsageError(f"{options.kind} maps one side onto the other one: use --side query or document")
    output_dim = None if job.recipe is None else job.recipe.output_dim
    if output_dim not in (None, job.data.bank.shape[1]) and side != "both":
        raise UsageError("another number of dimensions needs --side both: both sides must be of one length")


def fit_adapter(job: TrainingJob, data: AlignmentData, rows: IntArray) -> FittedAdapter:
    """Returns the map of a job fitted to the pairs of some questions, without measuring it."""
    if job.options.kind in CLOSED_FORMS:
        return fit_closed_form(data, rows, job.options, side=job.side)
    assert job.recipe is not None
    return _fit_head(job, data, rows, job.recipe)


def _fit_head(job: TrainingJob, data: AlignmentData, rows: IntArray, recipe: Recipe) -> FittedAdapter:
    from penstock.train.trainer import PairVectors, train_head

    to_train, held_back = hold_back(data, rows, job.options.seed)
    questions, documents = data.pairs(to_train)
    pairs = PairVectors(
        data.questions[questions],
        data.bank[documents],
        distinct_items(data, to_train),
        negatives_of(data, to_train, job.options),
        _teacher(job, to_train),
    )

    def found(transform: LayeredTransform) -> float:
        _, ranks = measure_adapter(data, held_back, transform, side=job.side, lang=None)
        return float(reciprocal_ranks(ranks).mean())

    trained = train_head(pairs, replace(recipe, seed=job.options.seed), found, device=job.device)
    transform = trained.transform
    if transform is not None and transform.input_dim == transform.output_dim:
        base, mapped = measure_adapter(data, held_back, transform, side=job.side, lang=None)
        gains = reciprocal_ranks(mapped) - reciprocal_ranks(base)
        transform = transform if is_gain(gains, data.groups[held_back]) else None
    return FittedAdapter(transform, rows, {"epoch": float(trained.epoch)}, trained.collapsed)


def _teacher(job: TrainingJob, rows: IntArray) -> tuple[Float32, Float32] | None:
    if job.teacher is None:
        return None
    if job.teacher.texts != job.data.texts:
        raise UsageError("the teacher's vectors are of other questions than the data")
    questions, documents = job.teacher.pairs(rows)
    return job.teacher.questions[questions], job.teacher.bank[documents]


def _measure(job: TrainingJob, data: AlignmentData, rows: IntArray, transform: LayeredTransform | None) -> GateFigures:
    base, adapted = measure_adapter(data, rows, transform, side=job.side, lang=job.options.lang)
    return collect(data, rows, base, adapted)


def _described(job: TrainingJob, transform: LayeredTransform) -> LayeredTransform:
    about = {
        "name": job.name,
        "side": job.side,
        "lang": job.options.lang,
        "field": job.data.field.value,
        "role": job.data.role,
        "encoder": job.encoder,
    }
    transform = described(transform, about)
    size = len(to_bytes(transform))
    if size > MAX_BYTES:
        raise UsageError(
            f"the adapter takes {size:,} bytes, and at most {MAX_BYTES:,} are read: use --kind low-rank, which needs "
            "32 numbers for each dimension"
        )
    return transform


def _parameters(job: TrainingJob, fitted: FittedAdapter) -> Mapping[str, Any]:
    training = {} if job.recipe is None else asdict(job.recipe)
    return {**training, "hard_negatives": job.options.hard_negatives, **fitted.parameters}
