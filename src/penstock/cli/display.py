"""Display of the services while they start: a live table on a terminal, otherwise plain lines; on stderr."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from penstock.embedded.services import ServiceStatus
from penstock.observability.control_characters import escape_line

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
        console: the output; None: stderr.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._lock = threading.Lock()
        self._latest: dict[str, ServiceStatus] = {}
        self._began: dict[str, float] = {}
        self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=4, transient=False)

    def report(self, status: ServiceStatus) -> None:
        """Records a change of a service; without a terminal, prints it if the state is another."""
        with self._lock:
            before = self._latest.get(status.service)
            self._latest[status.service] = status
            self._began.setdefault(status.service, time.monotonic())
        if not self._console.is_terminal and (before is None or before.state != status.state):
            self._console.print(escape_line(_line(status)), highlight=False, markup=False, soft_wrap=True)

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
            rows = [(status, self._began[name]) for name, status in self._latest.items()]
        for status, began in rows:
            elapsed_s = status.seconds
            if elapsed_s is None and status.state == "starting":
                elapsed_s = time.monotonic() - began
            seconds = f"{elapsed_s:.1f}" if elapsed_s is not None else ""
            table.add_row(
                status.service, Text(status.state, _STYLE[status.state]), seconds, Text(escape_line(status.detail))
            )
        return table


def _line(status: ServiceStatus) -> str:
    elapsed = f" in {status.seconds:.1f} s" if status.seconds is not None else ""
    return f"{status.service}: {status.state}{elapsed}" + (f"  {status.detail}" if status.detail else "")
