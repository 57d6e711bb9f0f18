"""The trace of one search: the times of its steps, what was left out, and the reasons.

Every step of `query/pipeline.py` is traced. From its name follow the key in `took_ms`, the label of the histogram
`penstock_query_step_seconds`, and the name of the span.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from penstock.observability import metrics, tracing
from penstock.records import Channel


class Trace:
    """Records when the steps of one search end, which channels are left out, and why.

    Args:
        clock: seconds, monotonic.

    Attributes:
        missing: the channels that were left out, with the reason.
        partial: whether one of these failed or was late.
        shortened: whether a step was cut short that more time, or another attempt, may complete.
        shed: the steps that were left out for the load, by name.
        because: sentences in plain words for the client: why weights differ, what was left out to keep the deadline.
        notices: limitations of the answer, a sentence each.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started_s = clock()
        self._deadline_s = math.inf
        self._ends_s: dict[str, float] = {}
        self.missing: dict[Channel, str] = {}
        self.partial = False
        self.shortened = False
        self.because: list[str] = []
        self.shed: list[str] = []
        self.notices: list[str] = []

    # --- the steps ---

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Traces a block as a step, also if it raises. A block of a name that ended before adds its time to it."""
        try:
            yield
        finally:
            self.end(name)

    def begin(self, step: str) -> None:
        """Adds a step that overlaps the next ones. Until it ends it takes no time."""
        self._ends_s[step] = self._started_s

    def end(self, step: str) -> None:
        """Notes that a step ended now, and adds it if it is new. Of several ends the last one counts."""
        self._ends_s[step] = self._clock()

    # --- the time that is left ---

    def set_deadline(self, deadline_s: float) -> None:
        """Sets the time of the clock at which the search has to be answered."""
        self._deadline_s = deadline_s

    def left_s(self) -> float:
        """Returns the seconds until the deadline, at least 0; infinity before one is set."""
        return max(0.0, self._deadline_s - self._clock())

    # --- what was left out, and the reasons ---

    def add_unavailable(self, missing: Mapping[Channel, str]) -> None:
        """Adds channels that could not be searched in this store."""
        self.missing |= missing

    def add_failed(self, missing: Mapping[Channel, str]) -> None:
        """Adds channels that failed or were late, which makes the result partial."""
        self.missing |= missing
        self.partial = self.partial or bool(missing)

    def add_reason(self, sentence: str) -> None:
        """Adds a sentence to `because`, once."""
        if sentence not in self.because:
            self.because.append(sentence)

    def add_shortened(self, sentence: str | None = None) -> None:
        """Notes that the answer goes without a step that was late or failed, and perhaps the reason."""
        self.shortened = True
        if sentence is not None:
            self.add_reason(sentence)

    def add_notice(self, sentence: str | None) -> None:
        """Adds a sentence to `notices`, if there is one."""
        if sentence is not None:
            self.notices.append(sentence)

    def add_shed(self, step: str, sentence: str) -> None:
        """Adds a step that was left out for the load, with the reason."""
        self.shed.append(step)
        self.add_reason(sentence)

    def add_reasons(self, sentences: Iterable[str]) -> None:
        """Adds sentences to `because`, each once."""
        for sentence in sentences:
            self.add_reason(sentence)

    # --- the result ---

    def took_ms(self) -> dict[str, float]:
        """Returns the milliseconds of each step in order, and the total.

        A step lasts from the end of the step before it to its own end, so the times of steps that overlap add up.
        """
        took_ms: dict[str, float] = {}
        last_s = self._started_s
        for step, began_s, ended_s in self._steps():
            took_ms[step] = round((ended_s - began_s) * 1000, 3)
            last_s = ended_s
        took_ms["total"] = round((last_s - self._started_s) * 1000, 3)
        return took_ms

    def publish(self) -> dict[str, float]:
        """Adds the times to the metrics and the steps to the traces, and returns the times as `took_ms` does."""
        now_s = self._clock()
        for step, began_s, ended_s in self._steps():
            tracing.current().add_ended(step, began_s_ago=now_s - began_s, ended_s_ago=now_s - ended_s)
        took_ms = self.took_ms()
        for step, step_ms in took_ms.items():
            metrics.QUERY_STEP.labels(step).observe(step_ms / 1000)
        return took_ms

    def _steps(self) -> Iterator[tuple[str, float, float]]:
        """Yields each step with the times at which it began and ended."""
        before_s = self._started_s
        for step, step_ends_s in self._ends_s.items():
            ends_s = max(before_s, step_ends_s)
            yield step, before_s, ends_s
            before_s = ends_s
