"""How a start looks: a live table on a terminal, plain lines elsewhere. On stderr, as stdout is for results."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from penstock.embedded.services import ServiceStatus

_STYLE = {
    "starting": "yellow",
    "ready": "green",
    "external": "cyan",
    "died": "red",
    "stopping": "yellow",
    "stopped": "dim",
}


class StartDisplay:
    """Shows services as they start. `report` may be called from any thread.

    Args:
        console: where to; None: stderr.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._lock = threading.Lock()
        self._latest: dict[str, ServiceStatus] = {}
        self._began: dict[str, float] = {}
        self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=4, transient=False)

    def report(self, progress: ServiceStatus) -> None:
        with self._lock:
            before = self._latest.get(progress.service)
            self._latest[progress.service] = progress
            self._began.setdefault(progress.service, time.monotonic())
        if not self._console.is_terminal and (before is None or before.state != progress.state):
            self._console.print(_line(progress), highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def _table(self) -> Table:
        table = Table("service", "state", "seconds", "", box=None, pad_edge=False)
        with self._lock:
            rows = [(progress, self._began[name]) for name, progress in self._latest.items()]
        for progress, began in rows:
            took = progress.seconds
            if took is None and progress.state == "starting":
                took = time.monotonic() - began
            seconds = f"{took:.1f}" if took is not None else ""
            table.add_row(progress.service, f"[{_STYLE[progress.state]}]{progress.state}", seconds, progress.detail)
        return table


def _line(progress: ServiceStatus) -> str:
    took = f" in {progress.seconds:.1f} s" if progress.seconds is not None else ""
    return f"{progress.service}: {progress.state}{took}" + (f"  {progress.detail}" if progress.detail else "")
