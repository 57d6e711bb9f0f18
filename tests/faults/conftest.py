from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from penstock.config import Settings
from tests.faults.faults import Case
from tests.faults.ground import Ground, standing
from tests.faults.process import PlaneProcess
from tests.faults.stream import Stream

_FAILED = pytest.StashKey[bool]()
_numbers = itertools.count()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[misc]
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report  # type: ignore[return-value]


@pytest.fixture(scope="package")
def ground() -> Iterator[Ground]:
    with standing() as ground:
        yield ground


class _Shared:
    """The plane and the stream that faults share for as long as none of them does harm."""

    case: Case | None = None

    def end(self) -> None:
        if self.case is not None:
            self.case.plane.close()
        self.case = None


@pytest.fixture(scope="package")
def shared(ground: Ground) -> Iterator[_Shared]:
    plane_and_stream = _Shared()
    yield plane_and_stream
    plane_and_stream.end()


@pytest.fixture
def case(ground: Ground, shared: _Shared, request: pytest.FixtureRequest) -> Iterator[Case]:
    """A running plane and its stream, which continue where the fault before ended."""
    if shared.case is None:
        shared.case = _case(ground, ground.settings(f"shared{next(_numbers)}"))
        shared.case.plane.start()
    yield shared.case
    if request.node.stash.get(_FAILED, False):
        shared.end()


@pytest.fixture
def own(ground: Ground) -> Iterator[Callable[..., Case]]:
    """Makes a plane, not started yet, and a stream for one test alone: `own(ingest={"lanes": 1})`."""
    cases: list[Case] = []

    def make(**sections: Any) -> Case:
        cases.append(_case(ground, ground.settings(f"own{next(_numbers)}", **sections)))
        return cases[-1]

    yield make
    for case in cases:
        case.plane.close()


def _case(ground: Ground, settings: Settings) -> Case:
    return Case(ground, PlaneProcess(ground, settings), Stream(settings))
