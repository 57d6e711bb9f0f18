"""A second chance for tests with real servers, and for those only; and no deadlines for property tests."""

from __future__ import annotations

import hypothesis
import pytest

# Hypothesis fails an example that takes over 200 ms, which on a busy machine says nothing about the code.
hypothesis.settings.register_profile("without deadline", deadline=None)
hypothesis.settings.load_profile("without deadline")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On two shared cores a server misses a deadline in one of some hundred such tests. It is tried once more, the
    summary counts it, and failing twice is failing. Tests without servers have no such excuse, and neither have faults:
    what they test is just that nothing goes wrong once in a while.
    """
    for item in items:
        if item.get_closest_marker("services") and "/faults/" not in item.nodeid:
            item.add_marker(pytest.mark.flaky(reruns=1))
