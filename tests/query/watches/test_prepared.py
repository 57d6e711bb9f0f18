"""A watch that cannot be prepared costs the others a bounded time, and keeps what it had."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress

import pytest

from penstock.config import QuerySettings
from penstock.errors import UnavailableError
from penstock.query.types import Rankings, SearchRequest
from penstock.query.understand.validate import validate
from penstock.query.watches import prepared
from penstock.query.watches.context import WatchContext
from penstock.query.watches.prepared import PreparedWatches
from penstock.records import Channel, Collection, Field, Watch

FRESH_S = 300.0


class Preparer:
    """Prepares watches when the caller waits for them, in the seconds that each takes on its own clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.takes_s = 0.0
        self.failing: set[str] = set()
        self.hanging: set[str] = set()
        self.partial: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.contexts = PreparedWatches(self.prepare, stop=threading.Event(), clock=lambda: self.now_s)

    def prepare(self, watch: Watch) -> Future[WatchContext]:
        self.calls[watch.id] += 1
        self.now_s += self.takes_s
        future: Future[WatchContext] = Future()
        if watch.id in self.failing:
            future.set_exception(UnavailableError("the encoder does not answer"))
        elif watch.id not in self.hanging:
            future.set_result(self._context(watch))
        return future

    def _context(self, watch: Watch) -> WatchContext:
        query = validate(SearchRequest(text=watch.name), QuerySettings())
        missing = {Channel(Collection.TEXT, Field.PASSAGE): "is late"} if watch.id in self.partial else {}
        rankings = Rankings({}, {}, {}, {})
        return WatchContext(watch, query, {}, (), rankings, {}, frozenset(), self.now_s + FRESH_S, missing)

    def rounds_until_ready(self, watches: Sequence[Watch]) -> tuple[int, list[str]]:
        """Returns how many rounds the caller waited, and the ids of the watches that it continues with."""
        for waited in range(100):
            try:
                return waited, [context.watch.id for context in self.contexts.contexts_of(watches)]
            except UnavailableError:
                continue
        raise AssertionError("the watches hold up the changes for ever")


def watch(id_: str) -> Watch:
    return Watch(id_, f"watch {id_}", "default", 0.5, 0, {"text": id_})


def test_a_new_watch_that_fails_is_left_out_after_a_bounded_number_of_rounds(caplog: pytest.LogCaptureFixture) -> None:
    preparer, watches = Preparer(), [watch("bad"), watch("good")]
    preparer.failing = {"bad"}
    waited, ready = preparer.rounds_until_ready(watches)
    assert (ready, waited) == (["good"], prepared._MAX_ROUNDS)
    assert caplog.text.count("watch bad (watch bad) is left out") == 1
    calls = preparer.calls["bad"]
    assert preparer.rounds_until_ready(watches) == (0, ["good"])
    assert preparer.calls["bad"] == calls
    preparer.failing.clear()
    preparer.now_s += prepared._RETRY_S
    assert preparer.rounds_until_ready(watches) == (0, ["bad", "good"])


def test_a_new_watch_that_hangs_is_left_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "_TIMEOUT_S", 0.001)
    preparer = Preparer()
    preparer.hanging = {"slow"}
    assert preparer.rounds_until_ready([watch("slow"), watch("good")])[1] == ["good"]


def test_an_expired_watch_that_fails_keeps_its_context() -> None:
    preparer, watches = Preparer(), [watch("a")]
    assert preparer.rounds_until_ready(watches) == (0, ["a"])
    preparer.failing, preparer.now_s = {"a"}, FRESH_S
    for _ in range(5):
        assert preparer.rounds_until_ready(watches) == (0, ["a"])
    assert preparer.calls["a"] == 2, "it is not tried again at each poll"


def test_a_watch_without_some_channels_waits_for_them_and_then_does_with_the_others() -> None:
    preparer, watches = Preparer(), [watch("a")]
    preparer.partial = {"a"}
    with pytest.raises(UnavailableError, match="is late"):
        preparer.contexts.contexts_of(watches)
    waited, ready = preparer.rounds_until_ready(watches)
    assert (ready, waited) == (["a"], prepared._MAX_ROUNDS - 2)
    preparer.partial.clear()
    preparer.now_s += prepared._RETRY_S
    (context,) = preparer.contexts.contexts_of(watches)
    assert not context.missing


def test_a_whole_context_is_not_replaced_by_one_without_some_channels() -> None:
    preparer, watches = Preparer(), [watch("a")]
    preparer.contexts.contexts_of(watches)
    preparer.partial, preparer.now_s = {"a"}, FRESH_S
    (context,) = preparer.contexts.contexts_of(watches)
    assert not context.missing


def test_many_new_watches_are_prepared_over_several_rounds_of_limited_length() -> None:
    preparer, watches = Preparer(), [watch(f"{number:03}") for number in range(500)]
    preparer.takes_s = 0.1
    longest_s, ready = 0.0, 0
    while not ready:
        began_s = preparer.now_s
        with suppress(UnavailableError):
            ready = len(preparer.contexts.contexts_of(watches))
        longest_s = max(longest_s, preparer.now_s - began_s)
    assert ready == len(watches)
    assert longest_s <= prepared._BUDGET_S + prepared._MAX_CONCURRENT * preparer.takes_s
    assert set(preparer.calls.values()) == {1}


def test_many_expired_watches_hold_up_no_changes() -> None:
    preparer, watches = Preparer(), [watch(f"{number:03}") for number in range(500)]
    assert preparer.rounds_until_ready(watches)[0] == 0
    preparer.takes_s, preparer.now_s = 0.1, FRESH_S
    assert preparer.rounds_until_ready(watches) == (0, [known.id for known in watches])
    assert preparer.now_s - FRESH_S <= prepared._BUDGET_S + prepared._MAX_CONCURRENT * preparer.takes_s
