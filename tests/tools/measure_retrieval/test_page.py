"""The page of measurements is the one that the committed results give."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.encoders.profiles import load_profile
from penstock.evaluate.evaluation import EvaluationOptions
from penstock.evaluate.result import as_read, read_result, to_json
from penstock.evaluate.vectors import VectorFiles
from tests.evaluate.made_sets import write_images
from tools.measure_retrieval import page
from tools.measure_retrieval.blocks import Subject, measure_fusions, measure_set

OPTIONS = EvaluationOptions(ks=(1, 10), draws=100)


def test_the_page_is_current() -> None:
    assert page.PAGE.read_text("utf-8") == page.write_page(), "run `python -m tools.measure_retrieval --page`"


def test_committed_results_hold_figures_only() -> None:
    results = [read_result(file) for file in page.RESULTS.glob("retrieval-*.json")]
    assert results
    assert all(not of_set.per_query for result in results for of_set in result.sets)


def test_a_set_and_its_fusions_give_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = load_profile("null")
    subject = Subject(profile, VectorFiles(tmp_path / "vectors", profile))
    folder = write_images(tmp_path / "made")
    result = as_read(measure_set(subject, folder, OPTIONS))
    (tmp_path / "retrieval-null-made.json").write_text(to_json(result), encoding="utf-8")
    texts = [to_json(as_read(of_fusion)) for of_fusion in measure_fusions(subject, folder, OPTIONS)]
    (tmp_path / "fusions-null-made.json").write_text(f"[{','.join(texts)}]", encoding="utf-8")
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    written = page.write_page()
    assert "### null: made, all" in written
    assert "| rrf, k 10 | 4 |" in written
    assert "| made | all | 4 | nDCG@10 |" in written
