from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.ingest.lane.actor import LaneHost


@pytest.mark.parametrize("hangs", [False, True])
def test_a_lane_whose_loop_hangs_counts_as_ended(hangs: bool) -> None:
    """The plane starts it anew then."""
    host: Any = object.__new__(LaneHost)
    host._thread = threading.current_thread()
    host._lane = SimpleNamespace(hangs=lambda: hangs)
    assert host.running() is not hangs
