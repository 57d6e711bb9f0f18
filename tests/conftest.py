"""A second chance for tests with real servers, and for those only."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On two shared cores a server misses a deadline in one of some hundred such tests. It is tried once more, the
    summary counts it, and failing twice is failing. Tests without servers have no such excuse.
    """
    for item in items:
        if item.get_closest_marker("services"):
            item.add_marker(pytest.mark.flaky(reruns=1))
