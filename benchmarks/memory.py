"""Measures memory by component: the ingest plane, broker, store, query plane and Ray itself.

PSS is what is counted (proc(5), smaps_rollup): pages that several processes share, such as Ray's object store and the
libraries, are divided among them, so that the sum over processes is true.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import psutil

from benchmarks.components import Component, component_of
from benchmarks.stack import LocalStack
from penstock.config import IngestSettings

# What the ingest plane takes beside its byte budget, with profile null:512 and one lane. Six processes with their
# libraries (driver, lane and four workers) take 640 to 650 MB before the first event. The rest is for payloads that are
# in memory a second time, on their way through Ray's object store, and for pages that are not given back yet: 20,000
# events of 100 kB took 863, 872 and 893 MB at most, which is 80 to 110 MB above the idle plane and the budget.
CONSTANT_MB = 800.0


def bound_mb(ingest: IngestSettings) -> float:
    """Returns the bound of the ingest plane's memory with profile null:512: the budget of each lane and a constant.

    The constant was measured with one lane. Each more brings a process with its libraries, which it does not allow for.
    """
    return ingest.max_in_flight_bytes * ingest.lanes / 1e6 + CONSTANT_MB


def pss_mb(processes: Iterable[psutil.Process]) -> dict[Component, float]:
    """Returns megabytes of PSS by component, without processes that have ended."""
    total = dict.fromkeys(Component, 0.0)
    for process in processes:
        try:
            part = component_of(process.cmdline())
            memory = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        total[part] += getattr(memory, "pss", memory.uss) / 1e6
    return total


def peak_by_component(looks: Iterable[Mapping[Component, float]]) -> dict[Component, float]:
    """Returns the peak of each component over all samples; 0.0 without samples."""
    peaks = dict.fromkeys(Component, 0.0)
    for look in looks:
        peaks = {part: max(most, look.get(part, 0.0)) for part, most in peaks.items()}
    return peaks


@dataclass(slots=True)
class MemoryWatch:
    """Samples a stack's memory at an interval, in a thread, during its block.

    Attributes:
        stack: the stack to sample.
        interval_s: a sample costs some 10 ms of CPU for each GB of mapped memory.
        progress: returns the events so far, stored with each sample.
        samples: (progress, megabytes by part), in order.
    """

    stack: LocalStack
    interval_s: float = 1.0
    progress: Callable[[], int] = lambda: 0
    samples: list[tuple[int, Mapping[Component, float]]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look, name="memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def peak_mb(self, part: Component) -> float:
        return self.peaks_mb()[part]

    def peaks_mb(self) -> dict[Component, float]:
        """Returns the peak of each component; they need not coincide."""
        return peak_by_component(by_part for _, by_part in self.samples)

    def _look(self) -> None:
        while True:
            began_s = time.monotonic()
            self.samples.append((self.progress(), pss_mb(self.stack.processes())))
            if self._stop.wait(max(0.0, self.interval_s - (time.monotonic() - began_s))):
                return
