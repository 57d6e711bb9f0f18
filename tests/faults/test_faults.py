"""One fault after the other strikes a running plane; each time nothing is missing and nothing is there twice.

The plane and its stream continue from case to case, so that every audit covers all that came before.
"""

from __future__ import annotations

import pytest

from tests.faults.check import check
from tests.faults.faults import FAULTS, QUICK, Case

pytestmark = pytest.mark.services


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.exhaustive) for name in FAULTS]
)
def test_nothing_is_lost_and_nothing_doubled_by(name: str, case: Case) -> None:
    FAULTS[name](case)
    case.plane.settle()
    check(case.stream)
