"""Decides which file of tests a worker takes next, so that two cores are never idle and never carry three Rays.

A test that starts a Ray or a whole Penstock waits much of its time for processes to start, so there are two workers
more than cores of a small machine; three such tests at a time would be slow enough to miss deadlines.
"""

from __future__ import annotations

from collections import Counter

import pytest
from xdist.scheduler.loadfile import LoadFileScheduling
from xdist.workermanage import WorkerController

# Files that start a Ray, some of them a whole Penstock; the longest come first.
_WITH_RAY = (
    "tests/e2e/shared/",
    "tests/faults/",
    "tests/embedded/test_supervisor.py",
    "tests/e2e/",
    "tests/ingest/executor/test_pool.py",
    "tests/serve/test_deployment.py",
    "tests/ingest/executor/test_autoscaler.py",
    "tests/ingest/test_gpu_nodes.py",
    "tests/ingest/test_shared_assets.py",
    "tests/observability/test_node_endpoints.py",
    "tests/observability/test_logs.py",
)
_AT_ONCE = 2
# Folders whose files share servers, which end with the last of them: a Penstock that only idles takes half a core, and
# each worker would start a Milvus of its own.
_SHARING = ("tests/e2e/shared/", "tests/store/", "tests/broker/")


class TwoRaysAtOnce(LoadFileScheduling):
    """Distributes files to workers in the order of collection: two with a Ray at a time, while there are others.

    Files that share servers go to one worker, one after the other.
    """

    def _assign_work_unit(self, node: WorkerController) -> None:
        started = sum(
            any(_with_ray(file) and not all(tests.values()) for file, tests in files.items())
            for other, files in self.assigned_work.items()
            if other is not node
        )
        allowed = (file for file in self.workqueue if started < _AT_ONCE or not _with_ray(file))
        if (first := next(allowed, None)) is not None:
            self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in _SHARING if nodeid.startswith(folder)), str(super()._split_scope(nodeid)))


def sort_by_length(items: list[pytest.Item]) -> None:
    """Sorts tests by file: those with a Ray first, then what shares servers, then the files with the most tests."""
    tests = Counter(_file(item.nodeid) for item in items)

    def rank(item: pytest.Item) -> tuple[int, int, int, str]:
        file = _file(item.nodeid)
        folder = next((number for number, folder in enumerate(_SHARING) if file.startswith(folder)), len(_SHARING))
        return (_rank(file), folder, -tests[file], file)

    items.sort(key=rank)


def _file(nodeid: str) -> str:
    return nodeid.split("::", 1)[0]


def _rank(file: str) -> int:
    return next((rank for rank, start in enumerate(_WITH_RAY) if file.startswith(start)), len(_WITH_RAY))


def _with_ray(file: str) -> bool:
    return _rank(file) < len(_WITH_RAY)
