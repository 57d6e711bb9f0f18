"""Which tests share a process when the suite runs in several (`make test`)."""

from __future__ import annotations

from pathlib import Path

import pytest

# They start a Ray each, some a whole Penstock: one at a time is what two cores carry, and the longest chain goes first.
_HEAVY = ("e2e/", "cli/test_supervisor.py", "serve/test_deployment.py", "ingest/test_pools.py")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = Path(__file__).parent
    groups = {item: _group(item.path.relative_to(root).as_posix()) for item in items}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: groups[item] != "heavy")


def _group(path: str) -> str:
    return "heavy" if path.startswith(_HEAVY) else path
