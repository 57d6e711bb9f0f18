"""Who has how much memory: the ingest plane told apart from broker, store, query plane and Ray itself.

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

from penstock.bench.house import House
from penstock.bench.parts import Part, part_of


def pss_mb(processes: Iterable[psutil.Process]) -> dict[Part, float]:
    """Megabytes of PSS by part; processes that end meanwhile are left out."""
    total = dict.fromkeys(Part, 0.0)
    for process in processes:
        try:
            part = part_of(process.cmdline())
            memory = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        total[part] += getattr(memory, "pss", memory.uss) / 1e6
    return total


@dataclass(slots=True)
class MemoryWatch:
    """Looks at a house's memory at an interval, in a thread, while it is entered.

    Attributes:
        house: what to look at.
        interval_s: a look costs some 10 ms of CPU for each GB of mapped memory.
        progress: told with each look, what goes on the other axis: events so far.
        samples: (progress, megabytes by part), in order.
    """

    house: House
    interval_s: float = 1.0
    progress: Callable[[], int] = lambda: 0
    samples: list[tuple[int, Mapping[Part, float]]] = field(default_factory=list)
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

    def peak_mb(self, part: Part) -> float:
        return max((by_part[part] for _, by_part in self.samples), default=0.0)

    def _look(self) -> None:
        while True:
            began_s = time.monotonic()
            self.samples.append((self.progress(), pss_mb(self.house.processes())))
            if self._stop.wait(max(0.0, self.interval_s - (time.monotonic() - began_s))):
                return
