from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.ingest.lane.actor import LaneHost


@pytest.mark.parametrize("stuck", [False, True])
def test_a_lane_whose_loop_is_stuck_counts_as_ended(stuck: bool) -> None:
    """The plane then restarts it."""
    host: Any = object.__new__(LaneHost)
    host._thread = threading.current_thread()
    host._lane = SimpleNamespace(is_stuck=lambda: stuck)
    assert host.is_running() is not stuck
