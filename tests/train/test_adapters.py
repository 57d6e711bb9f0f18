"""Tests of fitting adapters to planted faults, and of the gate: what it promotes, and what it declines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from penstock.errors import UsageError
from penstock.train import gate
from penstock.train.adapter_card import parse_card
from penstock.train.adapter_training import TrainedAdapter, TrainingJob, train_adapter
from penstock.train.adapters import (
    CLOSED_FORMS,
    AdapterOptions,
    choose_pairs,
    hold_back,
    is_gain,
    map_questions,
    negatives_of,
)
from penstock.train.alignment_data import AlignmentData, shuffled
from penstock.train.gate import GateFigures, against, judge
from penstock.train.hard_negatives import NegativeFilter
from penstock.train.trainer import Recipe
from tests.train.planted import DIM, planted

torch.set_num_threads(1)
DATA = planted()


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of fewer draws are a little less exact, and ten times as fast."""
    monkeypatch.setattr(gate, "DRAWS", 1_000)


def train(data: AlignmentData = DATA, *, kind: str = "ridge", side: str = "query", **given: Any) -> TrainedAdapter:
    options: Any = {"kind": kind, **given}
    heads: Any = {"head": kind, "side": side}
    recipe = None if kind in CLOSED_FORMS else Recipe(epochs=30, learning_rate=1e-2, **heads)
    job = TrainingJob("made", data, "null aa bb", AdapterOptions(**options), side, recipe, with_test=True)
    return train_adapter(job)


def gain(trained: TrainedAdapter, name: str) -> float:
    return next(of_slice.gain.mean for of_slice in trained.decision.slices if of_slice.name == name)


def test_a_systematic_fault_is_corrected_and_promoted() -> None:
    trained = train(lang="ja", pairs=100)
    assert trained.decision.passes
    assert trained.decision.slices[0].name == "lang ja"
    assert gain(trained, "lang ja") > 0.1
    assert gain(trained, "lang en") == 0.0, "questions in other languages keep their vectors"
    assert trained.card.test is not None
    assert judge(trained.card.test, lang="ja").slices[0].gain.low > 0


def test_an_encoder_that_is_right_is_left_alone() -> None:
    trained = train(lang="en", pairs=100)
    assert not trained.decision.passes
    assert any("is not above 0" in reason for reason in trained.decision.reasons)


@pytest.mark.parametrize("seed", range(20))
def test_shuffled_pairs_are_declined(seed: int) -> None:
    options = AdapterOptions(lang="ja", pairs=100, seed=seed)
    data = shuffled(DATA, choose_pairs(DATA, options), seed)
    assert not train(data, lang="ja", pairs=100, seed=seed).decision.passes


def test_an_adapter_that_costs_another_slice_is_declined() -> None:
    figures = GateFigures(
        ids=[str(number) for number in range(200)],
        groups=list(range(200)),
        dimensions={"lang": ["ja"] * 150 + ["en"] * 50},
        base=[0.2] * 150 + [0.9] * 50,
        adapted=[0.5] * 150 + [0.5] * 50,
    )
    decision = judge(figures, draws=500)
    assert decision.slices[0].gain.low > 0
    assert decision.reasons == ("lang en falls: -40.0 [-40.0, -40.0] MRR@10",)


def test_no_gain_at_all_is_declined() -> None:
    figures = GateFigures(["a", "b"], [0, 1], {"lang": ["en", "en"]}, [0.5, 1.0], [0.5, 1.0])
    assert not judge(figures, draws=100).passes
    assert not judge(replace(figures, adapted=[0.6, 0.9]), draws=500).passes
    assert "no question of lang ja" in judge(figures, lang="ja", draws=100).reasons[0]


def test_near_duplicates_count_once() -> None:
    count = 40
    gains = [0.5] * 20 + [-0.01] * 20
    copies = GateFigures(
        [str(number) for number in range(count)], [0] * 20 + list(range(1, 21)), {}, [0.4] * count,
        [0.4 + value for value in gains],
    )  # fmt: skip
    alone = replace(copies, groups=list(range(count)))
    assert judge(alone, draws=2_000).passes
    assert not judge(copies, draws=2_000).passes


def test_copies_of_a_pair_held_back_are_no_further_evidence() -> None:
    gains = np.array([0.5, -0.2, 0.1, 0.0])
    copies = np.repeat(gains, 30)
    assert is_gain(copies, np.arange(len(copies)))
    assert not is_gain(copies, np.repeat(np.arange(4), 30))
    assert is_gain(np.repeat([0.5, 0.4, 0.3], 4), np.repeat(np.arange(6), 2))
    assert not is_gain(np.full(30, 0.5), np.zeros(30, np.int64)), "of one group the chance is not known"


def test_a_few_small_gains_among_many_pairs_are_chance() -> None:
    groups = np.arange(100)

    def gained(count: int) -> np.ndarray:
        return np.where(groups < count, 0.1, 0.0)

    assert not is_gain(gained(4), groups), "one of sixteen draws has the same four signs"
    assert is_gain(gained(7), groups)


def test_the_best_of_many_candidates_needs_more_than_one_alone() -> None:
    rng = np.random.default_rng(3)
    groups = np.arange(80)
    passed_alone = passed_together = 0
    for _ in range(60):  # of sixty times twelve candidates that gain nothing
        gains = rng.normal(0.0, 1.0, (12, 80))
        best = gains[gains.mean(axis=1).argmax()]
        passed_alone += is_gain(best, groups)
        passed_together += is_gain(gains, groups)
    assert passed_alone >= 15
    assert passed_together <= 8


def test_a_candidate_is_compared_with_the_adapter_in_use() -> None:
    ids, groups = [str(number) for number in range(50)], list(range(50))
    weak = GateFigures(ids, groups, {}, [0.2] * 50, [0.5] * 50)
    strong = GateFigures(ids, groups, {}, [0.2] * 50, [0.7] * 50)
    assert judge(against(strong, weak), draws=200).passes
    assert not judge(against(weak, strong), draws=200).passes
    with pytest.raises(UsageError, match="judged by other questions"):
        against(replace(strong, ids=[*ids[1:], "x"]), weak)


@pytest.mark.parametrize("kind", ["procrustes", "linear", "low-rank", "mlp"])
def test_other_kinds_correct_it_too(kind: str) -> None:
    trained = train(kind=kind, lang="ja")
    assert gain(trained, "lang ja") > 0.03
    assert trained.card.kind == kind


@pytest.mark.parametrize("kind", ["ridge", "linear"])
def test_documents_can_be_mapped_instead(kind: str) -> None:
    trained = train(planted(faults={"ja": 1.2}), kind=kind, side="document")
    assert trained.transform is not None
    assert gain(trained, "all") > 0.03


def test_both_sides_go_into_another_space() -> None:
    job = TrainingJob(
        "made", planted(faults={"en": 0.0}), "null aa bb", AdapterOptions(kind="projection"), "both",
        Recipe(head="projection", side="both", output_dim=48, epochs=10),
    )  # fmt: skip
    trained = train_adapter(job)
    assert trained.transform is not None
    assert (trained.transform.input_dim, trained.transform.output_dim) == (DIM, 48)


@pytest.mark.parametrize(
    ("kind", "side", "lang", "message"),
    [
        ("ridge", "document", "ja", "--lang needs --side query"),
        ("ridge", "both", None, "maps one side onto the other"),
        ("projection", "query", None, "needs --side both"),
    ],
)
def test_options_that_do_not_fit_are_refused(kind: str, side: str, lang: str | None, message: str) -> None:
    recipe = Recipe(head="projection", output_dim=48) if kind == "projection" else None
    job = TrainingJob("made", DATA, "", AdapterOptions(kind=kind, lang=lang), side, recipe)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        train_adapter(job)


def test_too_few_pairs_and_questions_are_refused() -> None:
    with pytest.raises(UsageError, match="has 0 pairs in fr to fit to, and an adapter needs at least 20"):
        train(lang="fr")
    with pytest.raises(UsageError, match="needs the 500 that were requested"):
        train(lang="ja", pairs=500)
    with pytest.raises(UsageError, match="needs at least 20"):
        train(lang="ja", pairs=19)
    few = replace(DATA, splits=np.where(np.arange(len(DATA.splits)) % 80 == 1, DATA.splits, "train"))
    with pytest.raises(UsageError, match="fewer than 20 questions"):
        train(few)


def test_training_and_choosing_pairs_share_no_group() -> None:
    rows = choose_pairs(DATA, AdapterOptions())
    to_train, held_back = hold_back(DATA, rows, seed=0)
    assert not set(DATA.groups[to_train]) & set(DATA.groups[held_back])
    assert len(to_train) + len(held_back) == len(rows)
    assert set(DATA.splits[rows]) == {"train"}


def test_equal_jobs_give_equal_adapters() -> None:
    first, second, other = (train(lang="ja", pairs=60, seed=seed) for seed in (1, 1, 2))
    assert first.card.fingerprint == second.card.fingerprint != other.card.fingerprint


def test_only_questions_in_the_language_are_mapped() -> None:
    transform = train(lang="ja", pairs=100).transform
    assert transform is not None
    rows = np.arange(len(DATA.texts))
    changed = (map_questions(DATA, rows, transform, "ja") != DATA.questions).any(axis=1)
    assert changed.tolist() == [language == "ja" for language in DATA.dimensions["lang"]]
    assert (map_questions(DATA, rows, transform, None) != DATA.questions).any(axis=1).all()


def test_whether_a_document_was_chosen_before_is_a_slice() -> None:
    to_fit = (np.array(DATA.dimensions["lang"]) == "ja") & (DATA.groups % 2 == 0)
    trained = train(replace(DATA, splits=np.where(to_fit, "train", "dev")))
    sizes = {of_slice.name: of_slice.questions for of_slice in trained.decision.slices}
    assert (sizes["chosen before"], sizes["chosen never"]) == (160, 320), "English questions, and all of odd documents"


def test_hard_negatives_come_from_the_bank() -> None:
    rows = choose_pairs(DATA, AdapterOptions(lang="ja"))
    options = AdapterOptions(lang="ja", hard_negatives=3, negative_filter=NegativeFilter("absolute", -1.0))
    negatives = negatives_of(DATA, rows, options)
    assert negatives is not None
    assert negatives.shape == (len(rows), 3, DIM)
    _, documents = DATA.pairs(rows)
    assert not (negatives == DATA.bank[documents][:, None]).all(axis=2).any()
    assert negatives_of(DATA, rows, AdapterOptions()) is None


def test_a_card_is_read_as_it_was_written_and_decided_again() -> None:
    trained = train(lang="ja", pairs=100)
    data = trained.card.to_json(trained.decision)
    assert b"\xe3" not in data
    assert not any(text in data.decode() for text in DATA.texts), "a card has no words of questions"
    read = parse_card(data.replace(b'"passes": true', b'"passes": false'), "made")
    assert read == trained.card
    assert judge(read.figures, lang=read.lang) == trained.decision
    for broken in (b"{}", b"[]", data[:-9], data.replace(b'"schema": 1', b'"schema": 2', 1)):
        with pytest.raises(UsageError, match="the card made is"):
            parse_card(broken, "made")
