"""Shows how far `penstock produce` is: a bar on a terminal, a line from time to time elsewhere."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from penstock.cli.streaming import ProduceTally
from penstock.produce.base import MediaSource
from penstock.produce.items import SourceMark
from penstock.produce.lag_gate import LagGate

logger = logging.getLogger(__name__)

_LINE_EVERY_S = 10.0


class ProduceProgress:
    """The progress of a run, as a context manager that returns what takes the tally of each change.

    The size of the sources is found out in a thread, beside the sending: a bucket of millions takes minutes to list.

    Args:
        sources: of the run.
        quiet: show nothing.
        done: how much earlier runs have done.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        sources: Sequence[MediaSource],
        *,
        quiet: bool,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = sources
        self._quiet = quiet
        self._clock = clock
        self._before = done
        self._done: dict[str, int] = {}
        self._total: int | None = None
        self._stop = threading.Event()
        self._began_s = self._shown_s = clock()
        self._bar: Any = None
        self._task: Any = None
        self.gate: LagGate | None = None

    def reached(self, mark: SourceMark) -> None:
        """Takes the place that a source has reached."""
        self._done[mark.source] = mark.done

    def __enter__(self) -> Callable[[ProduceTally], None]:
        if self._quiet:
            return lambda _: None
        if self._sources:
            threading.Thread(target=self._count, name="size-of-sources", daemon=True).start()
        self._open_bar()
        return self._show

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._bar is not None:
            self._bar.stop()

    def left_s(self) -> float | None:
        """Returns the seconds that are left at the pace until now; None if that is not known."""
        done = sum(self._done.values()) - self._before
        if self._total is None or done <= 0:
            return None
        return max(0.0, (self._total - self._before - done) * (self._clock() - self._began_s) / done)

    def line(self, tally: ProduceTally) -> str:
        """Returns the progress as a line."""
        elapsed_s = max(self._clock() - self._began_s, 1e-9)
        parts = [f"{tally.acknowledged:,} events acknowledged", f"{tally.acknowledged / elapsed_s:,.0f} a second"]
        if self._total:
            parts.append(f"{min(1.0, sum(self._done.values()) / self._total):.0%} done")
        if (left_s := self.left_s()) is not None:
            parts.append(f"about {_duration(left_s)} left")
        if self.gate is not None and self.gate.waited_s >= 1:
            parts.append(f"{_duration(self.gate.waited_s)} waited for the ingest plane")
        return ", ".join(parts)

    def _show(self, tally: ProduceTally) -> None:
        if self._bar is not None:
            units = sum(self._done.values()) if self._total is not None else tally.acknowledged
            self._bar.update(self._task, completed=units, total=self._total, words=self.line(tally))
        elif self._clock() - self._shown_s >= _LINE_EVERY_S:
            from penstock.cli.render import say

            self._shown_s = self._clock()
            say(self.line(tally))

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(stderr=True)
        if console.is_terminal:
            self._bar = Progress(BarColumn(), TextColumn("{task.fields[words]}"), console=console)
            self._task = self._bar.add_task("", total=None, words="")
            self._bar.start()

    def _count(self) -> None:
        total = 0
        for source in self._sources:
            try:
                size = source.total() if source.unit == self._sources[0].unit else None
            except Exception as exc:  # only the time that is left depends on it
                logger.info("the size of %s is not known: %s", source.name, exc)
                size = None
            if size is None or self._stop.is_set():
                return
            total += size
        self._total = total


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3600:.1f} h"
