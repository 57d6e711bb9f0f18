"""Comparisons of two results, their JSON and Markdown, and the exchange with other tools."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import ir_measures
import numpy as np
import pytest

from penstock.encoders.profiles import load_profile
from penstock.errors import UsageError
from penstock.evaluate.datasets import read_set
from penstock.evaluate.evaluation import Evaluated, EvaluationOptions, evaluate_offline, evaluate_run
from penstock.evaluate.exchange import export_run, import_run
from penstock.evaluate.intervals import holm
from penstock.evaluate.metrics import Run
from penstock.evaluate.report import to_markdown
from penstock.evaluate.result import Result, as_read, read_result, to_json, write
from penstock.evaluate.tables import compare
from penstock.evaluate.vectors import VectorFiles
from penstock.query.fusion.rrf import ReciprocalRankFusion
from tests.evaluate.made_sets import write_texts

OPTIONS = EvaluationOptions(draws=200, seed=1)


@pytest.fixture
def evaluated(tmp_path: Path) -> Evaluated:
    dataset = read_set(write_texts(tmp_path / "texts"))
    vectors = VectorFiles(tmp_path / "vectors", load_profile("null"))
    return evaluate_offline(dataset, vectors, ReciprocalRankFusion({}, k=10), OPTIONS)[0]


def _result(*evaluated: Evaluated) -> Result:
    sets = [of_set.result for of_set in evaluated]
    return Result("offline", "penstock evaluate texts", "abc", "two cores", "null", {}, "rrf", 1, 200, sets)


def test_a_run_does_not_differ_from_itself(evaluated: Evaluated) -> None:
    for row in compare(
        [(evaluated.dataset, evaluated.queries, evaluated.result)], [evaluated.result], draws=99, seed=1
    ):
        assert row.difference.mean == 0.0
        assert row.p == row.p_holm == 1.0
        assert (row.counts.win, row.counts.loss) == (0, 0)


def test_a_gain_has_its_base_interval_and_corrected_p(evaluated: Evaluated) -> None:
    """The perfect run beats the fused one; its p is corrected for the five slices."""
    dataset, queries = evaluated.dataset, evaluated.queries
    perfect = np.array([rows[:1] for rows in dataset.judgements.rows()])
    better = evaluate_run(dataset, Run(perfect, np.ones(perfect.shape)), OPTIONS)
    rows = compare([(dataset, queries, better.result)], [evaluated.result], draws=999, seed=1)
    assert len(rows) == 5
    assert rows[0].base == pytest.approx(evaluated.result.rows[4].figures["nDCG@10"].mean, abs=1e-5)
    assert rows[0].base + rows[0].difference.mean == pytest.approx(1.0, abs=1e-5)
    assert rows[0].difference.above_zero
    assert rows[0].p <= 0.005
    assert [row.p_holm for row in rows] == holm([row.p for row in rows])
    assert rows[0].counts.loss == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "other"}, "the other result has no set texts; it has other"),
        ({"hash": "0"}, "set texts has changed since the other result"),
        ({"per_query": {}}, "no figures of the same queries of set texts"),
    ],
)
def test_results_that_do_not_match_are_refused(evaluated: Evaluated, change: dict[str, object], message: str) -> None:
    other = replace(evaluated.result, **change)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        compare([(evaluated.dataset, evaluated.queries, evaluated.result)], [other], draws=9, seed=1)


def test_a_result_is_equal_after_it_was_written_and_read(evaluated: Evaluated, tmp_path: Path) -> None:
    comparisons = compare(
        [(evaluated.dataset, evaluated.queries, evaluated.result)], [evaluated.result], draws=99, seed=1
    )
    result = as_read(replace(_result(evaluated), comparisons=comparisons, against="before.json"))
    write(result, tmp_path / "out" / "run.json", to_markdown(result))
    again = read_result(tmp_path / "out" / "run.json")
    assert to_json(again) == to_json(result)
    assert to_markdown(again) == (tmp_path / "out" / "run.md").read_text("utf-8")
    assert again.sets[0].per_query == result.sets[0].per_query


def test_only_figures_remain_without_queries(evaluated: Evaluated) -> None:
    document = json.loads(to_json(_result(evaluated).without_queries()))
    assert document["sets"][0]["per_query"] == {}
    assert document["sets"][0]["rows"]


@pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"format": 0}'])
def test_a_file_that_is_no_result_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UsageError, match=r"run.json") as failure:
        read_result(tmp_path / "run.json")
    assert "\n" not in str(failure.value)


def test_tables_have_the_base_first_and_intervals(evaluated: Evaluated) -> None:
    lines = to_markdown(_result(evaluated)).splitlines()
    table = [line for line in lines if line.startswith("| all ")]
    assert table[0].startswith("| all | 40 | chance | ")
    assert "[" not in table[0]
    assert table[-1].startswith("| all | 40 | search | ")
    assert table[-1].count("[") == 8


def test_other_tools_compute_the_same_from_an_exported_run(evaluated: Evaluated, tmp_path: Path) -> None:
    run, qrels = export_run(evaluated.dataset, evaluated.queries, evaluated.run, tmp_path, form="trec")
    theirs = ir_measures.calc_aggregate(
        [ir_measures.nDCG @ 10, ir_measures.RR @ 10],
        list(ir_measures.read_trec_qrels(str(qrels))),
        list(ir_measures.read_trec_run(str(run))),
    )
    ours = evaluated.result.rows[4].figures
    assert ours["nDCG@10"].mean == pytest.approx(theirs[ir_measures.nDCG @ 10], abs=1e-9)
    assert ours["MRR@10"].mean == pytest.approx(theirs[ir_measures.RR @ 10], abs=1e-9)


def test_an_imported_run_has_the_figures_of_the_exported_one(evaluated: Evaluated, tmp_path: Path) -> None:
    file, _ = export_run(evaluated.dataset, evaluated.queries, evaluated.run, tmp_path, form="trec")
    imported = evaluate_run(evaluated.dataset, import_run(evaluated.dataset, file), OPTIONS, system="imported")
    assert imported.result.per_query == evaluated.result.per_query
    assert imported.result.rows[1].system == "imported"


def test_beir_files_hold_run_and_judgements(evaluated: Evaluated, tmp_path: Path) -> None:
    run, qrels = export_run(evaluated.dataset, evaluated.queries, evaluated.run, tmp_path, form="beir")
    assert len(json.loads(run.read_text())) == len(evaluated.queries)
    assert qrels.read_text().splitlines()[0] == "query-id\tcorpus-id\tscore"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("full2 Q0 t2 1", "line 1: expected query-id Q0 document-id rank score tag"),
        ("full2 Q0 nobody 1 0.5 x", "line 1: set texts has no document 'nobody'"),
        ("full2 Q0 t2 1 high x", "line 1: the score 'high' is no number"),
    ],
)
def test_a_wrong_line_of_a_run_is_named(evaluated: Evaluated, tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "run.trec").write_text(line + "\n")
    with pytest.raises(UsageError, match=message):
        import_run(evaluated.dataset, tmp_path / "run.trec")
