"""`penstock evaluate` through running planes finds what it finds offline."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.encoders.profiles import load_profile
from penstock.evaluate.datasets import read_set
from penstock.evaluate.evaluation import EvaluationOptions, evaluate_offline
from penstock.evaluate.fusions import open_fusion, parse_fuse
from penstock.evaluate.live import evaluate_live
from penstock.evaluate.vectors import VectorFiles
from tests.e2e.stack import Stack
from tests.evaluate.made_sets import write_texts

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

FUSE = {"method": "rrf"}  # the default depends on the questions that the plane answered before


def test_both_ways_find_the_same(stack: Stack, tmp_path: Path) -> None:
    dataset = read_set(write_texts(tmp_path / "texts"))
    settings = stack.settings
    options = EvaluationOptions(draws=100)
    reports: list[str] = []

    live = evaluate_live(dataset, settings, options, fuse=FUSE, report=reports.append)
    vectors = VectorFiles(tmp_path / "vectors", load_profile(settings.profile))
    (offline,) = evaluate_offline(dataset, vectors, open_fusion(parse_fuse(FUSE, settings.query)), options)

    agree = [set(a[:10]) == set(b[:10]) for a, b in zip(live.run.documents, offline.run.documents, strict=True)]
    assert sum(agree) >= 0.99 * len(agree)
    assert {row.step for row in live.result.latency} >= {"encode", "search", "fuse", "total", "round trip"}
    assert "texts: 40 documents to Kafka" in reports

    again: list[str] = []
    evaluate_live(dataset, settings, options, fuse=FUSE, report=again.append)
    assert not any("to Kafka" in line for line in again)  # it is indexed already
