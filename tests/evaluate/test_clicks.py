"""Tests of simulated choices, on a made set and, where it is there, on the mixed one."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from penstock.evaluate.clicks import AskableSet, plant_clicks, recall_offline, simulate_clicks
from penstock.evaluate.evaluation_set import Document, EvaluationSet, LabelledQuery
from penstock.evaluate.judgements import Judgements
from penstock.query.clicks.guards import ClickRules
from penstock.query.fusion.calibration import LogisticMap
from penstock.records import AssetRef, Collection, bare_entry

CONCEPTS, WORDINGS, DIM = 30, 3, 16
SCORES = LogisticMap(20.0, -16.0)


@pytest.fixture
def askable() -> AskableSet:
    """Thirty concepts with two texts each, and three questions whose vectors are close."""
    documents = tuple(Document(f"d{number}", text=f"text {number}") for number in range(2 * CONCEPTS))
    queries = tuple(LabelledQuery(f"q{number}", f"question {number}") for number in range(WORDINGS * CONCEPTS))
    right = [(query, 2 * (query // WORDINGS) + which, 1.0) for query in range(len(queries)) for which in (0, 1)]
    judgements = Judgements.of_pairs(iter(right), queries=len(queries))
    dataset = EvaluationSet("made", documents, queries, judgements, ("",) * len(documents))
    rng = np.random.default_rng(0)
    concepts = np.repeat(rng.normal(size=(CONCEPTS, DIM)), WORDINGS, axis=0)
    vectors = concepts + 0.2 * rng.normal(size=concepts.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    entries = [bare_entry(AssetRef("default", "media.text", document.id), Collection.TEXT) for document in documents]
    return AskableSet(dataset, entries, vectors.astype(np.float32))


def everything(askable: AskableSet) -> np.ndarray:
    return np.arange(len(askable.dataset.queries))


def test_choices_are_of_right_documents_and_leave_questions_to_be_asked(askable: AskableSet) -> None:
    simulated = simulate_clicks(askable, everything(askable), clicks=60, voters_of_pair=2, seed=1)
    assert len(simulated.choices) == 60
    by_id = {entry.id: row for row, entry in enumerate(askable.entries)}
    past = np.flatnonzero(simulated.is_past).tolist()
    right = {row for query in past for row in askable.dataset.judgements.rows_of(query).tolist()}
    assert {by_id[choice.entry_id] for choice in simulated.choices} == simulated.chosen <= right
    groups = askable.dataset.query_groups
    assert len(set(groups[past])) < CONCEPTS
    assert all((~simulated.is_past[groups == group]).any() for group in groups[past])
    again = simulate_clicks(askable, everything(askable), clicks=60, voters_of_pair=2, seed=1)
    assert [choice.id for choice in again.choices] == [choice.id for choice in simulated.choices]


def test_what_was_chosen_is_recalled_in_other_words(askable: AskableSet) -> None:
    simulated = simulate_clicks(askable, everything(askable), clicks=60, voters_of_pair=2, seed=1)
    recalled = recall_offline(askable, simulated.choices, SCORES, ClickRules(2, 90.0))
    by_id = {entry.id: row for row, entry in enumerate(askable.entries)}
    later = np.flatnonzero(~simulated.is_past).tolist()
    matched = [query for query in later if recalled[askable.dataset.queries[query].text]]
    first = [by_id[recalled[askable.dataset.queries[query].text][0].entry.id] for query in matched]
    right = [row in askable.dataset.judgements.rows_of(query) for query, row in zip(matched, first, strict=True)]
    assert len(matched) >= 10
    assert np.mean(right) > 0.8


def test_the_choices_of_one_caller_are_not_recalled(askable: AskableSet) -> None:
    planted = plant_clicks(askable, everything(askable).tolist(), 7, clicks=25)
    assert len(planted) == 25
    assert not any(recall_offline(askable, planted, SCORES, ClickRules(2, 90.0)).values())
    honest = [replace(planted[0], voter="0" * 32)]
    assert any(recall_offline(askable, [*planted, *honest], SCORES, ClickRules(2, 90.0)).values())


SETS, VECTORS = os.environ.get("PENSTOCK_TEST_SETS", ""), os.environ.get("PENSTOCK_TEST_VECTORS", "")


@pytest.mark.exhaustive
@pytest.mark.skipif(not (SETS and VECTORS), reason="PENSTOCK_TEST_SETS and PENSTOCK_TEST_VECTORS name no folders")
def test_on_the_mixed_set_choices_help_as_the_documents_say() -> None:
    from tools.measure_clicks import measure

    rows = measure(Path(SETS) / "mixed", "shelf", Path(VECTORS), clicks=500)
    shipped, planted = rows[0], rows[-1]
    assert shipped["same asset, other words after"] >= 40
    assert shipped["never chosen after"] >= shipped["never chosen before"] - 2
    assert planted["largest"] <= 1
