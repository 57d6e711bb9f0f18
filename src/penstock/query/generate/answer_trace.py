"""The trace of one answer: the times of its steps, and its notices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from penstock.observability import metrics, tracing


class AnswerTrace:
    """Records when the steps of one answer begin and end. Steps may overlap, and one may take several turns.

    Args:
        clock: seconds, monotonic.

    Attributes:
        notices: limitations of the answer, a sentence each.
        partial: whether the generator ended early.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started_s = clock()
        self._took_s: dict[str, float] = {}
        self._began_s: dict[str, float] = {}
        self.notices: list[str] = []
        self.partial = False

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Traces a block as a step, or as a further turn of it."""
        began_s = self._clock()
        self._began_s.setdefault(name, began_s)
        try:
            yield
        finally:
            self._took_s[name] = self._took_s.get(name, 0.0) + self._clock() - began_s

    def note(self, sentence: str) -> None:
        """Adds a notice, once."""
        if sentence not in self.notices:
            self.notices.append(sentence)

    def end(self, name: str, *, since: str) -> None:
        """Ends a step that began with another one, unless it has ended already."""
        if name not in self._took_s and since in self._began_s:
            self._began_s[name] = self._began_s[since]
            self._took_s[name] = self._clock() - self._began_s[since]

    def publish(self, search_ms: Mapping[str, float]) -> dict[str, float]:
        """Adds the times to the metrics and the steps to the traces, and returns the milliseconds of each.

        Args:
            search_ms: `took_ms` of the search, whose steps come first.
        """
        now_s = self._clock()
        took_s = {**self._took_s, "total": now_s - self._started_s}
        for step, step_s in took_s.items():
            metrics.ANSWER_STEP.labels(step).observe(step_s)
        for step, began_s in self._began_s.items():
            ended_s = began_s + self._took_s.get(step, 0.0)
            tracing.current().add_ended(step, began_s_ago=now_s - began_s, ended_s_ago=max(0.0, now_s - ended_s))
        steps_ms = {step: round(step_s * 1000, 3) for step, step_s in took_s.items()}
        return {**{step: ms for step, ms in search_ms.items() if step != "total"}, **steps_ms}
