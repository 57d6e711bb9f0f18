from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from penstock.runtime_tuning import relax_gc, tune_malloc

BUFFERS = 300
# Small allocations stay between the freed buffers, as headers and keys do between payloads.
PROGRAM = f"""
import psutil
from penstock.runtime_tuning import tune_malloc
tuned = {{tuned}}
if tuned:
    tune_malloc()
made = [bytes(200_000) and None for _ in range(3)]  # the first one freed makes glibc raise its threshold
kept = [(bytearray(100_000), bytearray(1_000)) for _ in range({BUFFERS})]
small = [pair[1] for pair in kept]
del kept
print(psutil.Process().memory_info().rss)
"""


def rss_mb(*, tuned: bool) -> float:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(tuned=tuned)], capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_buffers_return_to_the_system_although_smaller_allocations_stay_between_them() -> None:
    kept_mb = rss_mb(tuned=False) - rss_mb(tuned=True)
    assert kept_mb > 0.8 * BUFFERS * 0.1


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    tune_malloc()


@pytest.fixture
def relaxed_gc() -> Iterator[None]:
    before = gc.get_threshold()
    relax_gc()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


class Cycle:
    def __init__(self) -> None:
        self.itself = self


@pytest.mark.usefixtures("relaxed_gc")
def test_reference_cycles_are_still_collected() -> None:
    cycle = weakref.ref(Cycle())
    kept = [[number] for number in range(5_000)]
    assert cycle() is not None
    kept += [[number] for number in range(25_000)]
    assert cycle() is None


@pytest.mark.usefixtures("relaxed_gc")
def test_objects_alive_before_are_not_scanned_again() -> None:
    assert gc.get_freeze_count() > len(gc.get_objects())
