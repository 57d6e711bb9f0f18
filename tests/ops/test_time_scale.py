"""Times of rules are divided alike, and nothing else of them is."""

from __future__ import annotations

import re

import pytest
import yaml

from ops.rule_files import rule_files
from ops.slos import read_objectives
from ops.time_scale import divided, divided_expression


def test_ranges_and_offsets_are_divided_and_names_and_thresholds_are_not() -> None:
    expression = (
        'a:ratio_rate5m{slo="5m"} > 900 and max_over_time(b[6h] offset 1h) - c offset 45s > 14.4 * rate(d[30m])'
    )
    assert divided_expression(expression, 10) == (
        'a:ratio_rate5m{slo="5m"} > 900 and '
        "max_over_time(b[2160000ms] offset 360000ms) - c offset 4500ms > 14.4 * rate(d[180000ms])"
    )


@pytest.mark.parametrize(
    ("duration", "shorter"), [("5m", "60000ms"), ("1h", "720000ms"), ("0m", "0ms"), ("3d", "51840000ms")]
)
def test_a_duration_is_divided(duration: str, shorter: str) -> None:
    assert divided(duration, 5) == shorter
    assert divided(duration, 1) == duration


def test_what_is_no_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="'soon' is no duration"):
        divided("soon", 5)


def test_every_time_of_the_rules_is_divided() -> None:
    """No rule has a time in a form that the division does not know, such as `1h30m` or a subquery."""
    for text in rule_files(read_objectives(), divisor=5).values():
        for group in yaml.safe_load(text)["groups"]:
            for rule in group["rules"]:
                times = re.findall(r"\[([^\]]*)\]|offset (\w+)", rule["expr"])
                assert all(re.fullmatch(r"\d+ms", part) for time in times for part in time if part), rule["expr"]
                assert re.fullmatch(r"\d+ms", rule.get("for", "0ms"))
