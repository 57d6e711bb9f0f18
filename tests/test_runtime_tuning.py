from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from penstock.runtime_tuning import relax_gc, tune_malloc

BUFFERS = 300
# Small pieces that stay lie between the buffers that go, as headers and keys lie between payloads.
PROGRAM = f"""
import psutil
from penstock.runtime_tuning import tune_malloc
tuned = {{tuned}}
if tuned:
    tune_malloc()
made = [bytes(200_000) and None for _ in range(3)]  # the first one freed makes glibc raise its limit
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
def test_freed_buffers_go_back_to_the_system_though_smaller_pieces_stay_between_them() -> None:
    kept_mb = rss_mb(tuned=False) - rss_mb(tuned=True)
    assert kept_mb > 0.8 * BUFFERS * 0.1


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    tune_malloc()


@pytest.fixture
def seldom() -> Iterator[None]:
    before = gc.get_threshold()
    relax_gc()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


class Circle:
    def __init__(self) -> None:
        self.itself = self


@pytest.mark.usefixtures("seldom")
def test_what_hangs_together_in_a_circle_is_still_collected() -> None:
    gone = weakref.ref(Circle())
    kept = [[number] for number in range(5_000)]
    assert gone() is not None
    kept += [[number] for number in range(25_000)]
    assert gone() is None


@pytest.mark.usefixtures("seldom")
def test_what_was_alive_is_not_looked_through_again() -> None:
    assert gc.get_freeze_count() > len(gc.get_objects())
