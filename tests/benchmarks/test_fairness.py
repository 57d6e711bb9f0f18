from __future__ import annotations

import pytest

from benchmarks.components import Component
from benchmarks.fairness import FairnessPlan, Period, summary
from benchmarks.paced_client import PacedResult

CPU_S = dict.fromkeys(Component, 1.0)


def period(p95_ms: float, *, answered: int = 0, refused: int = 0) -> Period:
    """Returns a period in which every search of the quiet tenant took as long."""
    flood = PacedResult([1.0] * answered, {"200": answered, "429": refused}, cpu_s=0.5) if answered else None
    return Period(PacedResult([p95_ms] * 20, {"200": 20}, cpu_s=0.25), flood, CPU_S)


def of_round(alone_ms: float, limited_ms: float, flooded_ms: float) -> dict[str, Period]:
    return {
        "alone": period(alone_ms),
        "at the limit": period(limited_ms, answered=200),
        "beyond it": period(flooded_ms, answered=220, refused=1_800),
    }


def test_growth_is_the_median_of_pairs_of_one_round() -> None:
    figures = summary([of_round(10, 11, 11), of_round(100, 100, 110), of_round(20, 20, 60)])
    assert figures["growth"]["beyond it / alone"]["rounds"] == pytest.approx([0.1, 0.1, 2.0])
    assert figures["growth"]["beyond it / alone"]["median"] == pytest.approx(0.1)
    assert figures["is_fair"]


def test_a_tenant_that_is_delayed_by_a_fifth_is_not_treated_fairly() -> None:
    assert not summary([of_round(10, 10, 12.01)] * 3)["is_fair"]


def test_a_row_counts_the_answers_and_refusals_of_the_other_tenant() -> None:
    rows = {row["other tenant"]: row for row in summary([of_round(10, 11, 12)] * 2)["rows"]}
    assert (rows["beyond it"]["answered"], rows["beyond it"]["refused"], rows["beyond it"]["failed"]) == (440, 3600, 0)
    assert (rows["alone"]["answered"], rows["alone"]["clients_cpu_s"]) == (0, 0.25)
    assert rows["beyond it"]["clients_cpu_s"] == 0.75


def test_the_flood_sends_a_multiple_of_its_limit() -> None:
    plan = FairnessPlan(limit_per_s=4.0, times=10.0)
    assert [plan.offered_per_s(name) for name in ("alone", "at the limit", "beyond it")] == [0.0, 4.0, 40.0]
