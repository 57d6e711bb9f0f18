"""What holds for all tests: which run in one process, which are tried once more; no deadlines for property tests."""

from __future__ import annotations

import hypothesis
import pytest

# Hypothesis fails an example that takes over 200 ms, which on a busy machine says nothing about the code.
hypothesis.settings.register_profile("without deadline", deadline=None)
hypothesis.settings.load_profile("without deadline")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_process_of(item)))
    _try_again(items)


def _process_of(item: pytest.Item) -> str:
    """The tests of a file run in one process, and so do all those of the one running Penstock of tests/e2e."""
    file = item.nodeid.partition("::")[0]
    return "tests/e2e" if file in ("tests/e2e/test_spine.py", "tests/e2e/test_replay.py") else file


def _try_again(items: list[pytest.Item]) -> None:
    """On two shared cores a server misses a deadline in one of some hundred such tests. It is tried once more, the
    summary counts it, and failing twice is failing. Tests without servers have no such excuse, and neither have faults:
    what they test is just that nothing goes wrong once in a while.
    """
    for item in items:
        if item.get_closest_marker("services") and "/faults/" not in item.nodeid:
            item.add_marker(pytest.mark.flaky(reruns=1))
