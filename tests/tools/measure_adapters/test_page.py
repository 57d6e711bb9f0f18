"""The page of what adapters gain is the one that the committed result gives; the sets themselves are exhaustive."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.encoders.profiles import load_profile
from penstock.evaluate.vectors import VectorFiles
from penstock.train.trainer import Recipe
from tests.train.planted import planted
from tools.measure_adapters import matrix, page

SETS = Path(os.environ.get("PENSTOCK_TEST_SETS", "missing"))
VECTORS = Path(os.environ.get("PENSTOCK_TEST_VECTORS", "missing"))


def test_the_page_is_current() -> None:
    assert page.PAGE.read_text("utf-8") == page.write_page(), "run `python -m tools.measure_adapters --page`"


def test_rows_have_the_gain_of_a_planted_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "DRAWS", 500)
    monkeypatch.setattr(matrix, "METHOD_PAIRS", 100)
    some = [row for row in matrix.methods() if row[0] in ("ridge to the identity", "procrustes", "cosine")]
    short = [(name, kind, side, recipe and replace(recipe, epochs=5), n) for name, kind, side, recipe, n in some]
    monkeypatch.setattr(matrix, "methods", lambda: iter(short))
    rows = {row.method: row for row in matrix.measure_methods(planted(), "ja", "ja", range(2))}
    assert set(rows) == {"centring", "whitening", "ridge to the identity", "procrustes", "cosine"}
    ridge = rows["ridge to the identity"]
    assert 0 < ridge.low < ridge.gain < ridge.high
    assert ridge.adapted - ridge.base == pytest.approx(ridge.gain)
    assert ridge.p <= ridge.p_holm <= 0.05
    assert all(row.count == 80 for row in rows.values())


def test_each_method_names_a_recipe_of_its_own() -> None:
    listed = list(matrix.methods())
    assert len({name for name, *_ in listed}) == len(listed)
    assert len({(kind, side, recipe, count) for _, kind, side, recipe, count in listed}) == len(listed)
    assert all((recipe is None) == (kind in ("ridge", "procrustes")) for _, kind, _, recipe, _ in listed)
    assert Recipe() in [recipe for *_, recipe, _ in listed]


@pytest.mark.exhaustive
@pytest.mark.skipif(not (SETS / "debian").is_dir(), reason="the set debian is not built (PENSTOCK_TEST_SETS)")
@pytest.mark.parametrize(("lang", "promoted"), [("ja", True), ("ru", True), ("en", False)])
def test_the_gate_on_descriptions_of_packages(lang: str, promoted: bool) -> None:
    data = matrix.read_data(SETS / "debian", VectorFiles(VECTORS, load_profile("reference")))
    row = matrix.measure_gate(data, lang, shuffle=False)
    assert (row.promoted == row.trials) if promoted else (row.promoted == 0)
    assert row.test >= 0.04 if promoted else row.test < 0.01


@pytest.mark.exhaustive
@pytest.mark.skipif(not (SETS / "debian").is_dir(), reason="the set debian is not built (PENSTOCK_TEST_SETS)")
def test_shuffled_pairs_of_descriptions_are_declined() -> None:
    data = matrix.read_data(SETS / "debian", VectorFiles(VECTORS, load_profile("reference")))
    row = matrix.measure_gate(data, "ja", shuffle=True)
    assert (row.promoted, row.trials) == (0, 20)
